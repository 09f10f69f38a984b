//! `run -d` and `start`: another process owns the sandbox, and this one waits until its command runs.
//!
//! ```text
//!   matchlock run -d ──► the same arguments, MATCHLOCK_DETACHED ──► sandbox, command
//!         ▲                    │ standard error: ours until then
//!         └── its id, or the end of its standard output ◄──┘
//! ```

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use matchlock_core::SandboxId;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::cli::RunArgs;
use crate::environment::DETACHED;
use crate::error::{CliError, Kind};
use crate::event_loop::{beside, block_on};
use crate::printer::Printer;
use crate::signals::Interrupts;

/// The most that a process says of its id, in bytes.
const MAX_ID: u64 = 64;

/// The same arguments again.
pub(super) fn run(args: &RunArgs, printer: Printer) -> Result<u8, CliError> {
    if args.json.is_some() {
        let error = CliError::new("--json cannot be combined with --detach");
        return Err(error.hinted("`matchlock get ID` and `matchlock wait ID` print JSON"));
    }
    start(std::env::args_os().skip(1), printer)
}

/// Starts matchlock with these arguments as the owner of a sandbox, and prints the id that it says.
pub(super) fn start(
    words: impl IntoIterator<Item = OsString>,
    printer: Printer,
) -> Result<u8, CliError> {
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let (mut child, said) = spawn(words)?;
        let id = tokio::select! {
            id = beside(move || Ok(read_id(said))) => id?,
            signal = interrupts.next() => {
                terminate(&child);
                let _ = beside(move || Ok(child.wait())).await;
                return Err(CliError::interrupted(signal));
            }
        };
        if let Some(id) = id {
            printer.result(id.as_str());
            printer.json(&Started { id: id.as_str() })?;
            return Ok(0);
        }
        let pid = child.id();
        let ended = beside(move || Ok(child.wait())).await?;
        let text = format!("find detached VM for detached process pid={pid}");
        let failed = CliError::new(text).of_kind(Kind::Guest).with_status(1);
        // One that has ended by itself has said why.
        Err(if ended.is_ok_and(|status| status.code().is_some()) { failed.said() } else { failed })
    })
}

/// What `start --json` and `restart --json` say.
#[derive(Debug, Serialize)]
struct Started<'a> {
    id: &'a str,
}

#[cfg(test)]
pub(in crate::commands) fn sample() -> serde_json::Value {
    serde_json::to_value(Started { id: "vm-0" }).expect("JSON")
}

fn spawn(words: impl IntoIterator<Item = OsString>) -> Result<(Child, ChildStdout), CliError> {
    let cannot = |error: std::io::Error| CliError::of_io("cannot start a process", &error);
    let mut command = Command::new("/proc/self/exe");
    command.args(words).env(DETACHED, "1");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(cannot)?;
    match child.stdout.take() {
        Some(said) => Ok((child, said)),
        None => Err(cannot(std::io::ErrorKind::BrokenPipe.into())),
    }
}

/// What the process says, to the end of its output; `None` if it is no id.
fn read_id(said: ChildStdout) -> Option<SandboxId> {
    let mut text = String::new();
    said.take(MAX_ID).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

fn terminate(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Tells the process that waits for us which sandbox it is, and lets go of its output and its errors.
pub(super) fn up(id: &SandboxId) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::of_io("cannot go into the background", &error);
    let mut told = std::io::stdout().lock();
    writeln!(told, "{id}").and_then(|()| told.flush()).map_err(failed)?;
    let null: File = OpenOptions::new().write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(|error| failed(error.into()))?;
    rustix::stdio::dup2_stderr(&null).map_err(|error| failed(error.into()))
}
