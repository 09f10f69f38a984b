//! The audit trail: what a sandbox did, written by the host where no guest reaches it.
//!
//! One record is one line of JSON in pure ASCII, so nothing that a guest chose (a host name, a path,
//! an escape sequence, U+2028) can end a line or steer a terminal. Each line holds the SHA-256 of the
//! line before it (`prev`) and a checksum of itself (`sum`): a line that is changed, removed,
//! inserted or moved breaks the chain. A file whose end is cut off lacks its last `end` record.
//!
//! ```text
//!  {"seq":0,"time":…,"sandbox":"vm-…","event":"start",…,"prev":"000…","sum":"…"}
//!  {"seq":1,"time":…,"sandbox":"vm-…","event":"dns",…,"prev":"<SHA-256 of line 0>","sum":"…"}
//! ```
//! A record that cannot be written whole is the last one: from then on every record is refused, and
//! with it what it would have told of.

mod line;
mod record;
mod span;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use matchlock_net::{Audit, AuditLost, Event};
use matchlock_sys::is_locked;
use matchlock_text::rfc3339;
use serde::Serialize;

pub use self::record::{EndReason, Totals};
pub(crate) use self::record::{Lifecycle, Network, SecretChange, SecretSummary, Start};
pub(crate) use self::span::{ExecSpan, ForwardSpan};
pub use self::verify::{Broken, Problem, Summary, verify};

use self::line::{GENESIS, Hash};
use crate::classified::{Classified, ErrorKind, Hint};
use crate::id::SandboxId;
use crate::phase::EndCause;

/// Bytes that one sandbox may write: about four million records. A guest can make records as fast as
/// it can ask for names, and must not fill the host's disk with them.
const MAX_BYTES: u64 = 1 << 30;

/// A log that is longer is not continued: each start reads all of it.
const MAX_KEPT: u64 = 4 << 30;

/// Why a trail could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An operation on the file failed.
    #[error("cannot open the audit log {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A device, a pipe or a directory keeps no records.
    #[error("the audit log {path} is not a regular file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Two writers would break the chain.
    #[error("the audit log {path} is in use by another sandbox")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Earlier sandboxes filled it.
    #[error("the audit log {path} is longer than {} GiB", MAX_KEPT >> 30)]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// What is in the file is no intact chain that could be continued.
    #[error("the audit log {path} cannot be continued")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Broken,
    },
}

impl Classified for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => ErrorKind::of_io(source),
            Self::NotAFile { .. } | Self::Broken { .. } | Self::Full { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::InUse { .. } => ErrorKind::Conflict,
        }
    }

    fn hint(&self) -> Option<Hint> {
        let (Self::Broken { path, .. } | Self::Full { path }) = self else { return None };
        Some(Hint::CheckTrail(path.clone()))
    }
}

/// The trail of one sandbox, open for appending.
#[derive(Debug)]
pub struct Trail {
    path: PathBuf,
    sandbox: SandboxId,
    kept: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    phase: Phase,
    seq: u64,
    prev: Hash,
    /// Bytes that may still be written.
    room: u64,
    totals: Totals,
}

#[derive(Debug)]
enum Phase {
    Open,
    /// The last record is written.
    Closed,
    /// A record could not be written whole; the cause as text.
    Lost(String),
}

