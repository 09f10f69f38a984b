//! Reads a trail and says whether it is whole.

use std::fmt;
use std::io::{self, BufRead, Read};

use serde::Deserialize;

use super::line::{GENESIS, Hash, hash, hex, is_sealed};

/// Longest line in bytes: an execution's arguments in their longest escaped form, with room.
const MAX_LINE: u64 = 32 * 1024 * 1024;

/// An intact trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Number of records.
    pub records: u64,
    /// Number of sandboxes that wrote it, one after the other.
    pub sandboxes: u64,
    /// How many of them lack their `end` record: killed, or with their last records cut off.
    pub unclosed: u64,
    /// Whether the last record of the file is an `end`.
    pub closed: bool,
    /// SHA-256 of the last line.
    pub last: [u8; 32],
}

/// Where and why a trail is not intact.
#[derive(Debug, thiserror::Error)]
#[error("line {line}")]
pub struct Broken {
    /// Line number, from 1.
    pub line: u64,
    /// What is wrong there.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file has no record at all.
    #[error("there is no record")]
    Empty,
    /// The file cannot be read further.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
    /// The file ends in the middle of the line.
    #[error("the line is cut off")]
    CutOff,
    /// Longer than any record.
    #[error("the line is too long for a record")]
    TooLong,
    /// The line is no record, or it was changed.
    #[error("the line is not a valid record")]
    Changed,
    /// The line before this one is not the one that this was written after.
    #[error("it does not follow the line before it: a record was changed, removed, added or moved")]
    OutOfChain,
    /// A sandbox's first record is not `start`, or `start` comes twice.
    #[error("the record is out of place: each sandbox begins with one `start`")]
    OutOfPlace,
}

impl Summary {
    /// [`Summary::last`] in hexadecimal digits.
    #[must_use]
    pub fn last_hash(&self) -> String {
        hex(&self.last)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, intact, last {}", self.records, self.last_hash())
    }
}

/// Reads a whole trail.
///
/// # Errors
/// [`Broken`] at the first line that is not as it was written.
pub fn verify(mut trail: impl BufRead) -> Result<Summary, Broken> {
    let mut state = Chain::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let at = state.records + 1;
        let broken = |problem| Broken { line: at, problem };
        let read = trail.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|error| broken(Problem::Unreadable(error)))?;
        if read == 0 {
            return state.finish();
        }
        let Some(body) = line.strip_suffix(b"\n") else {
            let is_long = read as u64 == MAX_LINE;
            return Err(broken(if is_long { Problem::TooLong } else { Problem::CutOff }));
        };
        state.follow(body).map_err(broken)?;
    }
}

#[derive(Debug)]
struct Chain {
    records: u64,
    sandboxes: u64,
    ends: u64,
    prev: Hash,
    /// The sandbox whose records are being read; `None` after its `end`.
    current: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Record {
    seq: u64,
    sandbox: String,
    event: String,
    prev: String,
}

impl Chain {
    fn new() -> Self {
        Self { records: 0, sandboxes: 0, ends: 0, prev: GENESIS, current: None }
    }

    fn follow(&mut self, line: &[u8]) -> Result<(), Problem> {
        if !is_sealed(line) {
            return Err(Problem::Changed);
        }
        let record: Record = serde_json::from_slice(line).map_err(|_| Problem::Changed)?;
        if record.seq != self.records || record.prev != hex(&self.prev) {
            return Err(Problem::OutOfChain);
        }
        let is_start = record.event == "start";
        // A `start` of another sandbox without an `end` before it: the one before was killed.
        if is_start == (self.current.as_ref() == Some(&record.sandbox)) {
            return Err(Problem::OutOfPlace);
        }
        self.sandboxes += u64::from(is_start);
        let is_end = record.event == "end";
        self.ends += u64::from(is_end);
        self.current = (!is_end).then_some(record.sandbox);
        self.records += 1;
        self.prev = hash(line);
        Ok(())
    }

    fn finish(self) -> Result<Summary, Broken> {
        if self.records == 0 {
            return Err(Broken { line: 1, problem: Problem::Empty });
        }
        Ok(Summary {
            records: self.records,
            sandboxes: self.sandboxes,
            unclosed: self.sandboxes.saturating_sub(self.ends),
            closed: self.current.is_none(),
            last: self.prev,
        })
    }
}
