//! Datagrams of the guest and the answers to them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use smoltcp::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN};

use super::shared::Shared;
use super::wire;

/// A datagram of the guest to a unicast address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// The guest's address and port.
    pub(crate) src: SocketAddr,
    /// Where it is for.
    pub(crate) dst: SocketAddr,
    /// What it carries.
    pub(crate) payload: Bytes,
}

/// What is done with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UdpVerdict {
    /// It is served, or dropped in silence.
    Taken,
    /// The guest is told at once that nobody is at that port, so that QUIC falls back.
    Refused,
}

/// Why an answer was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UdpReplyError {
    /// It does not fit in one packet.
    #[error("a datagram of {size} bytes is larger than the {limit} that fit in a packet")]
    TooLarge {
        /// Its bytes.
        size: usize,
        /// The most there could be.
        limit: usize,
    },
    /// The guest does not read; a datagram may be lost.
    #[error("no room for a datagram to the guest")]
    Congested,
}

/// Sends answers from where the guest sent its datagram to, back to where it came from.
#[derive(Clone, Debug)]
pub(crate) struct UdpReplies {
    shared: Arc<Shared>,
    from: SocketAddr,
    to: SocketAddr,
}

impl UdpReplies {
    pub(super) fn new(shared: &Arc<Shared>, from: SocketAddr, to: SocketAddr) -> Self {
        Self { shared: Arc::clone(shared), from, to }
    }

    /// Largest payload in bytes: packets are not fragmented.
    pub(crate) fn limit(&self) -> usize {
        let header = if self.from.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
        self.shared.mtu - header - UDP_HEADER_LEN
    }

    /// Sends a datagram to the guest.
    ///
    /// # Errors
    /// It is too large for a packet, or there is no room for it.
    pub(crate) fn send(&self, payload: &[u8]) -> Result<(), UdpReplyError> {
        let (size, limit) = (payload.len(), self.limit());
        if size > limit {
            return Err(UdpReplyError::TooLarge { size, limit });
        }
        if self.shared.egress.is_full() {
            return Err(UdpReplyError::Congested);
        }
        let from = (self.from.ip().into(), self.from.port());
        wire::datagram(&self.shared, from, (self.to.ip().into(), self.to.port()), payload);
        self.shared.flush();
        Ok(())
    }
}
