//! One FUSE message of the guest, on its way to an answer that any thread may give.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use virtio_queue::{DescriptorChain, Reader, Writer};

use crate::vhost_user::event_loop::Wake;
use crate::vhost_user::memory::Memory;
use crate::vhost_user::ring::Pass;

/// Longest request: a WRITE of 1 MiB (the most that FUSE allows) with generous room for its headers.
pub(super) const MAX_REQUEST: usize = 1024 * 1024 + 64 * 1024;

/// `sizeof(struct fuse_in_header)`.
const HEAD: usize = 40;

/// A FUSE message that the guest waits for the answer of. It lies in guest memory, so what is read twice
/// may differ. One that is dropped is answered with `EIO`.
#[derive(Debug)]
pub struct FuseMessage {
    memory: Arc<Memory>,
    chain: DescriptorChain<Arc<Memory>>,
    /// What of the header was there when the message was taken out of its ring.
    head: [u8; HEAD],
    head_len: usize,
    ring: usize,
    /// Whether the ring is still the one that the message came from.
    pass: Pass,
    answers: Arc<Answers>,
    answered: bool,
}

/// Answered messages, to be given back to the guest by the thread that owns the rings.
#[derive(Debug)]
pub(super) struct Answers {
    queue: Mutex<Queue>,
    wake: Wake,
}

#[derive(Debug, Default)]
struct Queue {
    answers: Vec<Answer>,
    /// The thread will look before it sleeps.
    awake: bool,
}

/// A chain whose reply is written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ring: usize,
    pub(super) pass: Pass,
    pub(super) head: u16,
    pub(super) written: u32,
}

impl FuseMessage {
    pub(super) fn new(
        memory: &Arc<Memory>,
        chain: DescriptorChain<Arc<Memory>>,
        ring: usize,
        pass: Pass,
        answers: &Arc<Answers>,
    ) -> Self {
        let mut message = Self {
            memory: Arc::clone(memory),
            chain,
            head: [0; HEAD],
            head_len: 0,
            ring,
            pass,
            answers: Arc::clone(answers),
            answered: false,
        };
        if let Ok(mut reader) = Reader::new(&*message.memory, message.chain.clone()) {
            let wanted = reader.available_bytes().min(HEAD);
            if reader.read_exact(&mut message.head[..wanted]).is_ok() {
                message.head_len = wanted;
            }
        }
        message
    }

    /// The header (`struct fuse_in_header`), or what there is of it: always the same bytes.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    /// Appends the whole message as it is in guest memory now.
    ///
    /// # Errors
    /// `FileTooLarge` for a message that no FUSE client sends, `InvalidInput` for a chain that leads outside
    /// of guest memory, `BrokenPipe` when the guest's driver has been stopped meanwhile.
    pub fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        let _open = self.pass.enter().ok_or(io::ErrorKind::BrokenPipe)?;
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let reader = Reader::new(&*self.memory, self.chain.clone()).map_err(invalid)?;
        if reader.available_bytes() > MAX_REQUEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        reader.take(MAX_REQUEST as u64).read_to_end(into)?;
        Ok(())
    }

    /// Sends the reply, header included. An empty one gives the message back without a reply, as FUSE
    /// demands for some.
    pub fn answer(mut self, reply: &[u8]) {
        self.finish(reply);
    }

    fn finish(&mut self, reply: &[u8]) {
        self.answered = true;
        let written = self.write(reply);
        let (ring, pass, head) = (self.ring, self.pass.clone(), self.chain.head_index());
        self.answers.push(Answer { ring, pass, head, written });
    }

    /// Writes a reply, or `EIO` for one that does not fit; how many bytes that were.
    fn write(&self, reply: &[u8]) -> u32 {
        let Some(_open) = self.pass.enter() else {
            return 0;
        };
        let Ok(mut writer) = Writer::new(&*self.memory, self.chain.clone()) else {
            return 0;
        };
        let error;
        let mut reply = reply;
        if reply.len() > writer.available_bytes() {
            error = eio(self.head());
            reply = error.as_ref().map_or(&[], |error| &error[..]);
        }
        if reply.len() > writer.available_bytes() || writer.write_all(reply).is_err() {
            return 0;
        }
        u32::try_from(reply.len()).unwrap_or(0)
    }
}

impl Drop for FuseMessage {
    fn drop(&mut self) {
        if !self.answered {
            let error = eio(self.head());
            self.finish(error.as_ref().map_or(&[], |error| &error[..]));
        }
    }
}

/// A reply that is only `fuse_out_header`: length, error, and the `unique` of `fuse_in_header`. A message
/// without a whole `unique` cannot be answered.
fn eio(head: &[u8]) -> Option<[u8; 16]> {
    const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    let unique = head.get(8..16)?;
    let mut reply = [0; 16];
    reply[..4].copy_from_slice(&16u32.to_ne_bytes());
    reply[4..8].copy_from_slice(&(-EIO).to_ne_bytes());
    reply[8..].copy_from_slice(unique);
    Some(reply)
}

impl Answers {
    pub(super) fn new(wake: Wake) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), wake })
    }

    fn push(&self, answer: Answer) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.answers.push(answer);
        if !queue.awake {
            queue.awake = true;
            self.wake.notify();
        }
    }

    /// Moves what was answered into `into`. From here on nobody wakes the thread, until it says that it
    /// sleeps.
    pub(super) fn take(&self, into: &mut Vec<Answer>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.awake = true;
        into.append(&mut queue.answers);
    }

    /// The thread is about to sleep; `false` when there is something to take first.
    pub(super) fn sleep(&self) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.awake = !queue.answers.is_empty();
        !queue.awake
    }
}
