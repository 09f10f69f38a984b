//! A TCP connection inside the guest that the host has asked for: bytes both ways.
//!
//! ```text
//!  Connecting ──► Open ──► both directions ended ──► dropped
//!      │ next address, then Refused
//! ```
//! Each direction holds at most one buffer, and reads only when that is empty: the two sockets do
//! the flow control. An end of one direction is passed on and leaves the other as it is.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, connect, recv, send,
    shutdown, socket_with, sockopt,
};

use crate::poller::{EventFlags, Poller, Watched};

/// Bytes that each direction holds.
const BUFFER: usize = 64 * 1024;

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing to tell.
    Going,
    /// It was made just now.
    Connected,
    /// It cannot be made.
    Refused(String),
}

/// One forwarded connection.
#[derive(Debug)]
pub(crate) struct Forward {
    tcp: Watched,
    stage: Stage,
    to_guest: Direction,
    to_host: Direction,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// With the address to try after this one.
    Connecting(Option<SocketAddr>),
    Open,
}

/// Bytes on their way from one socket to the other.
#[derive(Debug, Default)]
struct Direction {
    bytes: Vec<u8>,
    sent: usize,
    ended: bool,
    told: bool,
}

impl Forward {
    /// Begins to connect to a port of the guest's loopback interface.
    ///
    /// # Errors
    /// When the kernel has no socket for it.
    pub(crate) fn start(port: u16, poller: &Poller, token: u64) -> io::Result<Self> {
        let first = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let second = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let mut tcp = poller.watch(open(first)?, token);
        tcp.want(EventFlags::OUT)?;
        let stage = Stage::Connecting(Some(second));
        Ok(Self { tcp, stage, to_guest: Direction::default(), to_host: Direction::default() })
    }

    /// Whether bytes flow already.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// An event on the TCP socket while it connects.
    pub(crate) fn on_connect(&mut self, poller: &Poller, token: u64) -> Progress {
        let Stage::Connecting(next) = &mut self.stage else {
            return Progress::Going;
        };
        let Err(errno) = sockopt::socket_error(&self.tcp).and_then(|result| result) else {
            self.stage = Stage::Open;
            return Progress::Connected;
        };
        let Some(address) = next.take() else {
            return Progress::Refused(io::Error::from(errno).to_string());
        };
        let retried = open(address).and_then(|socket| {
            // The old one first: both have the same token.
            self.tcp.want(EventFlags::empty())?;
            self.tcp = poller.watch(socket, token);
            self.tcp.want(EventFlags::OUT)
        });
        match retried {
            Ok(()) => Progress::Going,
            // What the first address said is what the user knows the port by.
            Err(_) => Progress::Refused(io::Error::from(errno).to_string()),
        }
    }

    /// Moves what can be moved now, then watches for more.
    ///
    /// # Errors
    /// When either connection is broken; both are to be dropped then.
    pub(crate) fn pump(&mut self, host: &mut Watched, scratch: &mut [u8]) -> io::Result<()> {
        self.to_guest.pump(host, &self.tcp, scratch)?;
        self.to_host.pump(&self.tcp, host, scratch)?;
        let wants = |incoming: &Direction, outgoing: &Direction| {
            let mut events = EventFlags::empty();
            events.set(EventFlags::IN, incoming.can_read());
            events.set(EventFlags::OUT, !outgoing.is_empty());
            events
        };
        host.want(wants(&self.to_guest, &self.to_host))?;
        self.tcp.want(wants(&self.to_host, &self.to_guest))
    }

    /// Both directions have ended and everything was passed on.
    pub(crate) fn is_over(&self) -> bool {
        self.to_guest.told && self.to_host.told
    }
}

impl Direction {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn can_read(&self) -> bool {
        self.is_empty() && !self.ended
    }

    /// Reads once and writes as long as that goes.
    fn pump(&mut self, from: &Watched, to: &Watched, scratch: &mut [u8]) -> io::Result<()> {
        self.write(to)?;
        if self.can_read() {
            let length = scratch.len().min(BUFFER);
            let buffer = scratch.get_mut(..length).unwrap_or_default();
            match recv(from, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => self.ended = true,
                Ok((_, n)) => self.bytes.extend(buffer.get(..n).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.write(to)
    }

    fn write(&mut self, to: &Watched) -> io::Result<()> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send(to, rest, SendFlags::NOSIGNAL) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        if self.ended && !self.told {
            self.told = true;
            match shutdown(to, Shutdown::Write) {
                // The peer has closed altogether: there is nobody to tell.
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// A socket that is connecting.
fn open(address: SocketAddr) -> io::Result<std::os::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    // Interactive traffic goes through here: no waiting for more bytes.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}
