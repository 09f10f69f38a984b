//! A TCP connection of the guest, shared by the stack, its stream and the timers.
//!
//! Whoever holds the lock reads or writes the rings and lets the connection send what it now can;
//! nothing is handed from task to task. Locks are taken in the order flow, then egress or timers;
//! the table's lock is never held together with that of a flow.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smoltcp::time::Instant;

use super::connection::{Cause, Connection};
use super::shared::Shared;
use super::table::FlowKey;

/// No deadline.
const NEVER: i64 = i64::MAX;

/// A connection, and where it belongs.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) shared: Arc<Shared>,
    /// The deadline in the timers that counts, in microseconds.
    armed: AtomicI64,
    connection: Mutex<Connection>,
}

impl Flow {
    /// A flow that waits for its SYN, with two rings of `ring` bytes.
    pub(super) fn new(shared: &Arc<Shared>, key: FlowKey, ring: usize) -> Arc<Self> {
        let now = shared.clock.now();
        let connection = Connection::new(key.remote, shared.mtu, shared.seed(&key), ring, now);
        Arc::new(Self {
            key,
            shared: Arc::clone(shared),
            armed: AtomicI64::new(NEVER),
            connection: Mutex::new(connection),
        })
    }

    /// Does something to the connection, sends what it then has to send, and wakes who waits.
    pub(super) fn act<R>(
        self: &Arc<Self>,
        cause: Cause,
        action: impl FnOnce(&mut Connection, Instant) -> R,
    ) -> R {
        let shared = &self.shared;
        let mut connection = self.lock();
        // Taken under the lock: time must not run backwards for a connection.
        let now = shared.clock.now();
        let result = action(&mut connection, now);
        connection.settle(&shared.egress, now, cause);
        if connection.waits_for_room() {
            shared.egress.block(Arc::clone(self));
        }
        self.arm(connection.deadline(now));
        let wakers = connection.wakers();
        let leaves = connection.leaves();
        drop(connection);
        wakers.wake();
        if leaves {
            shared.table.remove(self);
        }
        result
    }

    /// Takes an IP packet. True if the flow is to be settled after the batch.
    pub(super) fn receive(&self, packet: &[u8]) -> bool {
        let mut connection = self.lock();
        let now = self.shared.clock.now();
        connection.receive(packet, &self.shared.egress, now)
    }

    /// Looks at the connection again.
    pub(super) fn settle(self: &Arc<Self>, cause: Cause) {
        self.act(cause, |_, _| ());
    }

    /// Ends it without a word to the guest.
    pub(super) fn vanish(&self) {
        let wakers = self.lock().vanish();
        wakers.wake();
    }

    pub(super) fn is_armed(&self, at: Instant) -> bool {
        self.armed.load(Ordering::Relaxed) == at.total_micros()
    }

    pub(super) fn disarm(&self) {
        self.armed.store(NEVER, Ordering::Relaxed);
    }

    fn arm(self: &Arc<Self>, deadline: Option<Instant>) {
        let Some(at) = deadline else { return };
        if at.total_micros() < self.armed.load(Ordering::Relaxed) {
            self.armed.store(at.total_micros(), Ordering::Relaxed);
            if self.shared.timers.push(at, self) {
                self.shared.wake.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
