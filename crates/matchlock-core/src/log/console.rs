//! The lines of a console, told apart by who wrote them.

use std::sync::Arc;

use matchlock_vmm::ConsoleSink;

use super::{Log, LogSource};

/// How lines of the agent begin.
const AGENT: &[u8] = b"matchlock-agent: ";

/// A line that is longer is cut.
const MAX_LINE: usize = 16 * 1024;

/// Puts what the console says into the log.
pub(crate) fn sink(log: Arc<Log>) -> ConsoleSink {
    let mut lines = Lines { log, line: Vec::new() };
    ConsoleSink::new(move |piece| lines.put(piece))
}

/// Holds the line that has not ended yet.
struct Lines {
    log: Arc<Log>,
    line: Vec<u8>,
}

impl Lines {
    fn put(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            for part in part.chunks(MAX_LINE) {
                self.line.extend_from_slice(part);
                if self.line.ends_with(b"\n") || self.line.len() >= MAX_LINE {
                    self.flush();
                }
            }
        }
    }

    fn flush(&mut self) {
        let agent = self.line.starts_with(AGENT);
        let source = if agent { LogSource::Agent } else { LogSource::Console };
        self.log.append(source, &self.line);
        self.line.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}
