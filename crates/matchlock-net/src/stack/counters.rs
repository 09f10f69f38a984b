//! What was discarded, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a frame of the guest, or what it asked for, went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discard {
    /// Empty, larger than the MTU allows, truncated, or with a wrong checksum.
    Malformed,
    /// Not from the guest's MAC or IP address, or not to the gateway's MAC address.
    Foreign,
    /// A part of a fragmented packet.
    Fragment,
    /// IPv4 options or IPv6 extension headers.
    Options,
    /// A protocol that ends here: anything but ARP, ICMP, TCP and UDP.
    Protocol,
    /// Broadcast, multicast, loopback, unspecified or the guest's own address as destination.
    Destination,
    /// ICMP that nothing here answers.
    Icmp,
    /// A connection beyond the bound of the table; it was reset.
    TableFull,
    /// A segment that belongs to no connection; it was reset.
    NoFlow,
    /// A datagram that the handler refused; the guest was told.
    UdpRefused,
}

const REASONS: usize = Discard::UdpRefused as usize + 1;

/// A count for each [`Discard`], and the bytes on the link to the guest.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    discarded: [AtomicU64; REASONS],
    received: AtomicU64,
    sent: AtomicU64,
}

/// Bytes on the link to the guest: Ethernet frames, each with its length in four bytes before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the guest.
    pub received: u64,
    /// To it.
    pub sent: u64,
}

impl Counters {
    /// How often it happened since the start.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests ask"))]
    pub(crate) fn get(&self, reason: Discard) -> u64 {
        self.discarded[reason as usize].load(Ordering::Relaxed)
    }

    /// The bytes that went over the link so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic { received: load(&self.received), sent: load(&self.sent) }
    }

    pub(super) fn came(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn went(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count(&self, reason: Discard) {
        self.discarded[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}
