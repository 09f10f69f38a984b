//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// Looks every few milliseconds until `condition` gives a value.
///
/// # Panics
/// When it gives none within `limit`; the message names `what`.
pub fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
