//! `matchlock log`: what a sandbox has written.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use matchlock_core::log::{LogReader, LogRecord, LogSelection, LogSource};
use matchlock_core::text::{escape, rfc3339};
use matchlock_core::{SandboxId, StateError, StateRoot};

use super::enter::lookup;
use crate::cli::{LogsArgs, exactly};
use crate::environment::Environment;
use crate::error::{CliError, Kind, OUTPUT_CLOSED};
use crate::event_loop::{beside, block_on};
use crate::signals::Interrupts;

/// How often a sandbox that writes nothing is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &LogsArgs, environment: &Environment) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let state = environment.state()?;
    let id = lookup(&state, wanted)?.id;
    let directory = state.directory_of(&id);
    let mut shown = Shown::new(args, &directory)?;
    if !args.follow {
        return shown.rest();
    }
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            done = beside(move || follow(&mut shown, &state, &id)) => done,
            // To stop reading is no failure.
            _ = interrupts.next() => Ok(0),
        }
    })
}

/// Until the sandbox has ended.
fn follow(shown: &mut Shown, state: &StateRoot, id: &SandboxId) -> Result<u8, CliError> {
    loop {
        let ended = match state.wait(id, Some(LOOK)) {
            Ok(ending) => ending.is_some(),
            // It was removed, and its log with it.
            Err(StateError::NotFound(_)) => true,
            Err(error) => return Err(error.into()),
        };
        // After the question: what it wrote before its end is there now.
        let status = shown.rest()?;
        if ended || status != 0 {
            return Ok(status);
        }
    }
}

/// What of a log is printed, and how.
struct Shown {
    reader: LogReader,
    sources: Vec<LogSelection>,
    /// As records have their times.
    since: Option<String>,
    /// Lines of what is there already.
    tail: Option<usize>,
    json: bool,
}

impl Shown {
    fn new(args: &LogsArgs, directory: &Path) -> Result<Self, CliError> {
        Ok(Self {
            reader: LogReader::open(directory).map_err(unreadable)?,
            sources: args.source.clone(),
            since: args.since.map(rfc3339),
            tail: args.tail,
            json: args.json,
        })
    }

    /// Prints all that is there and was not printed yet. Returns the status to end with, should it end.
    fn rest(&mut self) -> Result<u8, CliError> {
        let printed = match self.tail.take() {
            Some(lines) => self.last(lines)?,
            None => Ok(()),
        };
        let mut printed = printed;
        while printed.is_ok() {
            let Some(record) = self.next()? else { break };
            printed = self.print(&record);
        }
        match printed {
            Ok(()) => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(OUTPUT_CLOSED),
            Err(error) => Err(CliError::of_io("cannot write the log", &error)),
        }
    }

    /// The next record that is wanted.
    fn next(&mut self) -> Result<Option<LogRecord>, CliError> {
        loop {
            let Some(record) = self.reader.read().map_err(unreadable)? else { return Ok(None) };
            let of_source = self.sources.is_empty()
                || self.sources.iter().any(|selection| selection.has(record.source));
            if of_source && self.since.as_ref().is_none_or(|since| record.at >= *since) {
                return Ok(Some(record));
            }
        }
    }

    /// Prints the last lines.
    fn last(&mut self, lines: usize) -> Result<io::Result<()>, CliError> {
        let mut tail = Tail::new(lines);
        while let Some(record) = self.next()? {
            tail.add(record);
        }
        let mut printed = Ok(());
        for record in tail.records() {
            printed = printed.and_then(|()| self.print(&record));
        }
        Ok(printed)
    }

    fn print(&self, record: &LogRecord) -> io::Result<()> {
        if self.json {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            return put(&mut io::stdout().lock(), &line);
        }
        match record.source {
            LogSource::Stdout => put(&mut io::stdout().lock(), record.bytes()),
            LogSource::Stderr => put(&mut io::stderr().lock(), record.bytes()),
            LogSource::Agent | LogSource::Console => {
                // The console of a guest must not drive the terminal of who reads of it.
                let text = escape::lines(&String::from_utf8_lossy(record.bytes()));
                put(&mut io::stderr().lock(), text.as_bytes())
            }
            LogSource::Log => {
                let dropped = record.dropped.unwrap_or_default();
                let line = format!("matchlock: {dropped} bytes of the log were dropped\n");
                put(&mut io::stderr().lock(), line.as_bytes())
            }
        }
    }
}

fn put(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: io::Error) -> CliError {
    CliError::of_io("cannot read the log", &error).of_kind(Kind::Io)
}

/// The last lines of what is added.
struct Tail {
    lines: usize,
    records: std::collections::VecDeque<LogRecord>,
    /// Line ends in them.
    ends: usize,
}

impl Tail {
    fn new(lines: usize) -> Self {
        Self { lines, records: std::collections::VecDeque::new(), ends: 0 }
    }

    fn add(&mut self, record: LogRecord) {
        self.ends += ends(record.bytes());
        self.records.push_back(record);
        // One more: the last end may have nothing behind it.
        while let Some(first) = self.records.front()
            && self.ends - ends(first.bytes()) > self.lines
        {
            self.ends -= ends(first.bytes());
            self.records.pop_front();
        }
    }

    fn records(mut self) -> impl Iterator<Item = LogRecord> {
        let last = self.records.iter().rev().find_map(|record| record.bytes().last());
        let kept = if last == Some(&b'\n') { self.lines } else { self.lines.saturating_sub(1) };
        let mut surplus = self.ends.saturating_sub(kept);
        if self.lines == 0 {
            self.records.clear();
        }
        self.records.into_iter().filter_map(move |record| {
            let bytes = record.bytes();
            let mut at = 0;
            while surplus > 0 {
                let rest = bytes.get(at..).unwrap_or_default();
                // All of it is before the last lines.
                let end = rest.iter().position(|byte| *byte == b'\n')?;
                at += end + 1;
                surplus -= 1;
            }
            let rest = bytes.get(at..).unwrap_or_default().to_vec();
            (!rest.is_empty() || record.dropped.is_some()).then(|| record.with_bytes(rest))
        })
    }
}

fn ends(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::json!({
        "at": "2026", "source": "stdout", "text": "a", "base64": "YQ==", "dropped": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(bytes: &[u8]) -> LogRecord {
        let json = serde_json::json!({"at": "", "source": "stdout"});
        let record: LogRecord = serde_json::from_value(json).expect("a record");
        record.with_bytes(bytes.to_vec())
    }

    #[test]
    fn the_sample_has_the_keys_of_a_record() {
        let read: LogRecord = serde_json::from_value(sample()).expect("a record");
        assert_eq!(serde_json::to_value(read).expect("JSON"), sample());
    }

    proptest! {
        #[test]
        fn the_last_lines_are_the_same_however_they_were_cut(
            pieces in proptest::collection::vec("[ab\n]{1,4}", 0..12), lines in 0usize..6,
        ) {
            let mut tail = Tail::new(lines);
            pieces.iter().for_each(|piece| tail.add(record(piece.as_bytes())));
            let got: Vec<u8> = tail.records().flat_map(|record| record.bytes().to_vec()).collect();
            let all = pieces.concat();
            let split: Vec<_> = all.split_inclusive('\n').collect();
            let expected = split[split.len().saturating_sub(lines)..].concat();
            prop_assert_eq!(String::from_utf8(got).expect("text"), expected);
        }
    }
}
