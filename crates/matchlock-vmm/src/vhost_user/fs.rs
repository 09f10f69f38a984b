//! virtio-fs (virtio 1.2, section 5.11): FUSE messages from the queues to a [`FuseHandler`].

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use virtio_queue::{DescriptorChain, Reader, Writer};

use super::event_loop::{Device, Next, Poller, Wake, Worker};
use super::memory::Memory;
use super::ring::Ring;
use super::session::Identity;
use crate::FuseHandler;

/// Longest request: a WRITE of 1 MiB (the most that FUSE allows) with generous room for its headers.
const MAX_REQUEST: usize = 1024 * 1024 + 64 * 1024;

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
        let (worker, monitor) = Worker::start(&name, identity, FsCore::new(handler), Wake::new()?)?;
        Ok((Self { _worker: worker }, monitor))
    }
}

/// The device on its thread. One message at a time: a pool would take [`FsCore::answer`] to other
/// threads and keep the rings here.
#[derive(Debug)]
struct FsCore {
    handler: Arc<dyn FuseHandler>,
    /// Both keep their allocation from message to message.
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl FsCore {
    fn new(handler: Arc<dyn FuseHandler>) -> Self {
        Self { handler, request: Vec::new(), reply: Vec::new() }
    }

    fn serve(&mut self, memory: &Memory, ring: &mut Ring) -> Next {
        ring.disarm(memory);
        for _ in 0..BUDGET {
            let Some(chain) = ring.pop(memory) else {
                return if ring.arm(memory) { Next::Again } else { Next::Wait };
            };
            let head = chain.head_index();
            let written = self.answer(memory, chain);
            ring.give_back(memory, head, written);
            // At once, because the next message may take long; a busy driver has masked it anyway.
            ring.notify(memory);
        }
        Next::Again
    }

    /// Answers one message and tells how many bytes were written into the chain.
    fn answer<'m>(&mut self, memory: &'m Memory, chain: DescriptorChain<&'m Memory>) -> u32 {
        let (Ok(reader), Ok(writer)) =
            (Reader::new(memory, chain.clone()), Writer::new(memory, chain))
        else {
            return 0;
        };
        match read_request(reader, &mut self.request) {
            Ok(Fit::Whole) => self.call_handler(),
            Ok(Fit::TooLong) => eio(&self.request, &mut self.reply),
            Err(_) => return 0,
        }
        if self.reply.len() > writer.available_bytes() {
            eio(&self.request, &mut self.reply);
        }
        write_reply(writer, &self.reply)
    }

    /// A bug in the handler must not end the process that owns all other devices.
    fn call_handler(&mut self) {
        let Self { handler, request, reply } = self;
        reply.clear();
        if catch_unwind(AssertUnwindSafe(|| handler.handle(request, reply))).is_err() {
            tracing::error!("file system handler panicked");
            eio(request, reply);
        }
    }
}

/// Whether a request was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    TooLong,
}

fn read_request(reader: Reader<'_>, request: &mut Vec<u8>) -> io::Result<Fit> {
    request.clear();
    let len = reader.available_bytes();
    reader.take(MAX_REQUEST as u64).read_to_end(request)?;
    Ok(if len <= MAX_REQUEST { Fit::Whole } else { Fit::TooLong })
}

/// Writes a reply that is known to fit, unless the guest's chain is too small even for an error.
fn write_reply(mut writer: Writer<'_>, reply: &[u8]) -> u32 {
    if reply.len() > writer.available_bytes() || writer.write_all(reply).is_err() {
        return 0;
    }
    u32::try_from(reply.len()).unwrap_or(0)
}

/// A reply that is only `fuse_out_header`: length, error, and the `unique` of `fuse_in_header`.
fn eio(request: &[u8], reply: &mut Vec<u8>) {
    const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    reply.clear();
    // A request without a whole `unique` cannot be answered.
    if let Some(unique) = request.get(8..16) {
        reply.extend_from_slice(&16u32.to_ne_bytes());
        reply.extend_from_slice(&(-EIO).to_ne_bytes());
        reply.extend_from_slice(unique);
    }
}

impl Device for FsCore {
    fn on_event(&mut self, _id: u32, _events: EventFlags, _poller: &Poller) {}

    fn run(&mut self, memory: Option<&Memory>, rings: &mut [Ring], _poller: &Poller) -> Next {
        let Some(memory) = memory else {
            return Next::Wait;
        };
        let mut next = Next::Wait;
        for ring in rings {
            if self.serve(memory, ring) == Next::Again {
                next = Next::Again;
            }
        }
        next
    }
}

#[cfg(test)]
mod tests;
