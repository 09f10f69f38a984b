//! `matchlock audit show`: a trail for people.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use matchlock_core::text::rfc3339;
use serde_json::Value;

use super::words::{Requests, is_denied};
use crate::cli::{ShowArgs, exactly};
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::event_loop::block_on;
use crate::options::time_span::TimeSpan;
use crate::printer::Printer;
use crate::signals::Interrupts;

/// The longest line that a trail has: a program's arguments are in one.
const MAX_LINE: u64 = 32 << 20;

/// The most records of one JSON array.
const MAX_RECORDS: usize = 1_000_000;

/// Between two looks at a file that grows.
const PAUSE: Duration = Duration::from_millis(200);

/// A trail, and of which sandbox in it.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    sandbox: Option<String>,
}

pub(super) fn run(
    args: &ShowArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let since = args.since.as_deref().map(since).transpose()?;
    let source = Source::find(wanted, environment)?;
    let file = File::open(&source.path).map_err(|error| {
        CliError::of_io(format!("cannot open the audit log {}", source.path.display()), &error)
    })?;
    let mut records = Records::new(BufReader::new(file), &source.path);
    let wants = |record: &Value| {
        let text = |key: &str| record.get(key).and_then(Value::as_str);
        let is_its = source.sandbox.as_deref().is_none_or(|id| text("sandbox") == Some(id));
        let is_new = since.as_deref().is_none_or(|since| text("time") >= Some(since));
        is_its && is_new && (!args.denied || is_denied(record))
    };
    if args.json.is_some() {
        let mut all = Vec::new();
        while let Some(record) = records.next()? {
            if wants(&record) {
                all.push(record);
            }
            if all.len() > MAX_RECORDS {
                let text = format!("more than {MAX_RECORDS} records");
                return Err(CliError::new(text).hinted("--since and --denied leave some out"));
            }
        }
        printer.json(&all)?;
        return Ok(0);
    }
    let mut requests = Requests::default();
    let mut print = |record: &Value| {
        // What a request asked for is needed for its answer, whether it is shown or not.
        let line = requests.line(record);
        if wants(record) {
            printer.fitted_line(&line);
        }
        let ended = record.get("event").and_then(Value::as_str) == Some("end");
        ended && source.sandbox.as_deref() == record.get("sandbox").and_then(Value::as_str)
    };
    if !args.follow {
        while let Some(record) = records.next()? {
            print(&record);
        }
        return Ok(0);
    }
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        loop {
            while let Some(record) = records.next()? {
                if print(&record) {
                    return Ok(0);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                // It is how a person ends it.
                _ = interrupts.next() => return Ok(0),
            }
        }
    })
}

impl Source {
    /// A file if there is one of this name, or else that of a sandbox.
    fn find(wanted: &str, environment: &Environment) -> Result<Self, CliError> {
        let path = Path::new(wanted);
        if wanted.contains('/') || path.is_file() {
            return Ok(Self { path: path.to_owned(), sandbox: None });
        }
        let state = environment.state()?;
        let record = state.find(wanted)?;
        let own = state.directory_of(&record.id).join("audit.jsonl");
        let kept = record.config.get("audit_log").and_then(Value::as_str);
        let path = kept.map_or(own, PathBuf::from);
        if !path.exists() {
            let error = CliError::new(format!("VM {} has no audit trail any more", record.id));
            return Err(error
                .of_kind(Kind::NotFound)
                .hinted("run --audit-log FILE keeps one beyond the end of a sandbox"));
        }
        Ok(Self { path, sandbox: Some(record.id.to_string()) })
    }
}

/// The records of a file that may still grow.
#[derive(Debug)]
struct Records<'a, R> {
    input: R,
    path: &'a Path,
    line: Vec<u8>,
    number: u64,
}

impl<'a, R: BufRead> Records<'a, R> {
    fn new(input: R, path: &'a Path) -> Self {
        Self { input, path, line: Vec::new(), number: 0 }
    }

    /// The next whole one; `None` if there is none yet.
    fn next(&mut self) -> Result<Option<Value>, CliError> {
        let path = self.path.display();
        let room = MAX_LINE.saturating_sub(self.line.len() as u64);
        let read = Read::by_ref(&mut self.input).take(room).read_until(b'\n', &mut self.line);
        read.map_err(|error| CliError::of_io(format!("cannot read {path}"), &error))?;
        if self.line.last() != Some(&b'\n') && (self.line.len() as u64) < MAX_LINE {
            return Ok(None);
        }
        self.number += 1;
        let record = serde_json::from_slice::<Value>(&self.line).ok().filter(Value::is_object);
        self.line.clear();
        match record {
            Some(record) => Ok(Some(record)),
            None => Err(CliError::new(format!("{path}: line {} is no record", self.number))
                .hinted(format!("matchlock audit verify {path}"))),
        }
    }
}

/// The earliest time, as the records have theirs: texts of one form are in the order of time.
fn since(text: &str) -> Result<String, CliError> {
    if let Ok(span) = text.parse::<TimeSpan>()
        && let Some(at) = SystemTime::now().checked_sub(span.duration())
    {
        return Ok(rfc3339(at));
    }
    let time = text.strip_suffix('Z').unwrap_or(text).replace(' ', "T");
    let form = "0000-00-00T00:00:00.000000";
    let fits = time.len() >= 10
        && time.len() <= form.len()
        && time.bytes().zip(form.bytes()).all(|(byte, model)| match model {
            b'0' => byte.is_ascii_digit(),
            model => byte == model,
        });
    if fits {
        return Ok(time);
    }
    Err(CliError::new(format!("invalid time {text:?}"))
        .hinted("use a time span, such as 10m or 2h, or a time in UTC, such as 2026-11-29T10:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_span_or_a_moment() {
        assert_eq!(since("2026-11-29").expect("a day"), "2026-11-29");
        assert_eq!(since("2026-11-29 10:00").expect("a minute"), "2026-11-29T10:00");
        assert_eq!(since("2026-11-29T10:00:01.5Z").expect("a moment"), "2026-11-29T10:00:01.5");
        assert!(since("10m").expect("a span") < rfc3339(SystemTime::now()));
        for text in ["", "yesterday", "2026-11", "2026-11-29T10:00+01:00", "2026-11-29x"] {
            since(text).expect_err(text);
        }
    }

    #[test]
    fn records_are_whole_lines_however_the_file_grows() {
        let path = Path::new("audit.jsonl");
        let mut records = Records::new(&b"{\"event\":\"a\"}\n{\"event\":"[..], path);
        assert_eq!(records.next().expect("a record").expect("one")["event"], "a");
        assert_eq!(records.next().expect("not yet"), None);
        records.input = b"\"b\"}\nnonsense\n";
        assert_eq!(records.next().expect("a record").expect("one")["event"], "b");
        let error = records.next().expect_err("no record");
        assert_eq!(error.message(), "audit.jsonl: line 3 is no record");
    }
}
