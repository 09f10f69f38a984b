//! `matchlock build`: an image from a Dockerfile, or one of a registry made ready.

mod buildkit;
mod plan;
mod report;
mod session;

use std::path::Path;

use super::pull;
use crate::cli::{BuildArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::printer::Printer;

#[cfg(test)]
pub(super) use self::report::sample;

use self::plan::Plan;

/// Builds an image.
pub(crate) fn run(
    args: &BuildArgs,
    environment: Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [what] = exactly(&args.positionals)?;
    let from_dockerfile = args.tag.is_some() || args.file.is_some() || Path::new(what).is_dir();
    if !from_dockerfile {
        let limit = args.timeout.limit();
        return pull::prepare(what, None, args.pull, limit, &environment, printer);
    }
    let plan = Plan::new(args, what, &environment)?;
    for warning in &plan.warnings {
        printer.note(&format!("warning: {warning}"));
    }
    crate::hardening::give_up();
    event_loop::block_on(session::run(plan, environment, printer))
}
