//! `matchlock run`: one sandbox, one command, nothing left. And `start`, for what was kept.

pub(in crate::commands) mod detach;
mod invocation;
mod plan;
pub(in crate::commands) mod refused;
pub(in crate::commands) mod report;
pub(in crate::commands) mod root;
mod session;
mod start;

use std::time::Instant;

use crate::cli::RunArgs;
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::hardening;
use crate::printer::Printer;

use self::plan::Plan;
pub(crate) use self::start::{restart, start};

/// Runs a command in a new sandbox; returns its status.
pub(crate) fn run(
    args: RunArgs,
    environment: &Environment,
    printer: Printer,
    started: Instant,
) -> Result<u8, CliError> {
    if args.detach && !environment.detached {
        return detach::run(&args, printer);
    }
    let args = match args.detach {
        true => RunArgs { rm: false, interactive: false, tty: false, ..args },
        false => args,
    };
    let plan = Plan::new(&args, environment)?;
    for warning in &plan.warnings {
        printer.note(&format!("warning: {warning}"));
    }
    hardening::give_up();
    if plan.detached {
        // Without a terminal that could go away. It fails only for one that leads a group already.
        let _ = rustix::process::setsid();
    }
    event_loop::block_on(session::run(plan, environment, printer, started))
}
