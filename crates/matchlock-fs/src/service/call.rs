//! One message under way, and how it sleeps and wakes.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::task::{Wake, Waker};

use super::lanes::Lanes;
use super::{Bounds, Message};
use crate::context::{Call, Entered};
use crate::pool::lock;
use crate::provider::Provider;
use crate::request::Header;
use crate::server::Server;
use crate::types::Errno;

/// A message on its way through a lane.
pub(super) struct Job<M: Message> {
    pub(super) header: Header,
    /// The whole message, once it was read and the operation waited.
    pub(super) bytes: Option<Bytes>,
    lane: usize,
    ticket: Arc<Ticket<M>>,
    entered: Entered,
    _held: Option<Held>,
    /// Last: when it is dropped without an answer, the job counts nowhere any more.
    pub(super) message: M,
}

/// What became of an operation that has to wait.
pub(super) enum Parking<M: Message> {
    /// It comes back to its lane when it is woken.
    Parked,
    /// It was woken already.
    Woken(Job<M>),
}

/// The side of a job that its waker knows.
struct Ticket<M: Message> {
    lanes: Weak<Lanes<Job<M>>>,
    slot: Mutex<Slot<M>>,
    /// For operations that wait on their thread.
    woken: Condvar,
}

enum Slot<M: Message> {
    /// In its lane or on a thread.
    Awake {
        woken: bool,
    },
    Parked(Job<M>),
}

impl<M: Message> Job<M> {
    pub(super) fn new<P: Provider + ?Sized>(
        message: M,
        header: Header,
        bytes: Option<Bytes>,
        held: Option<Held>,
        lane: usize,
        server: &Server<P>,
        lanes: &Arc<Lanes<Self>>,
    ) -> Self {
        let ticket = Arc::new(Ticket {
            lanes: Arc::downgrade(lanes),
            slot: Mutex::new(Slot::Awake { woken: false }),
            woken: Condvar::new(),
        });
        let entered = server.calls().enter(header.unique, Waker::from(Arc::clone(&ticket)));
        Self { header, bytes, lane, ticket, entered, _held: held, message }
    }

    pub(super) const fn call(&self) -> &Arc<Call> {
        self.entered.call()
    }

    /// Before the answer goes out: from then on the client may use the number again.
    pub(super) fn into_message(self) -> M {
        self.message
    }

    /// Lays the operation aside with its bytes until it is woken. With no room for them it waits here.
    pub(super) fn park(mut self, bounds: &Arc<Bounds>, request: &mut Vec<u8>) -> Parking<M> {
        let ticket = Arc::clone(&self.ticket);
        let mut slot = lock(&ticket.slot);
        loop {
            if let Slot::Awake { woken: woken @ true } = &mut *slot {
                *woken = false;
                return Parking::Woken(self);
            }
            if let Some(bytes) = Bytes::budgeted(bounds, request) {
                self.bytes = Some(bytes);
                *slot = Slot::Parked(self);
                return Parking::Parked;
            }
            slot = ticket.woken.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<M: Message> Wake for Ticket<M> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut slot = lock(&self.slot);
        let job = match std::mem::replace(&mut *slot, Slot::Awake { woken: false }) {
            Slot::Parked(job) => job,
            Slot::Awake { .. } => {
                *slot = Slot::Awake { woken: true };
                self.woken.notify_all();
                return;
            }
        };
        drop(slot);
        // Without lanes the service has ended, and the transport answers what is dropped.
        if let Some(lanes) = self.lanes.upgrade() {
            drop(lanes.push(job.lane, job));
        }
    }
}

/// A message that counts among those of its lane.
#[derive(Debug)]
pub(super) struct Held(Arc<Bounds>, usize);

impl Held {
    pub(super) fn take(bounds: &Arc<Bounds>, lane: usize) -> Option<Self> {
        bounds.messages[lane].take(Errno::EAGAIN).ok()?;
        Some(Self(Arc::clone(bounds), lane))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.messages[self.1].give_back(1);
    }
}

/// The bytes of a message, and their place in the budget if they are parked.
#[derive(Debug)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    budget: Option<Arc<Bounds>>,
}

impl Bytes {
    pub(super) const fn unbudgeted(bytes: Vec<u8>) -> Self {
        Self { bytes, budget: None }
    }

    /// Takes the bytes out of a buffer, if there is room for what it holds.
    fn budgeted(bounds: &Arc<Bounds>, buffer: &mut Vec<u8>) -> Option<Self> {
        // A buffer that held a long message before is not kept for a short one.
        buffer.shrink_to(4096);
        bounds.parked.take_many(buffer.capacity(), Errno::ENOMEM).ok()?;
        Some(Self { bytes: std::mem::take(buffer), budget: Some(Arc::clone(bounds)) })
    }

    pub(super) fn into_inner(mut self) -> Vec<u8> {
        // Counted until here: dropping `self` gives the empty rest back.
        if let Some(bounds) = self.budget.take() {
            bounds.parked.give_back(self.bytes.capacity());
        }
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(bounds) = &self.budget {
            bounds.parked.give_back(self.bytes.capacity());
        }
    }
}
