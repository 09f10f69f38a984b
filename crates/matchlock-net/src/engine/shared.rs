//! What all flows of a sandbox share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use matchlock_intercept::hooks::Rules;
use matchlock_policy::Policy;
use tokio::sync::watch;

use crate::audit::{Audit, AuditLost, Event};
use crate::http::{Budget, Room};
use crate::own_addresses::Watched;
use crate::refusals::{Refusal, Refusals};

/// Policy, audit trail, hooks and counters of one sandbox. No lock is held across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    policy: watch::Sender<Policy>,
    own: Watched,
    closed: watch::Sender<bool>,
    audit: Arc<dyn Audit>,
    refusals: Mutex<Refusals>,
    rules: Rules,
    callback_socket: Option<PathBuf>,
    flows: AtomicU64,
    requests: AtomicU64,
    http2: Budget,
    held: Room,
}

impl Shared {
    pub(crate) fn new(
        policy: Policy,
        own: Watched,
        audit: Arc<dyn Audit>,
        rules: Rules,
        callback_socket: Option<PathBuf>,
    ) -> Self {
        Self {
            policy: watch::Sender::new(policy),
            own,
            closed: watch::Sender::new(false),
            audit,
            refusals: Mutex::default(),
            rules,
            callback_socket,
            flows: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            http2: Budget::default(),
            held: Room::default(),
        }
    }

    /// The policy of this moment, on this host as it is at this moment.
    pub(crate) fn policy(&self) -> Policy {
        let policy = self.policy.borrow().clone();
        policy.on_host(self.own.now())
    }

    /// Puts another policy in force, for what comes and, on their next decision, for what runs.
    pub(crate) fn replace_policy(&self, policy: Policy) {
        self.policy.send_replace(policy);
    }

    /// Tells of each new policy.
    pub(crate) fn policy_changes(&self) -> watch::Receiver<Policy> {
        self.policy.subscribe()
    }

    /// Records an event. When that fails the network closes, for good.
    ///
    /// # Errors
    ///
    /// The event is lost, or an earlier one was: what it tells of must not happen.
    pub(crate) fn audit(&self, event: &Event) -> Result<(), AuditLost> {
        if self.is_closed() {
            return Err(AuditLost::new("an earlier event was lost"));
        }
        self.audit.record(event).inspect_err(|error| {
            tracing::error!(%error, "the network is closed");
            self.closed.send_replace(true);
        })
    }

    /// Whether an event of the audit trail was lost: nothing may pass any more.
    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Ends when the network is closed.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Counts something that was refused, for whoever wonders why the guest does not get on.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).add(refusal);
    }

    /// What was refused so far, and how many distinct refusals found no place in the list.
    pub(crate) fn refusals(&self) -> (Vec<Refusal>, u64) {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        (refusals.list(), refusals.beyond())
    }

    /// The rules of hooks, in their order.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Where callbacks of hooks are served.
    pub(crate) fn callback_socket(&self) -> Option<&Path> {
        self.callback_socket.as_deref()
    }

    /// What connections of HTTP/2 hold together.
    pub(crate) fn http2(&self) -> &Budget {
        &self.http2
    }

    /// What bodies that are held back take together.
    pub(crate) fn held(&self) -> &Room {
        &self.held
    }

    /// A number for a flow; the first is 1.
    pub(crate) fn next_flow(&self) -> u64 {
        self.flows.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number for a request; the first is 1.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}
