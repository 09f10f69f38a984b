//! Lines of ours on a standard error that the program in the sandbox writes to as well.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::fstat;

/// Whether something else has begun a line on standard error and not ended it.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Writes bytes that end with a line end to standard error, at the beginning of a line.
pub(crate) fn own_line(line: &[u8]) {
    let mut out = std::io::stderr().lock();
    let end: &[u8] = if OPEN.swap(false, Ordering::Relaxed) { b"\n" } else { b"" };
    // There is nobody to tell when standard error has no reader.
    drop(out.write_all(&[end, line].concat()));
}

/// A standard stream of ours, which output of the sandbox is copied to.
pub(crate) trait Standard {
    /// Whether what is written to it is seen where our messages are.
    fn is_seen_with_messages() -> bool;
}

impl Standard for tokio::io::Stderr {
    fn is_seen_with_messages() -> bool {
        true
    }
}

impl Standard for tokio::io::Stdout {
    /// Both are the same terminal, pipe or file.
    fn is_seen_with_messages() -> bool {
        static SAME: OnceLock<bool> = OnceLock::new();
        *SAME.get_or_init(|| {
            let (out, err) = (std::io::stdout(), std::io::stderr());
            let (out, err) = (fstat(out.as_fd()), fstat(err.as_fd()));
            let place = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
            matches!((out, err), (Ok(out), Ok(err)) if place(out) == place(err))
        })
    }
}

/// Output is about to be written, or was: `last` is its last byte then.
pub(crate) fn note_output<S: Standard>(last: Option<u8>) {
    if S::is_seen_with_messages() {
        OPEN.store(last != Some(b'\n'), Ordering::Relaxed);
    }
}
