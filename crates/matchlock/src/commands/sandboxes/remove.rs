//! `rm`, `prune` and `gc`.

use matchlock_core::{Released, SandboxRecord, StateError, StateRoot};
use serde::Serialize;

use super::{at_most_one, runs};
use crate::cli::{GcArgs, PlainArgs, RmArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::printer::Printer;

/// What `rm --json` and `prune --json` say.
#[derive(Debug, Default, Serialize)]
struct Removed {
    removed: Vec<String>,
}

/// `rm`.
pub(crate) fn rm(
    args: &RmArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let state = environment.state()?;
    let mut report = Removed::default();
    if args.stopped {
        let [] = exactly(&args.positionals)?;
        let failed = report.remove_ended(&state, "Removed", printer)?;
        failed.iter().for_each(|error| printer.line(&format!("Failed to remove: {error}")));
    } else {
        let wanted = at_most_one(&args.positionals)?;
        let wanted = wanted.ok_or_else(|| CliError::new("VM ID required (or use --stopped)"))?;
        let record = state.find(wanted)?;
        if args.force {
            state.kill_owner(&record)?;
        }
        match state.remove(&record.id) {
            // A sandbox that was killed in the middle of its end may have taken its row along.
            Err(StateError::NotFound(_)) if args.force => {}
            removed => removed?,
        }
        report.add(record.id.to_string(), "Removed", printer);
    }
    printer.json(&report)?;
    Ok(0)
}

/// `prune`.
pub(crate) fn prune(
    args: &PlainArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [] = exactly(&args.positionals)?;
    let mut report = Removed::default();
    let failed = report.remove_ended(&environment.state()?, "Pruned", printer)?;
    printer.result(&format!("Pruned {} VMs", report.removed.len()));
    if failed.is_empty() {
        printer.json(&report)?;
        return Ok(0);
    }
    Err(CliError::new(failed.join("; ")).of_kind(crate::error::Kind::Io).with_details(&report))
}

impl Removed {
    fn add(&mut self, id: String, done: &str, printer: Printer) {
        printer.result(&format!("{done} {id}"));
        self.removed.push(id);
    }

    /// Removes all that do not run. Returns why some could not be.
    fn remove_ended(
        &mut self,
        state: &StateRoot,
        done: &str,
        printer: Printer,
    ) -> Result<Vec<String>, CliError> {
        let mut failed = Vec::new();
        for record in state.list()?.iter().filter(|record| !runs(record)) {
            match state.remove(&record.id) {
                Ok(()) => self.add(record.id.to_string(), done, printer),
                // Somebody else was faster.
                Err(StateError::NotFound(_)) => {}
                Err(error) => failed.push(CliError::from(error).message().to_owned()),
            }
        }
        Ok(failed)
    }
}

/// What `gc --json` says.
#[derive(Debug, Default, Serialize)]
struct Collected {
    vms: Vec<Outcome>,
}

/// Of one sandbox.
#[derive(Debug, Serialize)]
struct Outcome {
    id: String,
    cleaned: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// `gc`.
pub(crate) fn gc(
    args: &GcArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let state = environment.state()?;
    let mut report = Collected::default();
    if let Some(wanted) = at_most_one(&args.positionals)? {
        let record = state.find(wanted)?;
        if runs(&record) && !args.force_running {
            return Err(StateError::Running(record.id).into());
        }
        report.vms.push(collect(&state, &record, printer)?);
    } else {
        for record in state.known()? {
            let skipped = runs(&record) && !args.force_running;
            report.vms.push(if skipped {
                printer.result(&format!("{}: skipped (running)", record.id));
                let (id, cleaned, error) = (record.id.to_string(), Vec::new(), None);
                Outcome { id, cleaned, skipped: Some("running"), error }
            } else {
                collect(&state, &record, printer)?
            });
        }
        printer.result(&format!("Reconciled {} VMs", report.vms.len()));
    }
    let failed = report.vms.iter().any(|outcome| outcome.error.is_some());
    if !failed {
        printer.json(&report)?;
        return Ok(0);
    }
    let error = CliError::new("not everything could be cleaned").of_kind(crate::error::Kind::Io);
    Err(error.with_details(&report))
}

/// Takes back what one holds, after it was killed if it runs.
fn collect(
    state: &StateRoot,
    record: &SandboxRecord,
    printer: Printer,
) -> Result<Outcome, CliError> {
    let id = record.id.to_string();
    state.kill_owner(record)?;
    let Released { cleaned, failed, .. } = match state.collect(&record.id) {
        Err(StateError::NotFound(_)) => Released::default(),
        released => released?,
    };
    let error = failed.map(|error| match error {
        StateError::Release { kind, source, .. } => {
            printer.line(&format!("{id}: failed {kind}: {source}"));
            format!("{kind}: {source}")
        }
        other => other.to_string(),
    });
    if cleaned.is_empty() && error.is_none() {
        printer.result(&format!("{id}: no resources to clean"));
    } else if !cleaned.is_empty() {
        printer.result(&format!("{id}: cleaned {}", cleaned.join(", ")));
    }
    Ok(Outcome { id, cleaned, skipped: None, error })
}

#[cfg(test)]
pub(super) mod samples {
    use serde_json::Value;

    use super::*;

    pub(in crate::commands) fn removed() -> Value {
        serde_json::to_value(Removed { removed: vec!["vm-0".into()] }).expect("JSON")
    }

    pub(in crate::commands) fn collected() -> Value {
        let (id, skipped, error) = ("vm-0".into(), Some("running"), Some("none".into()));
        let outcome = Outcome { id, cleaned: vec!["directory"], skipped, error };
        serde_json::to_value(Collected { vms: vec![outcome] }).expect("JSON")
    }
}
