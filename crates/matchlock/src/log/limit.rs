//! How often one call site may log.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;

/// The time for which lines are counted.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Most lines of one call site within [`WINDOW`].
pub(super) const LINES: u32 = 10;
/// The same at the level `debug`, which somebody asked for.
pub(super) const DEBUG_LINES: u32 = 200;

/// Counts the lines of each call site. There are as many entries as call sites in the program.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    sites: HashMap<Identifier, Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    admitted: u32,
    left_out: u64,
}

impl Limiter {
    /// Whether a line may be written now, and then how many before it were left out.
    pub(super) fn admit(&mut self, site: Identifier, debug: bool, now: Instant) -> Option<u64> {
        let new = Window { since: now, admitted: 0, left_out: 0 };
        let window = self.sites.entry(site).or_insert(new);
        if now.saturating_duration_since(window.since) >= WINDOW {
            window.since = now;
            window.admitted = 0;
        }
        if window.admitted >= if debug { DEBUG_LINES } else { LINES } {
            window.left_out = window.left_out.saturating_add(1);
            return None;
        }
        window.admitted += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}
