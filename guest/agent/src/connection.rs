//! One connection from the host: frames in, frames out, an orderly end.

use std::io;
use std::time::{Duration, Instant};

use matchlock_proto::{AgentFrame, Decoder, HostFrame, StreamId, WireError, WireMessage};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::poller::{EventFlags, Watched};

/// Bytes queued towards the host beyond which no output is read.
const OUTBOX: usize = 128 * 1024;

/// How long the host may take to close after the last frame.
const LINGER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Frames travel in both directions.
    Open,
    /// The last frame is queued.
    Finishing,
    /// It was sent; closing now could reset the connection before the host has read it.
    Lingering(Instant),
}

/// What a read has brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Perhaps frames.
    Some,
    /// The host has closed, or the connection is broken.
    Closed,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Watched,
    decoder: Decoder<HostFrame>,
    outbox: Vec<u8>,
    sent: usize,
    stage: Stage,
}

impl Connection {
    pub(crate) fn new(socket: Watched) -> Self {
        let (decoder, outbox) = (Decoder::new(), Vec::new());
        Self { socket, decoder, outbox, sent: 0, stage: Stage::Open }
    }

    /// Reads once.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Received {
        match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
            Ok((_, n)) if n > 0 => {
                if self.stage == Stage::Open {
                    self.decoder.push(scratch.get(..n).unwrap_or_default());
                }
                Received::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Received::Some,
            Ok(_) | Err(_) => Received::Closed,
        }
    }

    /// The next frame of the host; none after the last frame of ours.
    pub(crate) fn next(&mut self) -> Result<Option<HostFrame>, WireError> {
        if self.stage == Stage::Open { self.decoder.next() } else { Ok(None) }
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, frame: &AgentFrame) {
        if self.stage == Stage::Open {
            frame.encode(&mut self.outbox);
        }
    }

    /// Queues bytes of an output.
    pub(crate) fn send_output(&mut self, stream: StreamId, data: &[u8]) {
        if self.stage == Stage::Open {
            AgentFrame::encode_output(stream, data, &mut self.outbox);
        }
    }

    /// Queues the last frame.
    pub(crate) fn finish(&mut self, frame: &AgentFrame) {
        self.send(frame);
        if self.stage == Stage::Open {
            self.stage = Stage::Finishing;
        }
    }

    /// The last frame was queued: the connection needs its execution no more.
    pub(crate) fn is_finished(&self) -> bool {
        self.stage != Stage::Open
    }

    /// Bytes of output that may be queued now.
    pub(crate) fn room(&self) -> usize {
        OUTBOX.saturating_sub(self.outbox.len() - self.sent)
    }

    /// Sends `last` and gives the socket away: what follows are no frames.
    ///
    /// # Errors
    /// When the socket does not take it, or the host was too early with what follows.
    pub(crate) fn into_raw(mut self, last: &AgentFrame) -> io::Result<Watched> {
        self.send(last);
        if self.decoder.is_mid_frame() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Self { socket, outbox, sent, .. } = self;
        let bytes = outbox.get(sent..).unwrap_or_default();
        // A few bytes as the first answer on a connection: they fit, or the host is not reading.
        match send(&socket, bytes, SendFlags::NOSIGNAL)? {
            n if n == bytes.len() => Ok(socket),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self, now: Instant) -> io::Result<()> {
        while let Some(rest) = self.outbox.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.sent >= OUTBOX {
                        self.outbox.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        if self.stage == Stage::Finishing {
            shutdown(&self.socket, Shutdown::Write)?;
            self.stage = Stage::Lingering(now + LINGER);
        }
        Ok(())
    }

    /// When the connection is dropped although the host keeps it.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Lingering(until) => Some(until),
            Stage::Open | Stage::Finishing => None,
        }
    }

    /// Watches for what there is to do.
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        let unsent = self.sent < self.outbox.len();
        self.socket.want(if unsent { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN })
    }
}
