//! When which flow wants to be looked at: a heap whose stale entries are skipped when they come up.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smoltcp::time::Instant;

use super::flow::Flow;
use super::table::MAX_FLOWS;

/// More entries than this are looked through for stale ones.
const CROWDED: usize = 4 * MAX_FLOWS;

/// The deadlines of all flows.
#[derive(Debug, Default)]
pub(super) struct Timers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    heap: BinaryHeap<Reverse<Entry>>,
    /// The length from which on stale entries are looked for.
    limit: usize,
}

impl Timers {
    /// Adds a deadline. True if it is now the earliest.
    pub(super) fn push(&self, at: Instant, flow: &Arc<Flow>) -> bool {
        let mut inner = self.lock();
        if inner.heap.len() >= inner.limit.max(CROWDED) {
            inner.heap.retain(|Reverse(entry)| entry.flow().is_some());
            inner.limit = 2 * inner.heap.len();
        }
        let first = inner.heap.peek().is_none_or(|Reverse(entry)| at < entry.at);
        inner.heap.push(Reverse(Entry { at, flow: Arc::downgrade(flow) }));
        first
    }

    /// When to call [`Self::due`] again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lock().heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// A flow whose deadline has come.
    pub(super) fn due(&self, now: Instant) -> Option<Arc<Flow>> {
        let mut inner = self.lock();
        while inner.heap.peek().is_some_and(|Reverse(entry)| entry.at <= now) {
            let Reverse(entry) = inner.heap.pop()?;
            if let Some(flow) = entry.flow() {
                flow.disarm();
                return Some(flow);
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    flow: Weak<Flow>,
}

impl Entry {
    /// The flow, if this is still its deadline.
    fn flow(&self) -> Option<Arc<Flow>> {
        self.flow.upgrade().filter(|flow| flow.is_armed(self.at))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}
