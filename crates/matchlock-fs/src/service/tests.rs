//! Trees that hang, wait and panic, beside one that is to go on.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;

use super::*;
use crate::context::Context;
use crate::open::{OpenFile, OpenedDir, OpenedFile};
use crate::pool::lock;
use crate::provider::CachePolicy;
use crate::request::Name;
use crate::synthetic::{Tree, TreeBuilder};
use crate::types::{Attr, Entry, FsStats, IdSpace, Lookup, NodeId, Result};

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A provider whose root has names that say what a lookup does.
#[derive(Debug)]
struct Odd {
    space: IdSpace,
    /// How many lookups of `hang` have begun; they end when the other end is dropped.
    hanging: Mutex<Sender<()>>,
    end: Mutex<Receiver<()>>,
    /// Lookups of `wait`, with what wakes them; `None` is one that may go on.
    waiting: Mutex<HashMap<u64, Option<Waker>>>,
    begun: Mutex<Sender<u64>>,
}

impl Odd {
    fn entry(&self) -> Entry {
        let ttl = Duration::ZERO;
        Entry { node: self.space.root(), attr: Attr::default(), entry_ttl: ttl, attr_ttl: ttl }
    }

    fn wait(&self, ctx: &Context) -> Result<Lookup> {
        let mut waiting = lock(&self.waiting);
        if ctx.is_interrupted() {
            waiting.remove(&ctx.unique);
            return Err(Errno::EINTR);
        }
        match waiting.get(&ctx.unique) {
            Some(None) => {
                waiting.remove(&ctx.unique);
                return Ok(Lookup::Found(self.entry()));
            }
            Some(Some(_)) => {}
            None => {
                waiting.insert(ctx.unique, Some(ctx.waker()));
                let _ = lock(&self.begun).send(ctx.unique);
            }
        }
        Err(Errno::ERESTARTSYS)
    }

    /// Lets a lookup of `wait` go on.
    fn wake(&self, unique: u64) {
        let waker = lock(&self.waiting).insert(unique, None).flatten();
        waker.expect("it waits").wake();
    }
}

impl Provider for Odd {
    fn root(&self) -> Result<Entry> {
        Ok(self.entry())
    }

    fn lookup(&self, ctx: &Context, _: NodeId, name: Name<'_>) -> Result<Lookup> {
        match name.as_bytes() {
            b"hang" => {
                let _ = lock(&self.hanging).send(());
                let _ = lock(&self.end).recv();
                Err(Errno::EIO)
            }
            b"wait" => self.wait(ctx),
            b"panic" => panic!("as asked"),
            _ => Ok(Lookup::Found(self.entry())),
        }
    }

    fn forget(&self, _: NodeId, _: u64) {}

    fn reset(&self) {}

    fn getattr(&self, _: &Context, _: NodeId) -> Result<(Attr, Duration)> {
        Ok((Attr::default(), Duration::ZERO))
    }

    fn readlink(&self, _: &Context, _: NodeId) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    fn open(&self, _: &Context, _: NodeId, _: u32) -> Result<OpenedFile> {
        let file: Arc<dyn OpenFile> = Arc::new(Empty);
        Ok(OpenedFile { file, caching: crate::open::Caching::Renew })
    }

    fn opendir(&self, _: &Context, _: NodeId, _: u32) -> Result<OpenedDir> {
        Err(Errno::EIO)
    }

    fn statfs(&self, _: &Context, _: NodeId) -> Result<FsStats> {
        Ok(FsStats::default())
    }
}

#[derive(Debug)]
struct Empty;

impl OpenFile for Empty {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        Ok((Attr::default(), Duration::ZERO))
    }

    fn read(&self, _: &Context, _: u64, _: usize, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// A message that says what became of it.
struct Sent {
    bytes: Vec<u8>,
    unique: u64,
    answers: Option<Sender<(u64, Answer)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// With an error number, 0 for none.
    Reply(i32),
    NoReply,
    Dropped,
}

impl Message for Sent {
    fn head(&self) -> &[u8] {
        &self.bytes[..self.bytes.len().min(40)]
    }

    fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(&self.bytes);
        Ok(())
    }

    fn answer(mut self, reply: &[u8]) {
        let answer = match reply.get(4..8) {
            Some(error) => {
                let error = i32::from_le_bytes(error.try_into().expect("four bytes"));
                Answer::Reply(-error)
            }
            None => Answer::NoReply,
        };
        let answers = self.answers.take().expect("answered once");
        let _ = answers.send((self.unique, answer));
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(answers) = &self.answers {
            let _ = answers.send((self.unique, Answer::Dropped));
        }
    }
}

