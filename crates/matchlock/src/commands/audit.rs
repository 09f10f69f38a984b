//! `matchlock audit`.

mod show;
mod words;

use std::fs::File;
use std::io::BufReader;

use matchlock_core::DescribeChain;
use matchlock_core::audit::{Summary, verify};
use serde::Serialize;

use crate::cli::{AuditArgs, AuditCommand, VerifyArgs};
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::printer::Printer;

/// Carries out a subcommand of `audit`.
pub(crate) fn run(
    args: &AuditArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    match &args.command {
        AuditCommand::Show(args) => show::run(args, environment, printer),
        AuditCommand::Verify(args) => check(args, printer),
    }
}

#[derive(Debug, Serialize)]
struct Verdict<'a> {
    file: &'a str,
    intact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandboxes: Option<u64>,
    /// Sandboxes without an `end` record.
    #[serde(skip_serializing_if = "Option::is_none")]
    unclosed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
}

fn check(args: &VerifyArgs, printer: Printer) -> Result<u8, CliError> {
    let file = args.file.display().to_string();
    let open = File::open(&args.file)
        .map_err(|error| CliError::of_io(format!("cannot open the audit log {file}"), &error))?;
    match verify(BufReader::new(open)) {
        Ok(summary) => {
            printer.result(&format!("{file}: {summary}"));
            note_unclosed(&summary, printer);
            printer.json(&intact(&file, &summary))?;
            Ok(0)
        }
        Err(broken) => Err(CliError::new(format!("{file}: {}", DescribeChain(&broken)))
            .of_kind(Kind::Conflict)
            .hinted("every record before that line is intact")
            .with_details(&Verdict { line: Some(broken.line), ..Verdict::of(&file, false) })),
    }
}

impl<'a> Verdict<'a> {
    fn of(file: &'a str, intact: bool) -> Self {
        let (records, sandboxes, unclosed, last, line) = (None, None, None, None, None);
        Self { file, intact, records, sandboxes, unclosed, last, line }
    }
}

fn intact<'a>(file: &'a str, summary: &Summary) -> Verdict<'a> {
    Verdict {
        records: Some(summary.records),
        sandboxes: Some(summary.sandboxes),
        unclosed: Some(summary.unclosed),
        last: Some(summary.last_hash()),
        ..Verdict::of(file, true)
    }
}

fn note_unclosed(summary: &Summary, printer: Printer) {
    if !summary.closed {
        printer.note("no end record: the sandbox still runs, was killed, or the end is cut off");
    }
    let earlier = summary.unclosed - u64::from(!summary.closed);
    if earlier > 0 {
        printer.note(&format!("sandboxes before the last one without an end record: {earlier}"));
    }
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let all = Verdict {
        records: Some(1),
        sandboxes: Some(1),
        unclosed: Some(1),
        last: Some(String::new()),
        line: Some(1),
        ..Verdict::of("audit.jsonl", true)
    };
    serde_json::to_value(all).expect("JSON")
}
