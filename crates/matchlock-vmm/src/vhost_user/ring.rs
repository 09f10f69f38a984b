//! One virtqueue with the two event descriptors that vhost-user adds to it.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;

use super::memory::Memory;

/// A split virtqueue (virtio 1.2, section 2.7) as the device sees it.
#[derive(Debug)]
pub(crate) struct Ring {
    queue: Queue,
    state: State,
    enabled: bool,
    kick: Option<File>,
    call: Option<File>,
    /// How often the ring was stopped.
    stops: Arc<RwLock<u64>>,
}

/// Leave to touch the chains of a ring, until it is stopped: then their memory is the guest's again, for
/// whatever it likes. Other threads ask for it before they do.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    stops: Arc<RwLock<u64>>,
    before: u64,
}

impl Pass {
    /// The ring is not stopped while the guard is there; `None` when it was.
    pub(crate) fn enter(&self) -> Option<RwLockReadGuard<'_, u64>> {
        let stops = self.stops.read().unwrap_or_else(PoisonError::into_inner);
        (*stops == self.before).then_some(stops)
    }
}

/// Whether the ring may be looked at (vhost-user, "Ring states").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No kick descriptor yet, or GET_VRING_BASE.
    Stopped,
    Started,
    /// The driver broke the rules of the ring itself; only a new start helps.
    Broken,
}

impl Ring {
    /// A stopped ring; `max_size` is a power of two.
    pub(crate) fn new(max_size: u16) -> io::Result<Self> {
        let queue = Queue::new(max_size).map_err(io::Error::other)?;
        let stops = Arc::default();
        Ok(Self { queue, state: State::Stopped, enabled: false, kick: None, call: None, stops })
    }

    /// The next chain that the driver made available.
    pub(crate) fn pop<M>(&mut self, memory: M) -> Option<DescriptorChain<M>>
    where
        M: Deref<Target = Memory> + Clone,
    {
        if !self.is_live() {
            return None;
        }
        match self.queue.iter(memory) {
            Ok(mut chains) => chains.next(),
            Err(error) => {
                tracing::debug!(%error, "driver broke its ring");
                self.state = State::Broken;
                None
            }
        }
    }

    /// Leave to touch the chains that were popped so far.
    pub(crate) fn pass(&self) -> Pass {
        let before = *self.stops.read().unwrap_or_else(PoisonError::into_inner);
        Pass { stops: Arc::clone(&self.stops), before }
    }

    /// Takes back the last [`Ring::pop`].
    pub(crate) fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns a chain to the driver with `len` bytes written into it.
    pub(crate) fn give_back(&mut self, memory: &Memory, head: u16, len: u32) {
        if let Err(error) = self.queue.add_used(memory, head, len) {
            tracing::debug!(%error, "driver broke its ring");
            self.state = State::Broken;
        }
    }

    /// Interrupts the driver if it wants to hear of what was given back.
    pub(crate) fn notify(&mut self, memory: &Memory) {
        if self.is_live()
            && self.queue.needs_notification(memory).unwrap_or(false)
            && let Some(call) = &self.call
        {
            // EAGAIN: the counter is full of interrupts that nobody took, one more says nothing new.
            let _ = rustix::io::write(call, &1u64.to_ne_bytes());
        }
    }

    /// Asks the driver for no kicks while we look at the ring anyway.
    pub(crate) fn disarm(&mut self, memory: &Memory) {
        if self.is_live() {
            let _ = self.queue.disable_notification(memory);
        }
    }

    /// Asks the driver for a kick at the next chain; `true` when one is there already.
    pub(crate) fn arm(&mut self, memory: &Memory) -> bool {
        self.is_live() && self.queue.enable_notification(memory).unwrap_or(false)
    }

    /// Empties the kick descriptor.
    pub(crate) fn consume_kick(&self) {
        if let Some(kick) = &self.kick {
            let _ = rustix::io::read(kick, &mut [0u8; 8]);
        }
    }

    fn is_live(&self) -> bool {
        self.enabled && self.state == State::Started
    }
}

/// What the monitor configures.
impl Ring {
    pub(crate) fn set_size(&mut self, size: u32) -> io::Result<()> {
        let size = u16::try_from(size).map_err(io::Error::other)?;
        self.queue.try_set_size(size).map_err(io::Error::other)
    }

    /// Sets where the three parts of the ring are, and takes the used index from the ring: the
    /// monitor only passes on the available index (SET_VRING_BASE).
    pub(crate) fn set_addresses(
        &mut self,
        memory: &Memory,
        descriptors: GuestAddress,
        available: GuestAddress,
        used: GuestAddress,
    ) -> io::Result<()> {
        self.queue.try_set_desc_table_address(descriptors).map_err(io::Error::other)?;
        self.queue.try_set_avail_ring_address(available).map_err(io::Error::other)?;
        self.queue.try_set_used_ring_address(used).map_err(io::Error::other)?;
        let order = std::sync::atomic::Ordering::Acquire;
        let used = self.queue.used_idx(memory, order).map_err(io::Error::other)?;
        self.queue.set_next_used(used.0);
        Ok(())
    }

    pub(crate) fn set_base(&mut self, next_available: u16) {
        self.queue.set_next_avail(next_available);
    }

    pub(crate) fn set_event_idx(&mut self, on: bool) {
        self.queue.set_event_idx(on);
    }

    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// The descriptor to wait on, once the ring is started.
    pub(crate) fn kick(&self) -> Option<BorrowedFd<'_>> {
        self.kick.as_ref().map(File::as_fd)
    }

    /// Starts the ring: from here on the driver may kick.
    pub(crate) fn start(&mut self, kick: File) {
        self.kick = Some(kick);
        self.state = State::Started;
        self.queue.set_ready(true);
    }

    pub(crate) fn set_call(&mut self, call: Option<File>) {
        self.call = call;
    }

    /// Makes every [`Pass`] void, when nobody uses one.
    pub(crate) fn revoke(&self) {
        *self.stops.write().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Stops the ring and tells the next available index. What was popped and not given back stays so.
    pub(crate) fn stop(&mut self) -> u16 {
        self.revoke();
        self.state = State::Stopped;
        self.queue.set_ready(false);
        self.kick = None;
        self.call = None;
        self.queue.next_avail()
    }
}
