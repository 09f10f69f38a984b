//! Time as the stack sees it.

use std::sync::atomic::{AtomicI64, Ordering};

use smoltcp::time::Instant;

/// A clock that starts at zero: the machine's, or one that a test moves.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Monotonic time since the stack began.
    System(std::time::Instant),
    /// Microseconds, as last set.
    #[cfg_attr(
        not(any(test, feature = "fuzzing")),
        expect(dead_code, reason = "only tests and the fuzzer ask")
    )]
    Manual(AtomicI64),
}

impl Clock {
    pub(crate) fn system() -> Self {
        Self::System(std::time::Instant::now())
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn manual() -> Self {
        Self::Manual(AtomicI64::new(0))
    }

    pub(super) fn now(&self) -> Instant {
        match self {
            Self::System(start) => {
                let micros = start.elapsed().as_micros();
                Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
            }
            Self::Manual(micros) => Instant::from_micros(micros.load(Ordering::Relaxed)),
        }
    }

    /// Sets a manual clock; that of the machine cannot be set.
    #[cfg_attr(
        not(any(test, feature = "fuzzing")),
        expect(dead_code, reason = "only tests and the fuzzer ask")
    )]
    pub(super) fn set(&self, now: Instant) {
        if let Self::Manual(micros) = self {
            micros.store(now.total_micros(), Ordering::Relaxed);
        }
    }
}
