//! Frames on their way to the guest: one buffer for all flows, emptied with few system calls.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smoltcp::wire::EthernetProtocol;

use super::deframe::PREFIX;
use super::flow::Flow;

const ETHERNET: usize = 14;
/// From here on, flows wait and nothing more is read from the guest.
const FULL: usize = 1024 * 1024;
/// Below this the flows that wait go on.
const ROOM: usize = FULL / 2;

/// Where writing to the socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// Nobody writes.
    Idle,
    /// Somebody writes, and will take what is appended meanwhile.
    Busy,
    /// The socket was full: the stack waits until it is writable.
    Stalled,
    /// The socket is gone, and what is appended with it.
    Broken,
}

/// Whether to try a socket that was full when it was last written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Fresh,
    Again,
}

/// The buffer that all frames to the guest go through.
#[derive(Debug)]
pub(super) struct Egress {
    macs: [u8; 12],
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    filling: Buffer,
    draining: Buffer,
    /// Bytes in `draining` while a writer has taken it out.
    taken: usize,
    writer: Writer,
    blocked: VecDeque<Arc<Flow>>,
    /// The guest is not read until there is room.
    reader_waits: bool,
}

impl Egress {
    pub(super) fn new(guest_mac: [u8; 6], gateway_mac: [u8; 6]) -> Self {
        let mut macs = [0; 12];
        macs[..6].copy_from_slice(&guest_mac);
        macs[6..].copy_from_slice(&gateway_mac);
        let inner = Inner {
            filling: Buffer::default(),
            draining: Buffer::default(),
            taken: 0,
            writer: Writer::Idle,
            blocked: VecDeque::new(),
            reader_waits: false,
        };
        Self { macs, inner: Mutex::new(inner) }
    }

    /// Appends a frame whose payload of `length` bytes `fill` writes, every byte of it.
    ///
    /// Always has room: who asks for much looks at [`Self::is_full`] first.
    pub(super) fn append<R>(
        &self,
        protocol: EthernetProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut inner = self.lock();
        let frame = inner.filling.extend(PREFIX + ETHERNET + length);
        let prefix = u32::try_from(ETHERNET + length).expect("a frame has less than 64 KiB");
        frame[..PREFIX].copy_from_slice(&prefix.to_be_bytes());
        frame[PREFIX..PREFIX + 12].copy_from_slice(&self.macs);
        frame[PREFIX + 12..PREFIX + ETHERNET].copy_from_slice(&u16::from(protocol).to_be_bytes());
        let result = fill(&mut frame[PREFIX + ETHERNET..]);
        if inner.writer == Writer::Broken {
            inner.filling.clear();
        }
        result
    }

    /// Whether flows have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.lock().len() >= FULL
    }

    /// Whether the guest may be read; if not, [`Self::is_awaited`] says when to ask again.
    pub(super) fn admits_reader(&self) -> bool {
        let mut inner = self.lock();
        inner.reader_waits = inner.len() >= FULL;
        !inner.reader_waits
    }

    /// Whether the socket has to become writable before anything moves.
    pub(super) fn is_stalled(&self) -> bool {
        self.lock().writer == Writer::Stalled
    }

    /// Remembers a flow that found no room. It is told once; it says so again if it must.
    pub(super) fn block(&self, flow: Arc<Flow>) {
        self.lock().blocked.push_back(flow);
    }

    /// Whether there is room that a flow or the reader of the guest waits for.
    pub(super) fn is_awaited(&self) -> bool {
        let inner = self.lock();
        inner.len() < ROOM && (inner.reader_waits || !inner.blocked.is_empty())
    }

    /// The flow that has waited longest, if there is room for it.
    pub(super) fn unblock(&self) -> Option<Arc<Flow>> {
        let mut inner = self.lock();
        if inner.len() >= ROOM {
            return None;
        }
        inner.blocked.pop_front()
    }

    /// Writes until nothing is left or `write` would block. True if it is stalled since now.
    pub(super) fn flush(
        &self,
        attempt: Attempt,
        write: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> bool {
        let mut inner = self.lock();
        let stalled = inner.writer == Writer::Stalled;
        if inner.writer == Writer::Busy || (stalled && attempt == Attempt::Fresh) {
            return false;
        }
        while inner.writer != Writer::Broken {
            let Some(mut buffer) = inner.take() else {
                inner.writer = Writer::Idle;
                return false;
            };
            inner.writer = Writer::Busy;
            drop(inner);
            let result = buffer.drain(&write);
            inner = self.lock();
            inner.give_back(buffer);
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    inner.writer = Writer::Stalled;
                    return true;
                }
                Err(_) => inner.fail(),
            }
        }
        false
    }

    /// Forgets everything: the guest is gone.
    pub(super) fn close(&self) {
        let blocked = {
            let mut inner = self.lock();
            inner.fail();
            std::mem::take(&mut inner.blocked)
        };
        drop(blocked);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn len(&self) -> usize {
        self.filling.len() + self.draining.len() + self.taken
    }

    fn take(&mut self) -> Option<Buffer> {
        if self.draining.len() == 0 {
            std::mem::swap(&mut self.filling, &mut self.draining);
        }
        self.taken = self.draining.len();
        (self.taken > 0).then(|| std::mem::take(&mut self.draining))
    }

    fn give_back(&mut self, buffer: Buffer) {
        self.taken = 0;
        self.draining = buffer;
    }

    fn fail(&mut self) {
        self.writer = Writer::Broken;
        self.filling.clear();
        self.draining.clear();
    }
}

/// Bytes to write. What was once initialised stays so: appending zeroes nothing.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    head: usize,
    tail: usize,
}

impl Buffer {
    fn len(&self) -> usize {
        self.tail - self.head
    }

    fn extend(&mut self, length: usize) -> &mut [u8] {
        let begin = self.tail;
        self.tail += length;
        if self.tail > self.bytes.len() {
            self.bytes.resize(self.tail, 0);
        }
        &mut self.bytes[begin..self.tail]
    }

    fn drain(&mut self, write: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.head < self.tail {
            match write(&self.bytes[self.head..self.tail]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.head += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.head = 0;
        self.tail = 0;
    }
}
