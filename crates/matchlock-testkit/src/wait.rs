//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// Looks every few milliseconds until `condition` gives a value.
///
/// # Panics
/// When it gives none within `limit`; the message names `what`.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    poll_until(limit, condition).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// The same without a panic.
pub(crate) fn poll_until<T>(
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
