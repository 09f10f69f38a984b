//! Places where tests make the store fail or the process die.
#![expect(clippy::disallowed_methods, reason = "it is for tests")]

use std::io;
use std::sync::Mutex;

/// Names the point at which a child process of a test aborts.
pub(crate) const ABORT_AT: &str = "MATCHLOCK_TEST_ABORT_AT";

/// The points that fail in this store.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Option<(&'static str, io::ErrorKind)>>);

impl Faults {
    /// From now on `point` fails.
    pub(crate) fn set(&self, point: &'static str, kind: io::ErrorKind) {
        *self.0.lock().expect("lock") = Some((point, kind));
    }

    /// Nothing fails.
    pub(crate) fn clear(&self) {
        *self.0.lock().expect("lock") = None;
    }

    pub(super) fn reach(&self, point: &str) -> io::Result<()> {
        if std::env::var(ABORT_AT).is_ok_and(|name| name == point) {
            std::process::abort();
        }
        match *self.0.lock().expect("lock") {
            Some((name, kind)) if name == point => Err(kind.into()),
            _ => Ok(()),
        }
    }
}
