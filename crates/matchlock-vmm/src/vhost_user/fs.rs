//! virtio-fs (virtio 1.2, section 5.11): FUSE messages from the queues to a [`FuseHandler`].

mod message;

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::event_loop::{Device, Next, Poller, Wake, Worker};
use super::memory::Memory;
use super::ring::Ring;
use super::session::Identity;
use crate::FuseHandler;
pub use message::FuseMessage;
use message::{Answer, Answers};
use rustix::event::epoll::EventFlags;

/// The queue for FORGET and INTERRUPT, and one for requests.
const QUEUES: usize = 2;
const QUEUE_SIZE: u16 = 1024;

/// Messages of one queue that are answered before anything else gets a turn.
const BUDGET: usize = 64;

/// Size of a mount tag in the configuration space (section 5.11.4).
const TAG_LEN: usize = 36;

/// A virtio-fs device. Dropping it ends it; a handler that hangs is left behind.
#[derive(Debug)]
pub struct FsBackend {
    _worker: Worker,
}

impl FsBackend {
    /// Starts a device that is mounted by `tag`. The descriptor is the monitor's end of the
    /// vhost-user socket, already connected and close-on-exec.
    ///
    /// # Errors
    /// `InvalidInput` for a tag that is empty or too long, others when the host gives no socket,
    /// event descriptor or thread.
    pub fn start(tag: &str, handler: Arc<dyn FuseHandler>) -> io::Result<(Self, OwnedFd)> {
        if tag.is_empty() || tag.len() > TAG_LEN || tag.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "mount tag of 1 to 36 bytes"));
        }
        // The monitor has the configuration space: QEMU takes the tag as an option.
        let identity = Identity { queues: QUEUES, queue_size: QUEUE_SIZE, config: None };
        let name = format!("fs-{tag}");
        let wake = Wake::new()?;
        let core = FsCore::new(handler, wake.clone());
        let (worker, monitor) = Worker::start(&name, identity, core, wake)?;
        Ok((Self { _worker: worker }, monitor))
    }
}

/// The device on its thread. It takes messages out of the rings and gives them back when they are
/// answered, in whatever order that is; all else happens where the handler likes.
#[derive(Debug)]
struct FsCore {
    handler: Arc<dyn FuseHandler>,
    answers: Arc<Answers>,
    /// Messages of each ring that are not given back. A driver that keeps to the rules of the ring never has
    /// more than its size under way, but one that does not could name a chain again and again.
    under_way: [usize; QUEUES],
    /// Keeps its allocation.
    answered: Vec<Answer>,
}

impl FsCore {
    fn new(handler: Arc<dyn FuseHandler>, wake: Wake) -> Self {
        let answers = Answers::new(wake);
        Self { handler, answers, under_way: [0; QUEUES], answered: Vec::new() }
    }

    /// Takes in what a ring has.
    fn serve(&mut self, memory: &Arc<Memory>, rings: &mut [Ring], index: usize) -> Next {
        rings[index].disarm(memory);
        for _ in 0..BUDGET {
            if self.under_way[index] >= usize::from(QUEUE_SIZE) {
                // The next answer wakes us.
                return Next::Wait;
            }
            let Some(chain) = rings[index].pop(Arc::clone(memory)) else {
                return if rings[index].arm(memory) { Next::Again } else { Next::Wait };
            };
            self.under_way[index] += 1;
            let pass = rings[index].pass();
            let message = FuseMessage::new(memory, chain, index, pass, &self.answers);
            // A bug in the handler must not end the process that owns all other devices.
            if catch_unwind(AssertUnwindSafe(|| self.handler.submit(message))).is_err() {
                tracing::error!("file system handler panicked");
            }
            // At once, because the next message may take long; a busy driver has masked it anyway.
            self.give_back(memory, rings);
        }
        Next::Again
    }

    /// Gives back what was answered.
    fn give_back(&mut self, memory: &Memory, rings: &mut [Ring]) {
        self.answers.take(&mut self.answered);
        let mut told = [false; QUEUES];
        for Answer { ring, pass, head, written } in self.answered.drain(..) {
            self.under_way[ring] -= 1;
            // A ring that was stopped meanwhile knows nothing of it.
            if pass.enter().is_some() {
                rings[ring].give_back(memory, head, written);
                told[ring] = true;
            }
        }
        for (ring, told) in rings.iter_mut().zip(told) {
            if told {
                ring.notify(memory);
            }
        }
    }
}

impl Device for FsCore {
    fn on_event(&mut self, _id: u32, _events: EventFlags, _poller: &Poller) {}

    fn run(&mut self, memory: Option<&Arc<Memory>>, rings: &mut [Ring], _poller: &Poller) -> Next {
        let Some(memory) = memory else {
            return Next::Wait;
        };
        self.give_back(memory, rings);
        let mut next = Next::Wait;
        for index in 0..rings.len().min(QUEUES) {
            if self.serve(memory, rings, index) == Next::Again {
                next = Next::Again;
            }
        }
        if next == Next::Wait && !self.answers.sleep() { Next::Again } else { next }
    }
}

#[cfg(test)]
mod tests;
