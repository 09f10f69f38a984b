//! `matchlock top`: what runs in a sandbox.

use matchlock_core::api::NoParams;
use matchlock_core::control::{Process, control_method};
use matchlock_core::text::escape;

use super::enter::{Running, describe};
use super::stats::{bytes, milliseconds};
use crate::cli::{PlainArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop::block_on;
use crate::printer::Printer;

/// The column of the table that gives way on a narrow terminal.
const COMMAND: usize = 5;

pub(crate) fn run(
    args: &PlainArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    block_on(async {
        let sandbox = Running::find(wanted, environment).await?;
        let asked = sandbox.connect().await?.call::<control_method::Top>(NoParams {}).await;
        let found = asked.map_err(|error| describe(&error))?;
        let rows = found.processes.iter().map(row).collect();
        let heading = ["PID", "USER", "STATE", "CPU", "MEMORY", "COMMAND"];
        printer.fitted_table(heading, rows, COMMAND);
        printer.json(&found.processes)?;
        Ok(0)
    })
}

fn row(process: &Process) -> [String; 6] {
    let user = match process.user.as_str() {
        "" => process.uid.to_string(),
        name => escape::one_line(name),
    };
    [
        process.pid.to_string(),
        user,
        escape::one_line(&process.state),
        milliseconds(process.cpu_ms),
        bytes(process.memory),
        escape::one_line(&process.command),
    ]
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::json!([Process::default()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_calls_itself_is_harmless() {
        let process = Process {
            user: "\x1b[2Jroot".into(),
            command: "a\nb\x1b]0;title\x07\u{202e}".into(),
            ..Process::default()
        };
        for cell in row(&process) {
            assert!(!cell.chars().any(|c| c.is_control() || c == '\u{202e}'), "{cell:?}");
        }
    }
}
