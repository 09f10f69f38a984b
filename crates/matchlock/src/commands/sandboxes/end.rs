//! `kill`, `stop` and `wait`.

use std::time::Duration;

use matchlock_core::{EndRecord, SandboxId, SandboxRecord, StateError, StateRoot};
use serde::Serialize;

use super::{at_most_one, runs};
use crate::cli::{KillArgs, PlainArgs, StopArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::options::time_span::TimeSpan;
use crate::printer::Printer;

const SIGTERM: i32 = 15;

/// Signals that may be meant for a sandbox's process, as signal(7) has them for x86 and ARM.
const SIGNALS: [(&str, i32); 9] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("TERM", SIGTERM),
    ("CONT", 18),
    ("STOP", 19),
];

/// What `kill --json` says.
#[derive(Debug, Serialize)]
struct Killed {
    killed: Vec<String>,
    failed: Vec<Failed>,
}

/// One that could not be killed.
#[derive(Debug, Serialize)]
struct Failed {
    id: String,
    error: String,
}

/// `kill`.
pub(crate) fn kill(
    args: &KillArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let signal = signal(&args.signal)?;
    let state = environment.state()?;
    let mut report = Killed { killed: Vec::new(), failed: Vec::new() };
    if args.all {
        let [] = exactly(&args.positionals)?;
        for record in state.list()?.iter().filter(|record| runs(record)) {
            let id = record.id.to_string();
            match state.signal(record, signal) {
                Ok(()) => report.add(id, printer),
                Err(error) => {
                    let error = CliError::from(error).message().to_owned();
                    printer.line(&format!("Failed to kill {id}: {error}"));
                    report.failed.push(Failed { id, error });
                }
            }
        }
    } else {
        let wanted = at_most_one(&args.positionals)?;
        let wanted = wanted.ok_or_else(|| CliError::new("VM ID required (or use --all)"))?;
        let record = state.find(wanted)?;
        state.signal(&record, signal)?;
        report.add(record.id.to_string(), printer);
    }
    printer.json(&report)?;
    Ok(0)
}

impl Killed {
    fn add(&mut self, id: String, printer: Printer) {
        printer.result(&format!("Killed {id}"));
        self.killed.push(id);
    }
}

/// A name, with or without `SIG`, or a number.
fn signal(text: &str) -> Result<i32, CliError> {
    let upper = text.to_ascii_uppercase();
    let word = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = SIGNALS.into_iter().find(|(name, _)| *name == word);
    let numbered = || SIGNALS.into_iter().find(|(_, number)| text.parse() == Ok(*number));
    named.or_else(numbered).map(|(_, number)| number).ok_or_else(|| {
        let names = SIGNALS.map(|(name, _)| name).join(", ");
        CliError::new(format!("invalid signal {text:?}")).hinted(format!("use one of {names}"))
    })
}

/// How a sandbox ended, with `stop --json` and `wait --json`.
#[derive(Debug, Serialize)]
struct Ended {
    id: SandboxId,
    #[serde(flatten)]
    ending: EndRecord,
}

/// `stop`.
pub(crate) fn stop(
    args: &StopArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let state = environment.state()?;
    let record = state.find(wanted)?;
    let ending = end_one(&state, &record, args.time)?;
    printer.result(&format!("Stopped {}", record.id));
    printer.json(&Ended { id: record.id, ending })?;
    Ok(0)
}

/// Asks one to end, and waits until it has.
pub(crate) fn end_one(
    state: &StateRoot,
    record: &SandboxRecord,
    time: Option<TimeSpan>,
) -> Result<EndRecord, CliError> {
    state.signal(record, SIGTERM)?;
    match state.wait(&record.id, time.map(TimeSpan::duration))? {
        Some(ending) => Ok(ending),
        None => hurry(state, record),
    }
}

/// A second signal ends it at once.
fn hurry(state: &StateRoot, record: &SandboxRecord) -> Result<EndRecord, CliError> {
    match state.signal(record, SIGTERM) {
        // It has ended meanwhile.
        Ok(()) | Err(StateError::NotRunning(_)) => ended(state, &record.id),
        Err(error) => Err(error.into()),
    }
}

/// Waits for the end.
fn ended(state: &StateRoot, id: &SandboxId) -> Result<EndRecord, CliError> {
    loop {
        if let Some(ending) = state.wait(id, Some(Duration::from_secs(3600)))? {
            return Ok(ending);
        }
    }
}

/// `wait`.
pub(crate) fn wait(
    args: &PlainArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let state = environment.state()?;
    let id = match (state.find(wanted), wanted.parse()) {
        // The row has gone with the sandbox; its end may be remembered.
        (Err(StateError::NotFound(_)), Ok(id)) => id,
        (found, _) => found?.id,
    };
    let ending = ended(&state, &id)?;
    printer.result(&ending.exit_code.to_string());
    printer.json(&Ended { id, ending })?;
    Ok(0)
}

#[cfg(test)]
pub(super) mod samples {
    use serde_json::{Value, json};

    use super::*;

    pub(in crate::commands) fn killed() -> Value {
        let failed = vec![Failed { id: "vm-1".into(), error: "none".into() }];
        serde_json::to_value(Killed { killed: vec!["vm-0".into()], failed }).expect("JSON")
    }

    pub(in crate::commands) fn waited() -> Value {
        let ending = json!({"cause": "stopped", "exit_code": 0, "error": "none", "at": "2026"});
        let ending = serde_json::from_value(ending).expect("an ending");
        let id = "vm-00000000".parse().expect("an id");
        serde_json::to_value(Ended { id, ending }).expect("JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("SIGKILL", 9), ("int", 2), ("9", 9), ("sighup", 1)] {
            assert_eq!(signal(text).expect(text), number);
        }
        for bad in ["", "SIG", "NOPE", "0", "-9", "64", "SIGSIGINT"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }
}