impl Trail {
    /// Starts a trail that goes with its sandbox.
    ///
    /// # Errors
    /// [`OpenError`], also when the file exists.
    pub fn create(path: &Path, sandbox: &SandboxId) -> Result<Self, OpenError> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|source| OpenError::File { path: path.to_owned(), source })?;
        Ok(Self::new(path, sandbox, false, file, 0, GENESIS))
    }

    /// Starts a trail that is kept, or continues the intact one that is in the file.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be written, is in use, or holds anything but an intact
    /// trail.
    pub fn keep(path: &Path, sandbox: &SandboxId) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File { path: path.to_owned(), source };
        // Not to wait for the reader of a pipe that somebody names.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(nonblock);
        let file = options.open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_fifo() || !kind.is_file() {
            return Err(OpenError::NotAFile { path: path.to_owned() });
        }
        if !is_locked(file.try_lock()).map_err(failed)? {
            return Err(OpenError::InUse { path: path.to_owned() });
        }
        let (seq, prev) = match file.metadata().map_err(failed)?.len() {
            0 => (0, GENESIS),
            length if length > MAX_KEPT => return Err(OpenError::Full { path: path.to_owned() }),
            _ => {
                let before = verify(io::BufReader::new(&file))
                    .map_err(|source| OpenError::Broken { path: path.to_owned(), source })?;
                (before.records, before.last)
            }
        };
        Ok(Self::new(path, sandbox, true, file, seq, prev))
    }

    /// Goes on with the trail of a sandbox that is started again. One that cannot be gone on with, because
    /// its writer was killed, stays beside the new one as `audit.1.jsonl`.
    ///
    /// # Errors
    /// As [`Trail::create`].
    pub(crate) fn resume(path: &Path, sandbox: &SandboxId) -> Result<Self, OpenError> {
        match Self::keep(path, sandbox) {
            Err(OpenError::Broken { .. } | OpenError::Full { .. }) => {
                let failed = |source| OpenError::File { path: path.to_owned(), source };
                std::fs::rename(path, path.with_file_name("audit.1.jsonl")).map_err(failed)?;
                Self::create(path, sandbox)
            }
            trail => Ok(Self { kept: false, ..trail? }),
        }
    }

    fn new(path: &Path, sandbox: &SandboxId, kept: bool, file: File, seq: u64, prev: Hash) -> Self {
        let totals = Totals::default();
        let state = State { file, phase: Phase::Open, seq, prev, room: MAX_BYTES, totals };
        Self { path: path.to_owned(), sandbox: sandbox.clone(), kept, state: Mutex::new(state) }
    }

    /// Where the records are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why records were lost; `None` while all of them are in the file.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        match &self.state().phase {
            Phase::Lost(why) => Some(why.clone()),
            Phase::Open | Phase::Closed => None,
        }
    }

    /// Writes the last record, with what led to the end. Later ones are refused.
    ///
    /// # Errors
    /// [`AuditLost`] when not every record is in the file.
    pub fn close(&self, reason: EndReason, cause: &EndCause) -> Result<(), AuditLost> {
        let mut state = self.state();
        let totals = state.totals;
        let written =
            self.append(&mut state, &Lifecycle::End { reason, cause: cause.word(), totals });
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closed;
            // A file that goes with the sandbox need not survive a power failure.
            if self.kept
                && let Err(error) = state.file.sync_all()
            {
                return Err(state.lose(&error));
            }
        }
        written
    }

    pub(crate) fn lifecycle(&self, event: &Lifecycle<'_>) -> Result<(), AuditLost> {
        self.append(&mut self.state(), event)
    }

    fn append(&self, state: &mut State, event: &impl Serialize) -> Result<(), AuditLost> {
        match &state.phase {
            Phase::Open => {}
            Phase::Closed => return Err(AuditLost::new("the sandbox has ended")),
            Phase::Lost(why) => return Err(AuditLost::new(why.as_str())),
        }
        let header = line::Header {
            seq: state.seq,
            time: &rfc3339(SystemTime::now()),
            sandbox: self.sandbox.as_str(),
        };
        let written = line::seal(&header, event, &state.prev)
            .map_err(io::Error::from)
            .and_then(|line| state.write(&line).map(|()| line));
        match written {
            Ok(line) => {
                state.prev = line::hash(line.strip_suffix(b"\n").unwrap_or(&line));
                state.seq += 1;
                state.totals.records += 1;
                Ok(())
            }
            Err(error) => Err(state.lose(&error)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let room = self.room.checked_sub(line.len() as u64);
        self.room = room.ok_or_else(|| {
            io::Error::other(format!("it has reached its limit of {} MiB", MAX_BYTES >> 20))
        })?;
        self.file.write_all(line)
    }

    fn lose(&mut self, error: &io::Error) -> AuditLost {
        self.phase = Phase::Lost(error.to_string());
        AuditLost::new(error.to_string())
    }
}

impl Audit for Trail {
    fn record(&self, event: &Event) -> Result<(), AuditLost> {
        let mut state = self.state();
        self.append(&mut state, event)?;
        state.totals.count(event);
        Ok(())
    }
}
