//! Moments that no test chooses.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// How long something took once: somewhere in the next one like it, a test does something to it.
#[derive(Debug, Clone, Copy)]
pub struct Stretch(Duration);

impl Stretch {
    /// From `began` until now.
    #[must_use]
    pub fn since(began: Instant) -> Self {
        Self(Instant::now().saturating_duration_since(began))
    }

    /// A moment of it, or a little later: another one at each call.
    #[must_use]
    pub fn moment(self) -> Duration {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX / 5);
        let random = RandomState::new().hash_one(());
        Duration::from_micros(random % (micros * 5 / 4).max(1))
    }
}