/// Two odd providers side by side.
struct Bench {
    service: Service<Tree, Sent>,
    odd: [Arc<Odd>; 2],
    answers: Receiver<(u64, Answer)>,
    sender: Sender<(u64, Answer)>,
    hanging: Receiver<()>,
    begun: Receiver<u64>,
    /// Dropped, it ends what hangs.
    end: Vec<Sender<()>>,
    last: u64,
}

impl Bench {
    fn new() -> Self {
        let (hangs, hanging) = channel();
        let (begins, begun) = channel();
        let mut builder = TreeBuilder::new(CachePolicy::LIVE);
        let mut end = Vec::new();
        let odd = ["/a", "/b"].map(|path| {
            let (ends, ended) = channel();
            end.push(ends);
            let odd = Arc::new(Odd {
                space: builder.next_space().expect("space"),
                hanging: Mutex::new(hangs.clone()),
                end: Mutex::new(ended),
                waiting: Mutex::default(),
                begun: Mutex::new(begins.clone()),
            });
            builder.mount(Path::new(path), Arc::clone(&odd) as Arc<dyn Provider>).expect("place");
            odd
        });
        let (sender, answers) = channel();
        let service = Service::new(Server::new(Arc::new(builder.build())));
        let mut bench = Self { service, odd, answers, sender, hanging, begun, end, last: 0 };
        let words = [7u32, 41, 1 << 17, u32::MAX, 0];
        let mut init: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        init.resize(64, 0);
        bench.send(Opcode::Init, 1, &init);
        assert_eq!(bench.answer(), Answer::Reply(0));
        bench
    }

    /// Sends a message; its unique number.
    fn send(&mut self, opcode: Opcode, node: u64, payload: &[u8]) -> u64 {
        self.last += 1;
        let mut bytes = u32::try_from(40 + payload.len()).expect("short").to_le_bytes().to_vec();
        bytes.extend((opcode as u32).to_le_bytes());
        bytes.extend(self.last.to_le_bytes());
        bytes.extend(node.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(payload);
        let answers = Some(self.sender.clone());
        self.service.submit(Sent { bytes, unique: self.last, answers });
        self.last
    }

    fn lookup(&mut self, tree: u16, name: &str) -> u64 {
        let node = IdSpace(tree + 1).root().0;
        self.send(Opcode::Lookup, node, &[name.as_bytes(), b"\0"].concat())
    }

    fn next(&self) -> (u64, Answer) {
        self.answers.recv_timeout(PATIENCE).expect("an answer")
    }

    /// The answer to what was sent last.
    fn answer(&self) -> Answer {
        let (unique, answer) = self.next();
        assert_eq!(unique, self.last);
        answer
    }

    /// What was sent last waits.
    fn begun(&self) {
        assert_eq!(self.begun.recv_timeout(PATIENCE), Ok(self.last));
    }
}

#[test]
fn a_tree_that_hangs_for_ever_stops_no_other() {
    let mut bench = Bench::new();
    for _ in 0..20 {
        bench.lookup(0, "hang");
    }
    bench.hanging.recv_timeout(PATIENCE).expect("hangs");
    for _ in 0..100 {
        bench.lookup(1, "f");
        assert_eq!(bench.answer(), Answer::Reply(0), "the other provider");
        bench.send(Opcode::GetAttr, 1, &[0; 16]);
        assert_eq!(bench.answer(), Answer::Reply(0), "the tree's own");
    }
    // Orderly, without waiting for what hangs: what had not begun is dropped.
    drop(bench.service);
    for _ in 0..20 - lanes::LANE_THREADS {
        let (_, answer) = bench.answers.recv_timeout(PATIENCE).expect("an answer");
        assert_eq!(answer, Answer::Dropped);
    }
    drop(bench.end);
}

#[test]
fn what_waits_holds_no_thread_and_is_answered_in_any_order() {
    let mut bench = Bench::new();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let unique = bench.lookup(0, "wait");
            bench.begun();
            unique
        })
        .collect();
    bench.lookup(0, "f");
    assert_eq!(bench.answer(), Answer::Reply(0), "of the same tree");
    for unique in waiting.iter().rev() {
        bench.odd[0].wake(*unique);
        assert_eq!(bench.next(), (*unique, Answer::Reply(0)));
    }
    assert_eq!(bench.service.bounds.parked.used(), 0);
    assert_eq!(bench.service.bounds.messages[1].used(), 0);
    assert_eq!(bench.service.server.calls().len(), 0);
}

