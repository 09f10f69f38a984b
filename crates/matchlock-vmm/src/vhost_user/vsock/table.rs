//! All connections of one guest, and the packets that belong to none.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;

use rustix::event::epoll::EventFlags;

use super::buffer::Buffer;
use super::doorbell::Doorbell;
use super::entry::Entry;
use super::wire::{HEADER_LEN, Header, Op, Packet, Rejected};
use crate::Answered;
use crate::vhost_user::event_loop::Poller;

/// Connections at a time. With [`super::flow::BUF_ALLOC`] each this bounds what a guest can make us
/// hold: 128 MiB, when the host reads none of them.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// RST packets that wait for a buffer of the guest. A guest that sends more rubbish than it takes
/// answers gets no further answers.
pub(super) const MAX_RESETS: usize = 128;

/// Host ports below look like well-known ones.
const FIRST_PORT: u32 = 0x4000_0000;
/// The port after is `VMADDR_PORT_ANY`.
const LAST_PORT: u32 = u32::MAX - 1;

/// The connections, by host port.
#[derive(Debug)]
pub(super) struct Table {
    guest_cid: u64,
    entries: HashMap<u32, Entry>,
    last_port: u32,
    /// Host ports that may have something to send, each once.
    ready: VecDeque<u32>,
    resets: VecDeque<Header>,
    doorbell: Doorbell,
}

impl Table {
    pub(super) fn new(guest_cid: u64, doorbell: Doorbell) -> Self {
        Self {
            guest_cid,
            entries: HashMap::new(),
            last_port: LAST_PORT,
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            doorbell,
        }
    }

    /// Starts a connection to a port of the guest; `answer` is told how it went.
    pub(super) fn dial(
        &mut self,
        guest_port: u32,
        socket: UnixStream,
        answer: Answered,
        poller: &Poller,
    ) {
        if self.entries.len() >= MAX_CONNECTIONS && !self.evict() {
            answer.tell(Err(io::ErrorKind::QuotaExceeded.into()));
            return;
        }
        let host_port = self.free_port();
        let mut entry = Entry::dial(host_port, guest_port, socket, answer);
        match entry.watch(poller) {
            Ok(()) => {
                self.entries.insert(host_port, entry);
                self.settle(host_port);
            }
            Err(error) => entry.answer(Err(error)),
        }
    }

    /// A port that no connection uses; there are more ports than connections.
    fn free_port(&mut self) -> u32 {
        loop {
            self.last_port =
                if self.last_port == LAST_PORT { FIRST_PORT } else { self.last_port + 1 };
            if !self.entries.contains_key(&self.last_port) {
                return self.last_port;
            }
        }
    }

    /// Gives up a connection whose host end is closed and that only waits for the guest.
    fn evict(&mut self) -> bool {
        let lingering = self.entries.iter().find(|(_, entry)| entry.flow.is_abandoned());
        let Some(host_port) = lingering.map(|(port, _)| *port) else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&host_port) {
            self.push_reset(self.bare(Op::Reset, entry.guest_port, host_port));
        }
        true
    }

    pub(super) fn on_event(&mut self, host_port: u32, events: EventFlags, poller: &Poller) {
        if let Some(entry) = self.entries.get_mut(&host_port) {
            entry.on_event(events, poller);
            self.settle(host_port);
        }
    }

    /// Takes one packet of the guest; `payload` is all that stood behind the header.
    pub(super) fn on_packet(&mut self, header: &Header, payload: &mut Buffer<'_>, poller: &Poller) {
        let packet = match Packet::check(header, self.guest_cid) {
            Ok(packet) => packet,
            Err(Rejected::Ignore) => return,
            Err(Rejected::Answer(reset)) => return self.push_reset(reset),
        };
        let known = |entry: &&mut Entry| entry.guest_port == packet.guest_port;
        match self.entries.get_mut(&packet.host_port).filter(known) {
            Some(entry) => {
                if payload.truncate(packet.len as usize) {
                    entry.on_packet(&packet, payload.slices(), poller);
                } else {
                    // Fewer bytes than it says: what follows would be out of step.
                    entry.flow.abort();
                }
                self.settle(packet.host_port);
            }
            None if packet.op == Op::Reset => {}
            None if packet.op == Op::Request => {
                self.doorbell.ring();
                self.push_reset(self.bare(Op::Reset, packet.guest_port, packet.host_port));
            }
            None => self.push_reset(self.bare(Op::Reset, packet.guest_port, packet.host_port)),
        }
    }

    fn bare(&self, op: Op, guest_port: u32, host_port: u32) -> Header {
        let credit = super::wire::Credit::default();
        Packet { guest_port, host_port, op, len: 0, credit }.header(self.guest_cid)
    }

    fn push_reset(&mut self, reset: Header) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(reset);
        }
    }

    /// Removes a connection that is done, queues one that has something to send.
    fn settle(&mut self, host_port: u32) {
        let Some(entry) = self.entries.get_mut(&host_port) else {
            return;
        };
        if entry.is_done() {
            self.entries.remove(&host_port);
        } else if !entry.queued && entry.has_output() {
            entry.queued = true;
            self.ready.push_back(host_port);
        }
    }

    /// Whether [`Table::emit`] may have a packet.
    pub(super) fn has_output(&self) -> bool {
        !self.resets.is_empty() || !self.ready.is_empty()
    }

    /// Writes one packet into a buffer of the guest and tells its length; `None` when there is none.
    pub(super) fn emit(&mut self, buffer: &mut Buffer<'_>) -> Option<u32> {
        let header_len = u32::try_from(HEADER_LEN).ok()?;
        if buffer.len() <= HEADER_LEN {
            // No driver offers a buffer without room for payload: given back unused.
            return Some(0);
        }
        let room = buffer.reserve_header()?;
        if let Some(reset) = self.resets.pop_front() {
            room.write(&reset);
            return Some(header_len);
        }
        while let Some(host_port) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(&host_port) else {
                continue;
            };
            entry.queued = false;
            let packet = next_packet(entry, host_port, buffer);
            // Behind all others, if there is more.
            self.settle(host_port);
            if let Some(packet) = packet {
                room.write(&packet.header(self.guest_cid));
                return Some(header_len + packet.len);
            }
        }
        None
    }
}

/// What only the fuzzer needs to know.
#[cfg(any(test, feature = "fuzzing"))]
impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The port of the n-th connection.
    pub(super) fn nth_port(n: u32) -> u32 {
        FIRST_PORT + n
    }
}

/// The next packet of one connection; its payload is in `buffer` then. Payload first: each packet
/// carries our credit, and the end that a close leaves is found behind the last byte.
fn next_packet(entry: &mut Entry, host_port: u32, buffer: &Buffer<'_>) -> Option<Packet> {
    let read = if entry.has_bytes() { entry.read(buffer) } else { None };
    let (op, len) = match read {
        Some(len) => (Op::Data, len),
        None => (entry.flow.control()?, 0),
    };
    entry.flow.on_sent(op, len);
    let (guest_port, credit) = (entry.guest_port, entry.flow.credit());
    Some(Packet { guest_port, host_port, op, len, credit })
}
