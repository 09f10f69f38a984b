//! The connections that there are, and the SYNs that wait for a decision.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flow::Flow;
use super::wire::Syn;

/// Most connections at a time, those that wait for a decision included.
pub(crate) const MAX_FLOWS: usize = 4096;

/// What tells connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) guest: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// Distinguishes the SYNs of one [`FlowKey`].
pub(super) type PendingId = u64;

#[derive(Debug)]
enum Entry {
    Pending(PendingId, Syn),
    Open(Arc<Flow>),
}

/// What became of a SYN that belongs to no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is new, and waits for a decision.
    New(PendingId),
    /// It waits already.
    Waiting,
    /// There are too many.
    Full,
}

/// Finds a connection by its addresses.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<FlowKey, Entry>,
    ids: PendingId,
    closed: bool,
}

impl Table {
    pub(super) fn flow(&self, key: &FlowKey) -> Option<Arc<Flow>> {
        match self.lock().entries.get(key) {
            Some(Entry::Open(flow)) => Some(Arc::clone(flow)),
            _ => None,
        }
    }

    /// Admits a SYN. That of another attempt takes the place of the one that waits.
    pub(super) fn admit(&self, key: FlowKey, syn: Syn) -> Admission {
        let mut inner = self.lock();
        let full = inner.closed || inner.entries.len() >= MAX_FLOWS;
        let id = inner.ids + 1;
        match inner.entries.get_mut(&key) {
            Some(Entry::Pending(_, waiting)) => *waiting = syn,
            Some(Entry::Open(_)) => {}
            None if full => return Admission::Full,
            None => {
                inner.entries.insert(key, Entry::Pending(id, syn));
                inner.ids = id;
                return Admission::New(id);
            }
        }
        Admission::Waiting
    }

    /// Puts a flow in the place of the SYN that waits, which is returned.
    pub(super) fn open(&self, id: PendingId, flow: &Arc<Flow>) -> Option<Syn> {
        let mut inner = self.lock();
        match inner.entries.get_mut(&flow.key) {
            Some(entry @ Entry::Pending(..)) => {
                match std::mem::replace(entry, Entry::Open(Arc::clone(flow))) {
                    Entry::Pending(found, syn) if found == id => Some(syn),
                    other => {
                        *entry = other;
                        None
                    }
                }
            }
            _ => None,
        }
    }

    /// Forgets a SYN, which is returned if it still waits.
    pub(super) fn withdraw(&self, key: &FlowKey, id: Option<PendingId>) -> Option<Syn> {
        let mut inner = self.lock();
        match inner.entries.get(key) {
            Some(Entry::Pending(found, _)) if id.is_none_or(|id| id == *found) => {
                match inner.entries.remove(key) {
                    Some(Entry::Pending(_, syn)) => Some(syn),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn remove(&self, flow: &Arc<Flow>) {
        let mut inner = self.lock();
        if let Some(Entry::Open(found)) = inner.entries.get(&flow.key)
            && Arc::ptr_eq(found, flow)
        {
            let removed = inner.entries.remove(&flow.key);
            drop(inner);
            drop(removed);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Takes no more, and gives up all flows.
    pub(super) fn close(&self) -> Vec<Arc<Flow>> {
        let mut inner = self.lock();
        inner.closed = true;
        let entries = std::mem::take(&mut inner.entries);
        drop(inner);
        let flows = entries.into_values().filter_map(|entry| match entry {
            Entry::Open(flow) => Some(flow),
            Entry::Pending(..) => None,
        });
        flows.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