#[test]
fn an_interrupt_ends_what_waits() {
    let mut bench = Bench::new();
    let (first, second) = (bench.lookup(0, "wait"), bench.lookup(0, "wait"));
    for _ in 0..2 {
        bench.begun.recv_timeout(PATIENCE).expect("waits");
    }
    let interrupt = bench.send(Opcode::Interrupt, 0, &second.to_le_bytes());
    let mut answers = [bench.next(), bench.next()];
    answers.sort_by_key(|(unique, _)| *unique);
    assert_eq!(answers, [(second, Answer::Reply(4)), (interrupt, Answer::NoReply)], "EINTR");
    bench.send(Opcode::Interrupt, 0, &second.to_le_bytes());
    assert_eq!(bench.answer(), Answer::Reply(11), "EAGAIN: nothing of that number");
    bench.odd[0].wake(first);
    assert_eq!(bench.next(), (first, Answer::Reply(0)));
}

#[test]
fn the_end_interrupts_what_waits() {
    let mut bench = Bench::new();
    let unique = bench.lookup(0, "wait");
    bench.begun();
    drop(bench.service);
    let (answered, answer) = bench.answers.recv_timeout(PATIENCE).expect("an answer");
    assert_eq!(answered, unique);
    assert!(matches!(answer, Answer::Reply(4) | Answer::Dropped), "{answer:?}");
}

#[test]
fn a_panic_ends_one_request() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        bench.lookup(0, "panic");
        assert_eq!(bench.answer(), Answer::Dropped);
        bench.lookup(0, "f");
        assert_eq!(bench.answer(), Answer::Reply(0));
    }
    assert_eq!(bench.service.bounds.messages[1].used(), 0);
}

#[test]
fn messages_of_a_lane_are_bounded() {
    let mut bench = Bench::new();
    bench.send(Opcode::Open, IdSpace(1).root().0, &[0; 8]);
    assert_eq!(bench.answer(), Answer::Reply(0));
    for _ in 0..LANE_MESSAGES {
        bench.lookup(0, "wait");
        bench.begun();
    }
    bench.lookup(0, "f");
    assert_eq!(bench.answer(), Answer::Reply(11), "EAGAIN");
    // What gives something back is taken all the same, and the other lane has its own bound.
    let release = [&1u64.to_le_bytes()[..], &[0; 16]].concat();
    bench.send(Opcode::Release, IdSpace(1).root().0, &release);
    assert_eq!(bench.answer(), Answer::Reply(0));
    bench.lookup(1, "f");
    assert_eq!(bench.answer(), Answer::Reply(0));
    let parked = bench.service.bounds.parked.used();
    assert!(parked <= PARKED_BYTES && parked > 0, "{parked}");
}

/// Beyond the bound of bytes an operation keeps its thread, and is answered like the others.
#[test]
fn parked_bytes_are_bounded() {
    let mut bench = Bench::new();
    bench.service.bounds.parked.take_many(PARKED_BYTES, Errno::ENOMEM).expect("room");
    let unique = bench.lookup(0, "wait");
    bench.begun();
    bench.lookup(0, "f");
    assert_eq!(bench.answer(), Answer::Reply(0));
    bench.odd[0].wake(unique);
    assert_eq!(bench.next(), (unique, Answer::Reply(0)));
    assert_eq!(bench.service.bounds.parked.used(), PARKED_BYTES);
}

/// The header decides where a message runs, so another one may not follow.
#[test]
fn a_message_that_changes_its_header_is_dropped() {
    struct Changing(Sent);
    impl Message for Changing {
        fn head(&self) -> &[u8] {
            self.0.head()
        }
        fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
            into.extend_from_slice(self.0.head());
            into[16] ^= 1;
            Ok(())
        }
        fn answer(self, reply: &[u8]) {
            self.0.answer(reply);
        }
    }
    let (sender, answers) = channel();
    let tree = TreeBuilder::new(CachePolicy::LIVE).build();
    let service = Service::new(Server::new(Arc::new(tree)));
    let bytes = [&40u32.to_le_bytes()[..], &38u32.to_le_bytes(), &[0; 32]].concat();
    service.submit(Changing(Sent { bytes, unique: 1, answers: Some(sender) }));
    assert_eq!(answers.recv_timeout(PATIENCE), Ok((1, Answer::Dropped)));
}
