//! The task of the stack: the socket of frames, the timers, and the flows that wait for room.

use std::io;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::core::StackCore;
use super::counters::Counters;
use super::deframe::Deframer;
use super::shared::Shared;
use super::{Handler, StackConfig};

/// What is asked of the system for the socket's send buffer; it gives what it allows.
const SEND_BUFFER: usize = 4 * 1024 * 1024;

/// A user-space TCP/IP stack, and the guest's end of the wire.
#[derive(Debug)]
pub(crate) struct Stack<H> {
    core: StackCore<H>,
    deframer: Deframer,
}

impl<H: Handler> Stack<H> {
    /// A stack over a stream of Ethernet frames, each with its length before it.
    pub(crate) fn new(config: StackConfig, guest: UnixStream, handler: Arc<H>) -> Self {
        // With the default buffer, a few large frames fill the socket.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&guest, SEND_BUFFER);
        let shared = Shared::new(&config, Clock::system(), Some(guest));
        let core = StackCore::with_shared(shared, config, handler);
        Self { core, deframer: Deframer::new() }
    }

    /// What was discarded and carried so far.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.core.shared.counters)
    }

    /// Serves the guest until it closes its end. All flows end with it, also when this is dropped.
    ///
    /// # Errors
    /// The socket fails, or what it carries is not frames.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.core.shared);
        let Some(socket) = &shared.socket else { return Ok(()) };
        loop {
            shared.run_timers();
            shared.drain(|bytes| shared.write(socket, bytes));
            let open = shared.egress.admits_reader();
            tokio::select! {
                ready = socket.readable(), if open => {
                    ready?;
                    if !self.receive(socket)? {
                        return Ok(());
                    }
                }
                ready = socket.writable(), if shared.egress.is_stalled() => ready?,
                () = shared.wake.notified() => {}
                () = self.deadline() => {}
            }
        }
    }

    /// One read, and all the frames in it. False at the end.
    fn receive(&mut self, socket: &UnixStream) -> io::Result<bool> {
        match socket.try_read(self.deframer.space()) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                self.core.shared.counters.came(count);
                self.deframer.filled(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
            Err(error) => return Err(error),
        }
        while let Some(frame) = self.deframer.next().map_err(out_of_step)? {
            self.core.take(frame);
        }
        self.core.settle();
        Ok(true)
    }

    async fn deadline(&self) {
        let shared = &self.core.shared;
        match shared.timers.next() {
            Some(at) => {
                let now = shared.clock.now();
                let wait = if at > now { (at - now).into() } else { std::time::Duration::ZERO };
                sleep_until(Instant::now() + wait).await;
            }
            None => std::future::pending().await,
        }
    }
}

fn out_of_step(error: super::deframe::OutOfStep) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
