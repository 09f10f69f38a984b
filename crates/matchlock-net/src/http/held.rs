//! What all bodies that are held back take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all bodies of a sandbox that are held back at the same time. One that is being edited has
/// two more copies for that moment, in which its thread does nothing else.
pub(super) const ALL_HELD: usize = 128 << 20;

/// Shared by the exchanges of a sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// The room that one body has taken, for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    room: Room,
    taken: Option<OwnedSemaphorePermit>,
}

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_HELD)))
    }
}

impl Room {
    /// For a body of which nothing is held yet.
    pub(super) fn place(&self) -> Place {
        Place { room: self.clone(), taken: None }
    }
}

impl Place {
    /// Takes room for so many bytes more; `false` if there is none, and nothing is taken.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        match (Arc::clone(&self.room.0).try_acquire_many_owned(bytes), &mut self.taken) {
            (Ok(more), Some(taken)) => taken.merge(more),
            (Ok(first), taken) => *taken = Some(first),
            (Err(_), _) => return false,
        }
        true
    }
}
