//! What the stack, the flows and their streams have in common.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetProtocol, IpRepr, Ipv4Packet, Ipv6Packet};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::clock::Clock;
use super::connection::Cause;
use super::counters::Counters;
use super::egress::{Attempt, Egress};
use super::table::{FlowKey, Table};
use super::timers::Timers;
use super::{MAX_MTU, MIN_MTU, StackConfig};

/// One for each stack.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    /// Bytes of an IP packet.
    pub(super) mtu: usize,
    pub(super) egress: Egress,
    pub(super) table: Table,
    pub(super) timers: Timers,
    pub(super) counters: Arc<Counters>,
    /// Tells the task of the stack to look at its timers, and at the flows that wait.
    pub(super) wake: Notify,
    /// Where frames go; without it somebody takes them out.
    pub(super) socket: Option<UnixStream>,
    seeds: RandomState,
}

impl Shared {
    pub(super) fn new(config: &StackConfig, clock: Clock, socket: Option<UnixStream>) -> Arc<Self> {
        let addressing = &config.addressing;
        Arc::new(Self {
            clock,
            mtu: config.mtu.clamp(MIN_MTU, MAX_MTU) as usize,
            egress: Egress::new(addressing.guest_mac, addressing.gateway_mac),
            table: Table::default(),
            timers: Timers::default(),
            counters: Arc::default(),
            wake: Notify::new(),
            socket,
            seeds: RandomState::new(),
        })
    }

    /// Appends an IP packet whose payload `fill` writes into zeroes.
    pub(super) fn send(&self, ip: &IpRepr, fill: impl FnOnce(&mut [u8], &ChecksumCapabilities)) {
        let checksums = ChecksumCapabilities::default();
        let (protocol, header) = (protocol_of(ip), ip.header_len());
        self.egress.append(protocol, ip.buffer_len(), |packet| {
            packet.fill(0);
            let (head, payload) = packet.split_at_mut(header);
            emit_header(ip, head, &checksums);
            fill(payload, &checksums);
        });
    }

    /// Writes to the guest what there is to write, and leaves the rest to the task of the stack.
    pub(super) fn flush(&self) {
        let Some(socket) = &self.socket else { return };
        let stalled = self.egress.flush(Attempt::Fresh, |bytes| self.write(socket, bytes));
        if stalled || self.egress.is_awaited() {
            self.wake.notify_one();
        }
    }

    /// Writes to the guest, and counts it.
    pub(super) fn write(&self, socket: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
        let written = socket.try_write(bytes)?;
        self.counters.went(written);
        Ok(written)
    }

    /// Writes what there is, by `write`, and lets waiting flows fill the room that this makes.
    pub(super) fn drain(&self, write: impl Fn(&[u8]) -> io::Result<usize>) {
        self.egress.flush(Attempt::Again, &write);
        while let Some(flow) = self.egress.unblock() {
            flow.settle(Cause::Room);
            self.egress.flush(Attempt::Fresh, &write);
        }
    }

    /// Settles the flows whose deadline has come.
    pub(super) fn run_timers(&self) {
        let now = self.clock.now();
        while let Some(flow) = self.timers.due(now) {
            flow.settle(Cause::Timer);
        }
    }

    /// The guest is gone, or nobody serves it any more.
    pub(super) fn close(&self) {
        self.egress.close();
        for flow in self.table.close() {
            flow.vanish();
        }
    }

    /// What a guest cannot guess: initial sequence numbers come from it.
    pub(super) fn seed(&self, key: &FlowKey) -> u64 {
        self.seeds.hash_one((key, self.clock.now().total_micros()))
    }
}

fn protocol_of(ip: &IpRepr) -> EthernetProtocol {
    match ip {
        IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
        IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
    }
}

fn emit_header(ip: &IpRepr, head: &mut [u8], checksums: &ChecksumCapabilities) {
    match ip {
        IpRepr::Ipv4(repr) => repr.emit(&mut Ipv4Packet::new_unchecked(head), checksums),
        IpRepr::Ipv6(repr) => repr.emit(&mut Ipv6Packet::new_unchecked(head)),
    }
}
