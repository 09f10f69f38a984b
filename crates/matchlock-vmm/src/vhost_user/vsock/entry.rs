//! One connection: its flow, and our end of the socket pair whose other end the host holds.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use rustix::event::epoll::EventFlags;
use vm_memory::{VolatileSlice, WriteVolatile};

use super::buffer::{Buffer, into_io};
use super::flow::{Event, Flow, Phase};
use super::wire::Packet;
use crate::Answered;
use crate::vhost_user::event_loop::{Poller, Token};

/// What is known of the host's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// None until the next event.
    Quiet,
    /// There may be some.
    Readable,
    /// The host end wrote its last one: read on until the end shows.
    Ending,
    /// The end was read, or the guest wants none.
    Ended,
}

/// Where the guest's bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Open,
    /// The host end has its end of stream, or reads no more.
    Closed,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    pub(super) guest_port: u32,
    host_port: u32,
    socket: UnixStream,
    source: Source,
    sink: Sink,
    backlog: Backlog,
    answer: Option<Answered>,
    /// Whether the port waits in the table's queue of those that may have something to send.
    pub(super) queued: bool,
}

impl Entry {
    pub(super) fn dial(
        host_port: u32,
        guest_port: u32,
        socket: UnixStream,
        answer: Answered,
    ) -> Self {
        Self {
            flow: Flow::new(),
            guest_port,
            host_port,
            socket,
            source: Source::Quiet,
            sink: Sink::Open,
            backlog: Backlog::default(),
            answer: Some(answer),
            queued: false,
        }
    }

