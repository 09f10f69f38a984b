//! `matchlock audit`.

use std::fs::File;
use std::io::BufReader;

use matchlock_core::DescribeChain;
use matchlock_core::audit::{Summary, verify};
use serde::Serialize;

use crate::cli::{AuditArgs, AuditCommand, VerifyArgs};
use crate::error::CliError;
use crate::printer::Printer;

/// Carries out a subcommand of `audit`.
pub(crate) fn run(args: &AuditArgs, printer: Printer) -> Result<u8, CliError> {
    match &args.command {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn check(args: &VerifyArgs, printer: Printer) -> Result<u8, CliError> {
    let file = args.file.display().to_string();
    let open = File::open(&args.file)
        .map_err(|error| CliError::new(format!("cannot open the audit log {file}: {error}")))?;
    let result = verify(BufReader::new(open));
    if args.json {
        let verdict = match &result {
            Ok(summary) => intact(&file, summary),
            Err(broken) => Verdict {
                intact: false,
                records: None,
                sandboxes: None,
                unclosed: None,
                last: None,
                line: Some(broken.line),
                error: Some(DescribeChain(&broken.problem).to_string()),
                file: &file,
            },
        };
        let json = serde_json::to_string(&verdict)
            .map_err(|error| CliError::new(format!("cannot write JSON: {error}")))?;
        printer.result(&json);
        return Ok(u8::from(result.is_err()));
    }
    match result {
        Ok(summary) => {
            printer.result(&format!("{file}: {summary}"));
            note_unclosed(&summary, printer);
            Ok(0)
        }
        Err(broken) => Err(CliError::new(format!("{file}: {}", DescribeChain(&broken)))
            .hinted("every record up to that line is as it was written")),
    }
}

fn intact<'a>(file: &'a str, summary: &Summary) -> Verdict<'a> {
    Verdict {
        file,
        intact: true,
        records: Some(summary.records),
        sandboxes: Some(summary.sandboxes),
        unclosed: Some(summary.unclosed),
        last: Some(summary.last_hash()),
        line: None,
        error: None,
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
