//! The one thread of a device, and how it ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use vhost::vhost_user::{BackendReqHandler, Error};

use super::memory::Memory;
use super::ring::Ring;
use super::session::{Identity, Session};

/// How long dropping a device waits for its thread: longer than any step of the thread itself, and
/// only ever used up by a file system handler that hangs in the host.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The host side of a virtio device. All methods run on the device's own thread.
pub(crate) trait Device: Send + 'static {
    /// A descriptor that the device registered under `Token::Device(id)` has an event.
    fn on_event(&mut self, id: u32, events: epoll::EventFlags, poller: &Poller);

    /// Moves what can be moved between the rings and the host side, for a bounded time. Called
    /// after every wake-up; `memory` is missing until the monitor has told.
    fn run(&mut self, memory: Option<&Arc<Memory>>, rings: &mut [Ring], poller: &Poller) -> Next;
}

/// What a device wants after [`Device::run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is more to do already.
    Again,
    /// Nothing until the next event.
    Wait,
}

/// What a descriptor in the poller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The socket to the monitor.
    Control,
    /// The event descriptor of [`Wake`].
    Wake,
    /// The kick of a ring.
    Kick(u8),
    /// A descriptor of the device itself.
    Device(u32),
}

impl Token {
    fn encode(self) -> u64 {
        match self {
            Self::Control => 0,
            Self::Wake => 1,
            Self::Kick(index) => 1 << 32 | u64::from(index),
            Self::Device(id) => 2 << 32 | u64::from(id),
        }
    }

    pub(crate) fn decode(data: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half is what encode put there"
        )]
        match (data >> 32, data as u32) {
            (0, 0) => Self::Control,
            (0, _) => Self::Wake,
            (1, index) => Self::Kick(index as u8),
            (_, id) => Self::Device(id),
        }
    }
}

/// epoll with typed tokens.
#[derive(Debug)]
pub(crate) struct Poller(OwnedFd);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Level-triggered readability.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.add_for(fd, token, epoll::EventFlags::IN)
    }

    pub(crate) fn add_for(
        &self,
        fd: impl AsFd,
        token: Token,
        events: epoll::EventFlags,
    ) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, epoll::EventData::new_u64(token.encode()), events)?)
    }

    pub(crate) fn change(
        &self,
        fd: impl AsFd,
        token: Token,
        events: epoll::EventFlags,
    ) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, epoll::EventData::new_u64(token.encode()), events)?)
    }

    pub(crate) fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, fd)?)
    }

    pub(crate) fn wait(&self, events: &mut Vec<epoll::Event>, next: Next) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = (next == Next::Again).then_some(&now);
        events.clear();
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(events), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Wakes the thread of a device from any other.
#[derive(Debug, Clone)]
pub(crate) struct Wake(Arc<OwnedFd>);

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(crate) fn notify(&self) {
        // EAGAIN: it is as awake as it can be.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }

    fn consume(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0u8; 8]);
    }
}

/// A running device; dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    wake: Wake,
    control: UnixStream,
    /// Disconnects at the end of the thread. The lock is for `Sync` only.
    ended: Mutex<Receiver<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. The descriptor is the monitor's end of the vhost-user socket.
    pub(crate) fn start(
        name: &str,
        identity: Identity,
        device: impl Device,
        wake: Wake,
    ) -> io::Result<(Self, OwnedFd)> {
        let (ours, monitors) = UnixStream::pair()?;
        let control = ours.try_clone()?;
        let poller = Arc::new(Poller::new()?);
        poller.add(&ours, Token::Control)?;
        poller.add(&*wake.0, Token::Wake)?;
        let session = Arc::new(Mutex::new(Session::new(identity, Arc::clone(&poller))?));
        let stop = Arc::new(AtomicBool::new(false));
        let event_loop = EventLoop {
            stop: Arc::clone(&stop),
            wake: wake.clone(),
            poller,
            control: BackendReqHandler::from_stream(ours, Arc::clone(&session)),
            session,
            device,
        };
        let (alive, ended) = channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || event_loop.run(alive))?;
        let ended = Mutex::new(ended);
        Ok((Self { stop, wake, control, ended, thread: Some(thread) }, monitors.into()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Ends a read or write that the monitor keeps waiting.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        self.wake.notify();
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        match (ended.recv_timeout(STOP_TIMEOUT), self.thread.take()) {
            (Err(RecvTimeoutError::Timeout), _) => {
                tracing::warn!("a device hangs in the host; its thread is left behind");
            }
            (_, Some(thread)) => drop(thread.join()),
            (_, None) => {}
        }
    }
}

struct EventLoop<D> {
    stop: Arc<AtomicBool>,
    wake: Wake,
    poller: Arc<Poller>,
    control: BackendReqHandler<Mutex<Session>>,
    session: Arc<Mutex<Session>>,
    device: D,
}

/// However the thread ends, by panic too, the monitor has to see it: [`Worker`] still holds the
/// socket.
impl<D> Drop for EventLoop<D> {
    fn drop(&mut self) {
        if let Ok(control) = self.control.try_clone_connection() {
            let _ = control.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl<D: Device> EventLoop<D> {
    /// Runs until the monitor has gone or [`Worker`] is dropped. `alive` tells its end, by panic too.
    fn run(mut self, alive: Sender<()>) {
        let result = self.work();
        match result {
            // What a monitor that exits or is killed looks like.
            Ok(()) | Err(Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_)) => {
                tracing::debug!("device ends");
            }
            Err(error) => tracing::warn!(%error, "device ends: the monitor broke the protocol"),
        }
        drop(self);
        drop(alive);
    }

    fn work(&mut self) -> Result<(), Error> {
        let mut events = Vec::with_capacity(64);
        let mut next = Next::Wait;
        loop {
            self.poller.wait(&mut events, next).map_err(Error::ReqHandlerError)?;
            self.dispatch(&events)?;
            if self.stop.load(Ordering::Acquire) {
                return Ok(());
            }
            let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            let (memory, rings) = session.parts();
            next = self.device.run(memory.as_ref(), rings, &self.poller);
        }
    }

    fn dispatch(&mut self, events: &[epoll::Event]) -> Result<(), Error> {
        for event in events {
            match Token::decode(event.data.u64()) {
                Token::Control => self.control.handle_request()?,
                Token::Wake => self.wake.consume(),
                Token::Kick(index) => {
                    let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(ring) = session.parts().1.get(usize::from(index)) {
                        ring.consume_kick();
                    }
                }
                Token::Device(id) => self.device.on_event(id, event.flags, &self.poller),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for token in [
            Token::Control,
            Token::Wake,
            Token::Kick(0),
            Token::Kick(255),
            Token::Device(0),
            Token::Device(u32::MAX),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
