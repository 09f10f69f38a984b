//! A connection that the guest asks for.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connection::{Cause, ring_size};
use super::flow::Flow;
use super::shared::Shared;
use super::stream::TcpFlow;
use super::table::{FlowKey, PendingId};

/// A SYN that waits for a decision. Dropping it refuses it.
#[derive(Debug)]
pub(crate) struct PendingFlow {
    shared: Arc<Shared>,
    key: FlowKey,
    id: PendingId,
}

impl PendingFlow {
    pub(super) fn new(shared: &Arc<Shared>, key: FlowKey, id: PendingId) -> Self {
        Self { shared: Arc::clone(shared), key, id }
    }

    /// The guest's address and port.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests ask"))]
    pub(crate) fn src(&self) -> SocketAddr {
        self.key.guest
    }

    /// What the guest wants to reach.
    pub(crate) fn dst(&self) -> SocketAddr {
        self.key.remote
    }

    /// Completes the handshake. What is written before it is complete waits for it.
    ///
    /// If the guest has given up meanwhile, the flow says so when it is read or written.
    pub(crate) fn accept(self) -> TcpFlow {
        let ring = ring_size(self.shared.table.len());
        let flow = Flow::new(&self.shared, self.key, ring);
        match self.shared.table.open(self.id, &flow) {
            Some(syn) => {
                let packet = syn.packet();
                flow.act(Cause::Guest, |connection, now| {
                    connection.receive(&packet, &self.shared.egress, now);
                });
                self.shared.flush();
            }
            None => flow.vanish(),
        }
        TcpFlow::new(flow)
    }

    /// Resets it.
    pub(crate) fn refuse(self) {
        drop(self);
    }
}

impl Drop for PendingFlow {
    fn drop(&mut self) {
        if let Some(syn) = self.shared.table.withdraw(&self.key, Some(self.id)) {
            syn.refuse(&self.shared);
            self.shared.flush();
        }
    }
}
