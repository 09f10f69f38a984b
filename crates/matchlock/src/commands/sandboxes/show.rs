//! `list`, `get` and `inspect`.

use matchlock_core::{EndRecord, LifecycleRecord, SandboxRecord};
use serde::Serialize;
use serde_json::Value;

use super::{Listed, config, runs};
use crate::cli::{ListArgs, PlainArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::printer::Printer;

/// The column of the table that gives way on a narrow terminal.
const IMAGE: usize = 2;

/// What `get` says.
#[derive(Debug, Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    updated_at: &'a str,
    starts: u32,
    started_at: &'a str,
    config: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<&'a EndRecord>,
}

/// What `inspect` says.
#[derive(Debug, Serialize)]
struct Inspected<'a> {
    vm: Described<'a>,
    lifecycle: Option<&'a LifecycleRecord>,
    history: &'a [LifecycleRecord],
}

impl<'a> From<&'a SandboxRecord> for Described<'a> {
    fn from(record: &'a SandboxRecord) -> Self {
        Self {
            listed: record.into(),
            updated_at: &record.updated_at,
            starts: record.starts,
            started_at: &record.started_at,
            config: config::shown(&record.config),
            ending: record.ending.as_ref(),
        }
    }
}

/// `list`.
pub(crate) fn list(
    args: &ListArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [] = exactly(&args.positionals)?;
    let filters: Vec<_> =
        args.filter.iter().map(|text| Filter::read(text)).collect::<Result<_, _>>()?;
    let mut records = environment.state()?.list()?;
    records.retain(|record| {
        (!args.running || runs(record)) && filters.iter().all(|filter| filter.admits(record))
    });
    if args.quiet {
        records.iter().for_each(|record| printer.result(record.id.as_str()));
    } else {
        let rows: Vec<_> = records.iter().map(row).collect();
        let heading = ["ID", "STATUS", "IMAGE", "CREATED", "PID"];
        printer.fitted_table(heading, rows, IMAGE);
    }
    printer.json(&records.iter().map(Listed::from).collect::<Vec<_>>())?;
    Ok(0)
}

fn row(record: &SandboxRecord) -> [String; 5] {
    let pid = if record.pid == 0 { "-".to_owned() } else { record.pid.to_string() };
    // Down to the minute, as `YYYY-MM-DD HH:MM`.
    let created = record.created_at.get(..16).unwrap_or_default().replace('T', " ");
    let image = matchlock_core::text::escape::one_line(&record.image);
    [record.id.to_string(), record.status.to_string(), image, created, pid]
}

/// What a sandbox must be to be listed.
#[derive(Debug, PartialEq, Eq)]
struct Filter<'a> {
    key: Key,
    value: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Name,
    Status,
    Image,
}

impl<'a> Filter<'a> {
    fn read(text: &'a str) -> Result<Self, CliError> {
        let keys =
            [("id", Key::Id), ("name", Key::Name), ("status", Key::Status), ("image", Key::Image)];
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let known = keys.into_iter().find(|(known, _)| *known == name);
        let (_, key) = known.filter(|_| !value.is_empty()).ok_or_else(|| {
            CliError::new(format!("invalid filter {text:?}"))
                .hinted("use id=, name=, status= or image= with a value")
        })?;
        Ok(Self { key, value })
    }

    fn admits(&self, record: &SandboxRecord) -> bool {
        match self.key {
            Key::Id => record.id.as_str().starts_with(self.value),
            Key::Name => record.name.as_deref() == Some(self.value),
            Key::Status => record.status.as_str() == self.value,
            Key::Image => record.image == self.value,
        }
    }
}

/// `get`.
pub(crate) fn get(
    args: &PlainArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let record = environment.state()?.find(wanted)?;
    print(&Described::from(&record), printer)
}

/// `inspect`.
pub(crate) fn inspect(
    args: &PlainArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let state = environment.state()?;
    let record = state.find(wanted)?;
    let history = state.history(&record.id)?;
    let (vm, lifecycle) = (Described::from(&record), history.last());
    print(&Inspected { vm, lifecycle, history: &history }, printer)
}

/// JSON for people, and for programs if they ask for it.
fn print(value: &impl Serialize, printer: Printer) -> Result<u8, CliError> {
    let pretty = serde_json::to_string_pretty(value);
    let pretty = pretty.map_err(|error| CliError::internal("cannot write JSON", &error))?;
    printer.result(&pretty);
    printer.json(value)?;
    Ok(0)
}

#[cfg(test)]
pub(super) mod samples {
    use serde_json::json;

    use super::*;

    pub(in crate::commands) fn listed() -> Value {
        let status = matchlock_core::SandboxStatus::Running;
        let (name, image, created_at) = (Some("web"), "host", "2026-01-01T00:00:00.000000Z");
        let listed = Listed { id: "vm-00000000", name, pid: 1, status, image, created_at };
        serde_json::to_value(listed).expect("JSON")
    }

    pub(in crate::commands) fn inspected() -> Value {
        let ending: EndRecord = serde_json::from_value(
            json!({"cause": "stopped", "exit_code": 0, "error": "none", "at": "2026"}),
        )
        .expect("an ending");
        let stored = serde_json::to_value(config::sample()).expect("JSON");
        let mut vm = listed();
        vm["updated_at"] = "2026".into();
        vm["starts"] = 1.into();
        vm["started_at"] = "2026".into();
        vm["config"] = config::shown(&stored);
        vm["ending"] = serde_json::to_value(ending).expect("JSON");
        let step = json!({
            "version": 1, "vm_id": "vm-00000000", "backend": "qemu", "phase": "cleaned",
            "updated_at": "2026", "last_error": "none",
            "resources": {"state_dir": "/", "disk": "/", "monitor_pid": 1},
            "cleanup": {
                "monitor": {"status": "ok", "updated_at": "2026"},
                "directory": {"status": "error", "error": "none", "updated_at": "2026"}
            },
        });
        json!({"vm": vm, "lifecycle": step, "history": [step]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_key_that_is_known_and_a_value() {
        let status = Filter { key: Key::Status, value: "crashed" };
        assert_eq!(Filter::read("status=crashed").expect("valid"), status);
        assert_eq!(Filter::read("image=a=b").expect("valid").value, "a=b");
        for bad in ["", "status", "status=", "colour=red", "=x"] {
            assert!(Filter::read(bad).is_err(), "{bad}");
        }
    }
}
