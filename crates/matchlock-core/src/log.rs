//! What a sandbox writes, kept in its directory on the host: its command, its agent, its console.
//!
//! ```text
//!   execution ─┐                                             ┌─► log.jsonl ─► log.1.jsonl
//!              ├─► Log::append ─► queue ─► a thread of its own ─┤        └──┬───────┘
//!   console ───┘                                             └─ drops    LogReader
//! ```
//! A record is one line of JSON ([`LogRecord`]). Bytes that are no text are Base64, so all can be had back
//! exactly. When a file has [`FILE_BYTES`], it takes the place of the older one, and another begins: a sandbox
//! has at most twice that.
//!
//! Nobody waits for the log. What comes faster than the disk takes it, or finds the disk full, is dropped,
//! and a record says how much once there is room again.
//!
//! The guest decides what is in it, even which lines look like those of its agent.

mod console;
mod read;
mod write;

use std::fmt;
use std::str::FromStr;

use matchlock_api::Base64;
use serde::{Deserialize, Serialize};

pub(crate) use self::console::sink;
pub use self::read::LogReader;
pub(crate) use self::write::Log;

/// Bytes of each of the two files.
pub const FILE_BYTES: u64 = 4 << 20;

/// The file that is written.
const CURRENT: &str = "log.jsonl";

/// The one before it.
const OLDER: &str = "log.1.jsonl";

/// Who has written something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The sandbox's command, on standard output.
    Stdout,
    /// The sandbox's command, on standard error.
    Stderr,
    /// The agent in the guest.
    Agent,
    /// The guest's kernel, and everything else that writes to its console.
    Console,
    /// The log itself, which tells of its losses.
    Log,
}

/// One piece of what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it came: RFC 3339, UTC.
    pub at: String,
    /// From where.
    pub source: LogSource,
    /// What it is, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it is, if it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<Base64>,
    /// Bytes that were dropped before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// Several sources, as users call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSelection {
    /// Standard output and standard error of the command.
    Command,
    /// The agent.
    Agent,
    /// The console without the agent's lines.
    Console,
}

impl LogSelection {
    /// All of them, with their words.
    pub const ALL: [(&'static str, Self); 3] =
        [("command", Self::Command), ("agent", Self::Agent), ("console", Self::Console)];

    /// Whether the source is one of these.
    #[must_use]
    pub fn has(self, source: LogSource) -> bool {
        match source {
            LogSource::Stdout | LogSource::Stderr => self == Self::Command,
            LogSource::Agent => self == Self::Agent,
            LogSource::Console => self == Self::Console,
            // A loss may be of any source.
            LogSource::Log => true,
        }
    }
}

/// It is none of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSource;

impl fmt::Display for UnknownSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("use command, agent or console")
    }
}

impl std::error::Error for UnknownSource {}

impl FromStr for LogSelection {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        let found = Self::ALL.into_iter().find(|(word, _)| *word == text);
        found.map(|(_, selection)| selection).ok_or(UnknownSource)
    }
}

impl LogRecord {
    /// The same record with other bytes.
    #[must_use]
    pub fn with_bytes(self, bytes: Vec<u8>) -> Self {
        let (text, base64) = match String::from_utf8(bytes) {
            Ok(text) if text.is_empty() => (None, None),
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(Base64(error.into_bytes()))),
        };
        Self { text, base64, ..self }
    }

    /// The bytes as they were written; none if this tells of a loss.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match (&self.text, &self.base64) {
            (Some(text), _) => text.as_bytes(),
            (None, Some(bytes)) => &bytes.0,
            (None, None) => &[],
        }
    }
}

#[cfg(test)]
mod tests;
