//! `matchlock run`: one sandbox, one command, nothing left.

mod detach;
mod invocation;
mod plan;
pub(in crate::commands) mod refused;
pub(in crate::commands) mod report;
pub(in crate::commands) mod root;
mod session;

use std::time::Instant;

use crate::cli::RunArgs;
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop;
use crate::printer::Printer;

use self::plan::Plan;

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
    set_limits();
    if plan.detached {
        // Without a terminal that could go away. It fails only for one that leads a group already.
        let _ = rustix::process::setsid();
    }
    event_loop::block_on(session::run(plan, environment, printer, started))
}

/// Limits of this process, which its monitor inherits.
pub(crate) fn set_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // The file server keeps descriptors of what the guest uses. With fewer it is slower, no worse.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
    // A core file would put secrets and the guest's memory on the disk.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
