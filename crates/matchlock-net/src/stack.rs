//! Ethernet frames to flows.
//!
//! The guest's frames arrive over a Unix stream socket, and here they end: a small front answers
//! ARP, neighbour discovery and echo for the gateway, hands datagrams to the [`Handler`], and gives
//! each TCP connection a state machine of its own, which the relay reads and writes as a stream.
//!
//! What there is no code for cannot leave: fragments, IP options, extension headers and every
//! protocol but TCP, UDP and echo to the gateway are counted and dropped. This module knows no
//! policy, no names and no socket to the outside; it is told what to do with a flow by the
//! [`Handler`].
//!
//! Bounds, all of them independent of the guest: [`MAX_FLOWS`] connections, with the SYNs that
//! wait for a decision among them, the buffers of a flow (smaller when there are many), and the
//! bytes on their way to the guest. No frame towards the guest is ever dropped for want of room:
//! the flow waits.

mod clock;
mod connection;
mod core;
mod counters;
mod deframe;
mod egress;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(any(test, feature = "fuzzing"))]
mod guest_frames;
mod pending;
mod run;
mod shared;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod udp;
mod wire;

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::clock::Clock;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::core::StackCore;
pub use self::counters::Traffic;
pub(crate) use self::counters::{Counters, Discard};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::deframe::Deframer;
pub(crate) use self::deframe::OutOfStep;
pub(crate) use self::pending::PendingFlow;
pub(crate) use self::run::Stack;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::stream::TcpFlow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::table::MAX_FLOWS;
#[cfg(test)]
pub(crate) use self::udp::UdpReplyError;
pub(crate) use self::udp::{Datagram, UdpReplies, UdpVerdict};

/// The smallest MTU: what IPv6 needs (RFC 8200, section 5).
pub(crate) const MIN_MTU: u32 = 1280;
/// The largest MTU: an IPv4 packet of it still has a length in 16 bits, and a multiple of 8.
pub(crate) const MAX_MTU: u32 = 65520;

/// What the stack is to be.
#[derive(Clone, Debug)]
pub(crate) struct StackConfig {
    /// Largest IP packet in bytes, without the Ethernet header; kept within [`MIN_MTU`] and
    /// [`MAX_MTU`].
    pub mtu: u32,
    /// Who is who on the link.
    pub addressing: Addressing,
}

/// The two stations on the link. Every address that is not the guest's is behind the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Addressing {
    /// The only source that a frame of the guest may have.
    pub guest_mac: [u8; 6],
    /// The source of all frames to the guest.
    pub gateway_mac: [u8; 6],
    /// The only IPv4 source that the guest may use.
    pub guest_v4: Ipv4Addr,
    /// What answers echo requests, and usually DNS.
    pub gateway_v4: Ipv4Addr,
    /// The only IPv6 source that the guest may use, neighbour discovery aside.
    pub guest_v6: Ipv6Addr,
    /// What answers echo requests, and usually DNS.
    pub gateway_v6: Ipv6Addr,
}

impl Default for Addressing {
    fn default() -> Self {
        Self {
            guest_mac: [0x02, 0x6d, 0x6c, 0, 0, 2],
            gateway_mac: [0x02, 0x6d, 0x6c, 0, 0, 1],
            guest_v4: Ipv4Addr::new(198, 18, 0, 2),
            gateway_v4: Ipv4Addr::new(198, 18, 0, 1),
            guest_v6: Ipv6Addr::new(0xfd6d, 0x6c6b, 0, 0, 0, 0, 0, 2),
            gateway_v6: Ipv6Addr::new(0xfd6d, 0x6c6b, 0, 0, 0, 0, 0, 1),
        }
    }
}

/// Who decides about flows and datagrams. Called in the task of the stack: must not block.
pub(crate) trait Handler: Debug + Send + Sync + 'static {
    /// The guest opens a connection. It waits until the flow is accepted, or refused, or dropped.
    fn syn(self: &Arc<Self>, flow: PendingFlow);

    /// The guest sent a datagram to a unicast address.
    fn udp(self: &Arc<Self>, datagram: Datagram, replies: UdpReplies) -> UdpVerdict;
}
