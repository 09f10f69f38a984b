//! What the audit trail is told of an exchange.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::audit::Event;
use crate::cause::Cause;
use crate::engine::Shared;

/// The response half of an exchange's record. It is written when this is dropped, so that every
/// request has one, however its exchange ends.
#[derive(Debug)]
pub(super) struct Record {
    shared: Arc<Shared>,
    pub(super) request: u64,
    started: Instant,
    status: AtomicU16,
    up: AtomicU64,
    down: AtomicU64,
    error: Mutex<Option<Cause>>,
    in_body: InBody,
}

/// The names of the secrets that were put into the body of a request.
pub(super) type InBody = Arc<Mutex<Vec<String>>>;

impl Record {
    pub(super) fn new(shared: Arc<Shared>, request: u64, started: Instant) -> Self {
        Self {
            shared,
            request,
            started,
            status: AtomicU16::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            error: Mutex::default(),
            in_body: InBody::default(),
        }
    }

    /// Where to note secrets that go into the body.
    pub(super) fn in_body(&self) -> InBody {
        Arc::clone(&self.in_body)
    }

    /// The status that the guest sees.
    pub(super) fn status(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Bytes of the request's body.
    pub(super) fn up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of the response's body.
    pub(super) fn down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What went wrong; the first one counts.
    pub(super) fn failed(&self, error: Cause) {
        let mut kept = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(error);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let status = *self.status.get_mut();
        let mut error = self.error.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if status == 0 && error.is_none() {
            error = Some("the exchange was cut off before an answer".into());
        }
        let event = Event::Response {
            request: self.request,
            status,
            bytes_up: *self.up.get_mut(),
            bytes_down: *self.down.get_mut(),
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error,
            secrets: self.in_body.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        // A lost event closes the network; there is nothing more to refuse here.
        let _ = self.shared.audit(&event);
    }
}
