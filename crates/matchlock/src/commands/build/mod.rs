//! `matchlock build`: an image from a Dockerfile, or one of a registry made ready.

mod buildkit;
mod plan;
mod report;
mod session;

use std::path::Path;

use super::pull;
use crate::cli::{BuildArgs, exactly};
use crate::error::CliError;
use crate::event_loop;
use crate::printer::Printer;
use crate::surroundings::Surroundings;

use self::plan::Plan;

/// Builds an image.
pub(crate) fn run(
    args: &BuildArgs,
    surroundings: Surroundings,
    printer: Printer,
) -> Result<u8, CliError> {
    let [what] = exactly(&args.positionals)?;
    let from_dockerfile = args.tag.is_some() || args.file.is_some() || Path::new(what).is_dir();
    if !from_dockerfile {
        return pull::prepare(what, None, args.pull, args.json, &surroundings, printer);
    }
    let plan = Plan::new(args, what, &surroundings)?;
    for warning in &plan.warnings {
        printer.note(&format!("warning: {warning}"));
    }
    super::run::set_limits();
    event_loop::block_on(session::run(plan, surroundings, printer))
}
