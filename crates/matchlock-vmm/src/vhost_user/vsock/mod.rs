//! virtio-vsock (virtio 1.2, section 5.10) where only the host dials.
//!
//! [`VsockConnector::connect`] gives one end of a socket pair; the device's thread holds the other
//! and moves bytes between it and the guest. No port of the host listens: a REQUEST of the guest is
//! answered with RST, always, because there is no code to answer it with anything else. It only
//! rings the [`VsockConnector::wait_for_guest`] bell: an agent that has begun to listen says so.
//!
//! - [`wire`]: the packet header, checked once;
//! - [`flow`]: one stream as a pure state machine (handshake, half close, credit);
//! - `entry`, `table`: flows with their sockets, all connections of a guest;
//! - `buffer`, `device`: descriptor chains and the queues.

mod buffer;
mod device;
mod doorbell;
mod entry;
pub mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod table;
#[cfg(test)]
mod tests;
pub mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

use super::event_loop::{Wake, Worker};
use super::session::Identity;
use crate::Answered;
use device::VsockCore;
use doorbell::Doorbell;

/// Largest queue: what QEMU's virtio-mmio offers to the driver, whatever size the device asked for.
const QUEUE_SIZE: u16 = 1024;

/// Receive and transmit; the monitor keeps the event queue (section 5.10.2) for itself.
const QUEUES: usize = 2;

/// A vsock device. Dropping it ends all its connections.
#[derive(Debug)]
pub struct VsockDevice {
    connector: VsockConnector,
    _worker: Worker,
}

/// Opens streams to ports of the guest, from any thread.
#[derive(Debug, Clone)]
pub struct VsockConnector {
    commands: Sender<Command>,
    wake: Wake,
    doorbell: Doorbell,
}

/// Asks the device's thread for a connection.
#[derive(Debug)]
struct Command {
    port: u32,
    socket: UnixStream,
    answer: Answered,
}

impl VsockDevice {
    /// Starts the device for a guest with this context id. The descriptor is the monitor's end of
    /// the vhost-user socket, already connected and close-on-exec.
    ///
    /// # Errors
    /// When the host gives no socket, event descriptor or thread.
    pub fn start(guest_cid: u64) -> io::Result<(Self, OwnedFd)> {
        let (commands, receiver) = channel();
        let wake = Wake::new()?;
        let identity = Identity {
            queues: QUEUES,
            queue_size: QUEUE_SIZE,
            config: Some(guest_cid.to_le_bytes().to_vec()),
        };
        let doorbell = Doorbell::default();
        let core = VsockCore::new(guest_cid, receiver, doorbell.clone());
        let (worker, monitor) = Worker::start("vsock", identity, core, wake.clone())?;
        Ok((
            Self { connector: VsockConnector { commands, wake, doorbell }, _worker: worker },
            monitor,
        ))
    }

    /// What opens streams; it outlives the device and fails then.
    #[must_use]
    pub fn connector(&self) -> VsockConnector {
        self.connector.clone()
    }
}

impl VsockConnector {
    /// How often the guest has asked for a connection, which it never got.
    #[must_use]
    pub fn guest_requests(&self) -> u64 {
        self.doorbell.rings()
    }

    /// Waits until the guest has asked another time than `seen`, at most for `limit`.
    pub fn wait_for_guest(&self, seen: u64, limit: Duration) {
        self.doorbell.wait(seen, limit);
    }

    /// Begins to open a stream to a port of the guest; `answer` is told how it went, by the device's
    /// thread. Dropping the stream cancels: the device sees it hang up before it is connected.
    ///
    /// # Errors
    /// `BrokenPipe` when the device is gone.
    pub fn dial(&self, port: u32, answer: Answered) -> io::Result<UnixStream> {
        let (ours, socket) = UnixStream::pair()?;
        let command = Command { port, socket, answer };
        self.commands.send(command).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.wake.notify();
        Ok(ours)
    }

    /// Opens a stream to a port of the guest. Before the guest's driver is up the request waits.
    ///
    /// # Errors
    /// `ConnectionRefused` when the guest refuses, `TimedOut` at the deadline, `BrokenPipe` when
    /// the device is gone, `QuotaExceeded` when there are too many connections.
    pub fn connect(&self, port: u32, deadline: Instant) -> io::Result<UnixStream> {
        let (answer, answered) = sync_channel(1);
        let ours = self.dial(port, Answered::new(move |result| drop(answer.try_send(result))))?;
        let gone = io::ErrorKind::BrokenPipe;
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => result.map(|()| ours),
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Err(gone.into()),
        }
    }
}