    /// Has the poller tell of the socket from now on.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        poller.add_for(&self.socket, Token::Device(self.host_port), Self::interest(false))
    }

    /// Edges, because a level that we may not act on (no credit, no buffer) would spin.
    fn interest(blocked: bool) -> EventFlags {
        let events = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        if blocked { events | EventFlags::OUT } else { events }
    }

    /// Nothing is left to be done, on either side.
    pub(super) fn is_done(&self) -> bool {
        self.flow.phase() == Phase::Over && (self.backlog.is_empty() || self.sink == Sink::Closed)
    }

    /// Whether there is a packet to send now: this connection needs a turn.
    pub(super) fn has_output(&mut self) -> bool {
        let readable = matches!(self.source, Source::Readable | Source::Ending);
        if readable && self.flow.wants_host_bytes() && self.flow.window() == 0 {
            self.flow.on_starved();
        }
        self.flow.control().is_some() || self.has_bytes()
    }

    /// Whether the host may have bytes that the guest has room for.
    pub(super) fn has_bytes(&self) -> bool {
        matches!(self.source, Source::Readable | Source::Ending) && self.flow.window() > 0
    }

    pub(super) fn on_event(&mut self, events: EventFlags, poller: &Poller) {
        if events.intersects(EventFlags::HUP | EventFlags::ERR) {
            // Both halves are gone: the host end is closed.
            self.flow.on_host_deaf();
            self.forget_backlog();
        }
        if events.contains(EventFlags::OUT) {
            self.flush(poller);
        }
        if self.source != Source::Ended {
            if events.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                self.source = Source::Ending;
            } else if events.contains(EventFlags::IN) && self.source == Source::Quiet {
                self.source = Source::Readable;
            }
        }
        self.settle();
    }

    /// Takes a packet of the guest and its payload, of which there are `packet.len` bytes.
    pub(super) fn on_packet(
        &mut self,
        packet: &Packet,
        payload: &[VolatileSlice<'_>],
        poller: &Poller,
    ) {
        match self.flow.on_packet(packet.op, packet.len, packet.credit) {
            Event::Connected => self.answer(Ok(())),
            Event::Refused => self.answer(Err(io::ErrorKind::ConnectionRefused.into())),
            Event::Deliver => self.deliver(payload, poller),
            Event::Discard | Event::None => {}
        }
        self.settle();
    }

    /// Reads host bytes into `buffer`; `None` when there are none for now or none any more.
    pub(super) fn read(&mut self, buffer: &Buffer<'_>) -> Option<u32> {
        let limit = buffer.len().min(self.flow.window() as usize);
        match buffer.read_from(&self.socket, limit) {
            Ok(0) => self.finish(),
            Ok(n) => {
                if n < limit && self.source == Source::Readable {
                    // Less than asked for: it is empty, and the next byte makes an edge.
                    self.source = Source::Quiet;
                }
                return u32::try_from(n).ok();
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => self.source = Source::Quiet,
                _ => self.finish(),
            },
        }
        None
    }

    fn finish(&mut self) {
        self.source = Source::Ended;
        self.flow.on_host_finished();
    }

    /// Payload goes straight from guest memory into the socket; only what that does not take is
    /// copied, and the guest's credit bounds it.
    fn deliver(&mut self, payload: &[VolatileSlice<'_>], poller: &Poller) {
        let mut payload = payload.iter();
        for slice in payload.by_ref() {
            let taken = if self.backlog.is_empty() { self.write(slice) } else { 0 };
            self.forwarded(taken);
            if self.sink == Sink::Closed {
                return;
            }
            if taken < slice.len() {
                let blocked = self.backlog.is_empty();
                self.backlog.push(slice, taken);
                if blocked {
                    self.expect_room(true, poller);
                }
            }
        }
    }

    fn write(&mut self, slice: &VolatileSlice<'_>) -> usize {
        let mut socket = &self.socket;
        let result = socket.write_volatile(slice).map_err(into_io);
        self.written(result)
    }

    /// Writes what waits, once the socket has room again.
    fn flush(&mut self, poller: &Poller) {
        while !self.backlog.is_empty() {
            let mut socket = &self.socket;
            let result = socket.write(self.backlog.as_slice());
            let taken = self.written(result);
            if taken == 0 {
                return;
            }
            self.backlog.consume(taken);
            self.forwarded(taken);
        }
        self.expect_room(false, poller);
    }

    fn written(&mut self, result: io::Result<usize>) -> usize {
        match result {
            Ok(n) => n,
            Err(error) => {
                let retry = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
                if !retry.contains(&error.kind()) {
                    self.flow.on_host_deaf();
                    self.forget_backlog();
                }
                0
            }
        }
    }

    fn forwarded(&mut self, len: usize) {
        self.flow.on_forwarded(u32::try_from(len).expect("credit bounds what is on the way"));
    }

    fn forget_backlog(&mut self) {
        self.backlog = Backlog::default();
        self.sink = Sink::Closed;
    }

    fn expect_room(&self, blocked: bool, poller: &Poller) {
        let interest = Self::interest(blocked);
        if let Err(error) = poller.change(&self.socket, Token::Device(self.host_port), interest) {
            tracing::warn!(%error, "cannot watch a vsock stream");
        }
    }

    /// Passes on to the host end what the flow has come to.
    fn settle(&mut self) {
        if self.source != Source::Ended && !self.flow.wants_host_bytes() {
            self.source = Source::Ended;
            // The host's next write fails.
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        if self.sink == Sink::Open && self.flow.guest_finished() && self.backlog.is_empty() {
            self.sink = Sink::Closed;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        if matches!(self.flow.phase(), Phase::Over | Phase::Resetting) {
            self.answer(Err(io::ErrorKind::ConnectionRefused.into()));
        }
    }

    /// Nobody waits any more when the deadline has passed.
    pub(super) fn answer(&mut self, result: io::Result<()>) {
        if let Some(answer) = self.answer.take() {
            answer.tell(result);
        }
    }
}

/// Guest bytes that the socket did not take yet.
#[derive(Debug, Default)]
struct Backlog {
    bytes: Vec<u8>,
    taken: usize,
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Appends the slice from `start` on.
    fn push(&mut self, slice: &VolatileSlice<'_>, start: usize) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        let old = self.bytes.len();
        if let Ok(rest) = slice.offset(start) {
            self.bytes.resize(old + rest.len(), 0);
            rest.copy_to(&mut self.bytes[old..]);
        }
    }

    fn consume(&mut self, len: usize) {
        self.taken += len;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}
