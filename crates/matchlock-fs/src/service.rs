//! Many requests at once, answered in any order.
//!
//! ```text
//!            ┌─ Lane::Inline: answered on the thread that took the message in
//! message ───┤
//!            └─ Lane::Queue ─► waiting ─► running ──► answered
//!                                 ▲          │ ERESTARTSYS
//!                        woken or interrupted▼
//!                                 └─────── parked: holds its bytes and no thread
//! ```
//!
//! Each provider of a tree has a lane ([`lanes`]), so one that hangs stops no other. Bounds: threads of a
//! lane, messages of a lane, bytes of parked messages; what arrives beyond is refused with `EAGAIN`, or
//! for bytes keeps its thread.

mod call;
mod lanes;

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::abi::Opcode;
use crate::pool::Budget;
use crate::provider::{Lane, Provider};
use crate::reply::Reply;
use crate::request::Header;
use crate::server::{Outcome, Server};
use crate::types::Errno;
use call::{Bytes, Held, Job, Parking};
use lanes::{LANES, Lanes};

/// Messages of one lane that are there at once, waiting, running or parked. Less than the 1024 that a
/// virtqueue of ours takes, so that one lane never fills it. Beyond: `EAGAIN`.
const LANE_MESSAGES: usize = 768;

/// Bytes of all parked messages of a service. Beyond: the operation waits on its thread.
const PARKED_BYTES: usize = 16 << 20;

/// How long the end of a service waits for operations that run. What hangs in the host is left behind.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A message of a client, from whatever transport. One that is dropped without an answer, as by a panic,
/// the transport answers with an error.
pub trait Message: Send + 'static {
    /// How it begins: its header, if it is long enough to have one.
    fn head(&self) -> &[u8];

    /// Appends the whole message.
    ///
    /// # Errors
    /// When it is too long or cannot be read; it is then dropped.
    fn read(&self, into: &mut Vec<u8>) -> io::Result<()>;

    /// Sends the reply; an empty one says that there is none.
    fn answer(self, reply: &[u8]);
}

/// A [`Server`] with the threads that it needs. Dropping it interrupts what waits, lets what runs end, and
/// leaves what hangs behind.
#[derive(Debug)]
pub struct Service<P: Provider + ?Sized + 'static, M: Message> {
    server: Arc<Server<P>>,
    bounds: Arc<Bounds>,
    lanes: Arc<Lanes<Job<M>>>,
}

#[derive(Debug)]
struct Bounds {
    messages: [Budget; LANES],
    parked: Budget,
}

thread_local! {
    /// A message and its reply. Both keep their allocation from message to message.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl<P: Provider + ?Sized + 'static, M: Message> Service<P, M> {
    /// A service that awaits INIT. It has no thread until it needs one.
    #[must_use]
    pub fn new(server: Server<P>) -> Self {
        let server = Arc::new(server);
        let bounds = Arc::new(Bounds {
            messages: std::array::from_fn(|_| Budget::new(LANE_MESSAGES)),
            parked: Budget::new(PARKED_BYTES),
        });
        let lanes = {
            let (server, bounds) = (Arc::clone(&server), Arc::clone(&bounds));
            Arc::new(Lanes::new(move |job| run(&server, &bounds, job)))
        };
        Self { server, bounds, lanes }
    }

    /// Takes one message in. Returns soon: what may wait goes to a lane.
    pub fn submit(&self, message: M) {
        let Some(header) = Header::parse(message.head()) else {
            return message.answer(&[]);
        };
        match self.lane(&header) {
            // The panic hook tells of a panic, and the message that was dropped has its answer.
            Lane::Inline => drop(catch_unwind(AssertUnwindSafe(|| self.inline(header, message)))),
            Lane::Queue(number) => self.enqueue(number, header, message, None),
        }
    }

    fn lane(&self, header: &Header) -> Lane {
        match Opcode::from_number(header.opcode) {
            // They touch tables only, and must get through whatever hangs.
            None
            | Some(
                Opcode::Forget | Opcode::BatchForget | Opcode::Interrupt | Opcode::NotifyReply,
            ) => Lane::Inline,
            Some(opcode) => self.server.provider().lane(header.node, opcode),
        }
    }

    fn inline(&self, header: Header, message: M) {
        let (mut request, mut reply) = BUFFERS.take();
        request.clear();
        reply.clear();
        if read(&message, &mut request).is_ok() {
            match self.server.answer(&header, &request, None, &mut reply) {
                Outcome::Done => message.answer(&reply),
                // Nothing can wake it here, so it is asked again where it may wait.
                Outcome::Wait => {
                    let request = std::mem::take(&mut request);
                    self.enqueue(header.node.space().0, header, message, Some(request));
                }
            }
        }
        BUFFERS.set((request, reply));
    }

    fn enqueue(&self, number: u16, header: Header, message: M, request: Option<Vec<u8>>) {
        let lane = usize::from(number) % LANES;
        // What gives something back is never refused: nobody would ask a second time.
        let gives_back = [Opcode::Release, Opcode::ReleaseDir, Opcode::Destroy]
            .iter()
            .any(|opcode| *opcode as u32 == header.opcode);
        let held = match Held::take(&self.bounds, lane) {
            None if !gives_back => return refuse(message, &header, Errno::EAGAIN),
            held => held,
        };
        let bytes = request.map(Bytes::unbudgeted);
        let job = Job::new(message, header, bytes, held, lane, &self.server, &self.lanes);
        if let Err(job) = self.lanes.push(lane, job) {
            let header = job.header;
            refuse(job.into_message(), &header, Errno::ENOMEM);
        }
    }
}

impl<P: Provider + ?Sized + 'static, M: Message> Drop for Service<P, M> {
    fn drop(&mut self) {
        self.server.calls().interrupt_all();
        self.lanes.stop(Instant::now() + STOP_TIMEOUT);
    }
}

/// Reads a message, which the client may change meanwhile: its header must be the one that decided where
/// it runs.
fn read(message: &impl Message, into: &mut Vec<u8>) -> io::Result<()> {
    message.read(into)?;
    if into.starts_with(message.head()) { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn refuse(message: impl Message, header: &Header, errno: Errno) {
    let mut reply = Vec::new();
    Reply::begin(&mut reply, header.unique).finish(Err(errno));
    message.answer(&reply);
}

/// Carries a job out, on a thread of its lane.
fn run<P: Provider + ?Sized, M: Message>(server: &Server<P>, bounds: &Arc<Bounds>, job: Job<M>) {
    let (mut request, mut reply) = BUFFERS.take();
    answer(server, bounds, job, &mut request, &mut reply);
    BUFFERS.set((request, reply));
}

fn answer<P: Provider + ?Sized, M: Message>(
    server: &Server<P>,
    bounds: &Arc<Bounds>,
    mut job: Job<M>,
    request: &mut Vec<u8>,
    reply: &mut Vec<u8>,
) {
    match job.bytes.take() {
        Some(bytes) => *request = bytes.into_inner(),
        None => {
            request.clear();
            if read(&job.message, request).is_err() {
                return;
            }
        }
    }
    loop {
        reply.clear();
        if server.answer(&job.header, request, Some(job.call()), reply) == Outcome::Done {
            return job.into_message().answer(reply);
        }
        match job.park(bounds, request) {
            Parking::Parked => return,
            Parking::Woken(again) => job = again,
        }
    }
}

#[cfg(test)]
mod tests;
