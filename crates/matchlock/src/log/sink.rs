//! Where lines of the log go.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use matchlock_core::text::escape;

use crate::printer;

/// Longest line in bytes; the rest of a longer one is cut off.
pub(super) const MAX_LINE: usize = 4096;
/// Most bytes that one process logs.
const MAX_BYTES: u64 = 64 << 20;
/// Most lines that wait for the terminal; the oldest go first.
pub(super) const MAX_HELD: usize = 256;

/// Writes whole lines, without anything that a terminal would obey.
pub(super) struct Sink {
    state: Mutex<State>,
}

struct State {
    to: Box<dyn Write + Send>,
    /// Whether it is the terminal that lines are held back from.
    shared: bool,
    /// How many want lines to be held.
    holders: usize,
    held: VecDeque<String>,
    dropped: u64,
    /// Bytes that may still be written.
    left: u64,
}

impl Sink {
    pub(super) fn file(file: File) -> Self {
        Self::new(Box::new(file), false, MAX_BYTES)
    }

    pub(super) fn standard_error() -> Self {
        Self::new(Box::new(StandardError), true, MAX_BYTES)
    }

    pub(super) fn new(to: Box<dyn Write + Send>, shared: bool, left: u64) -> Self {
        let state = State { to, shared, holders: 0, held: VecDeque::new(), dropped: 0, left };
        Self { state: Mutex::new(state) }
    }

    /// Writes a line, or keeps it while lines are held.
    pub(super) fn line(&self, text: &str) {
        let mut line = escape::one_line(text);
        if line.len() > MAX_LINE {
            line.truncate(line.floor_char_boundary(MAX_LINE));
            line.push('…');
        }
        line.push('\n');
        let mut state = self.lock();
        if state.shared && state.holders > 0 {
            state.keep(line);
        } else {
            state.write(&line);
        }
    }

    /// Holds lines back until as many calls of [`release`](Self::release) have followed.
    pub(super) fn hold(&self) {
        self.lock().holders += 1;
    }

    pub(super) fn release(&self) {
        let mut state = self.lock();
        state.holders = state.holders.saturating_sub(1);
        if state.holders == 0 {
            state.write_held();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, line: String) {
        if self.held.len() == MAX_HELD {
            self.held.pop_front();
            self.dropped += 1;
        }
        self.held.push_back(line);
    }

    fn write_held(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.write(&format!("{dropped} lines of the log were dropped\n"));
        }
        for line in std::mem::take(&mut self.held) {
            self.write(&line);
        }
    }

    /// There is nobody to tell when the log cannot be written.
    fn write(&mut self, line: &str) {
        let length = line.len() as u64;
        if length <= self.left {
            self.left -= length;
            drop(self.to.write_all(line.as_bytes()));
        } else if std::mem::take(&mut self.left) > 0 {
            drop(self.to.write_all(b"the log is full: this process writes no more lines\n"));
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").finish_non_exhaustive()
    }
}

/// Standard error, which the program in the sandbox writes to as well.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        printer::own_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
