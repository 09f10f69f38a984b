//! The device against a driver of our own making.

use std::sync::Mutex;

use super::message::MAX_REQUEST;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::vhost_user::testing::{Descriptor, Driver, NEXT, WRITE, memory};

const IN: u64 = 0x10_0000;
const OUT: u64 = 0x40_0000;
const UNIQUE: u64 = 0x1122_3344_5566_7788;

/// Answers by the opcode, and remembers how long the requests were.
#[derive(Debug, Default)]
struct Scripted {
    lengths: Mutex<Vec<usize>>,
    /// Not answered yet.
    kept: Mutex<Vec<FuseMessage>>,
}

const ECHO: u32 = 1;
const SILENT: u32 = 2;
const PANIC: u32 = 3;
const HUGE: u32 = 4;
const KEEP: u32 = 5;

impl FuseHandler for Scripted {
    fn submit(&self, message: FuseMessage) {
        let mut request = Vec::new();
        if message.read(&mut request).is_err() {
            return;
        }
        self.lengths.lock().unwrap().push(request.len());
        let opcode =
            request.get(4..8).map_or(SILENT, |b| u32::from_ne_bytes(b.try_into().unwrap()));
        match opcode {
            ECHO => message.answer(&request),
            PANIC => panic!("as asked"),
            HUGE => message.answer(&vec![1; 2 << 20]),
            KEEP => self.kept.lock().unwrap().push(message),
            _ => message.answer(&[]),
        }
    }
}

struct Bench {
    memory: Arc<Memory>,
    driver: Driver,
    rings: [Ring; 2],
    core: FsCore,
    handler: Arc<Scripted>,
}

impl Bench {
    fn new() -> Self {
        let memory = Arc::new(memory());
        let (_, hiprio) = Driver::new(&memory, 0, 16);
        let (driver, requests) = Driver::new(&memory, 0x1_0000, 1024);
        let handler = Arc::new(Scripted::default());
        let core = FsCore::new(handler.clone(), Wake::new().unwrap());
        Self { memory, driver, rings: [hiprio, requests], core, handler }
    }

    fn run(&mut self) {
        let poller = Poller::new().unwrap();
        while self.core.run(Some(&self.memory), &mut self.rings, &poller) == Next::Again {}
    }

    /// A request cut into these parts, answered into as much room; what was written.
    fn ask(&mut self, request: &[u8], cuts: &[usize], room: &[u32]) -> Vec<u8> {
        self.memory.write_slice(request, GuestAddress(IN)).unwrap();
        let mut parts = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([request.len()]) {
            parts.push((IN + start as u64, (end - start) as u32, 0));
            start = end;
        }
        let mut addr = OUT;
        for len in room {
            parts.push((addr, *len, WRITE));
            addr += u64::from(*len);
        }
        self.driver.add(&self.memory, &parts).unwrap();
        self.run();
        let (_, len) = self.driver.take(&self.memory, parts.len()).expect("given back");
        let mut reply = vec![0; len as usize];
        self.memory.read_slice(&mut reply, GuestAddress(OUT)).unwrap();
        reply
    }
}

fn request(opcode: u32, len: usize) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&(len as u32).to_ne_bytes());
    request.extend_from_slice(&opcode.to_ne_bytes());
    request.extend_from_slice(&UNIQUE.to_ne_bytes());
    request.resize(len, 0x5a);
    request
}

fn eio_reply() -> Vec<u8> {
    [&16u32.to_ne_bytes()[..], &(-5i32).to_ne_bytes(), &UNIQUE.to_ne_bytes()].concat()
}

#[test]
fn messages_may_be_cut_anywhere() {
    let mut bench = Bench::new();
    let message = request(ECHO, 5000);
    for (cuts, room) in [
        (vec![], vec![5000]),
        (vec![40], vec![16, 8192]),
        (vec![1, 7, 4999], vec![1, 15, 4000, 984]),
        (vec![0, 4096], vec![0, 5000]),
    ] {
        assert_eq!(bench.ask(&message, &cuts, &room), message, "{cuts:?} {room:?}");
    }
}

#[test]
fn all_waiting_messages_are_answered() {
    let mut bench = Bench::new();
    let message = request(ECHO, 64);
    bench.memory.write_slice(&message, GuestAddress(IN)).unwrap();
    let parts = [(IN, 64, 0), (OUT, 64, WRITE)];
    let heads: Vec<_> =
        (0..300).map(|_| bench.driver.add(&bench.memory, &parts).unwrap()).collect();
    bench.run();
    for head in heads {
        assert_eq!(bench.driver.take(&bench.memory, 2), Some((head, 64)));
    }
}

#[test]
fn no_reply_is_no_bytes() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(&request(SILENT, 56), &[], &[]), b"");
    assert_eq!(bench.ask(&request(SILENT, 56), &[], &[4096]), b"");
}

#[test]
fn a_panic_in_the_handler_is_eio() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(&request(PANIC, 40), &[], &[4096]), eio_reply());
    let message = request(ECHO, 40);
    assert_eq!(bench.ask(&message, &[], &[4096]), message);
}

#[test]
fn a_reply_that_does_not_fit_is_eio() {
    let mut bench = Bench::new();
    assert_eq!(bench.ask(&request(HUGE, 40), &[], &[4096]), eio_reply());
    assert_eq!(bench.ask(&request(HUGE, 40), &[], &[16]), eio_reply());
    // Not even an error fits.
    assert_eq!(bench.ask(&request(HUGE, 40), &[], &[15]), b"");
    assert_eq!(bench.ask(&request(HUGE, 40), &[], &[]), b"");
}

#[test]
fn requests_are_bounded() {
    let mut bench = Bench::new();
    let longest = request(ECHO, MAX_REQUEST);
    assert_eq!(bench.ask(&longest, &[], &[MAX_REQUEST as u32]), longest);
    let too_long = request(ECHO, MAX_REQUEST + 1);
    assert_eq!(bench.ask(&too_long, &[40], &[2 << 20]), eio_reply());
    assert_eq!(*bench.handler.lengths.lock().unwrap(), [MAX_REQUEST]);
}

#[test]
fn a_request_without_a_header_gets_what_the_handler_says() {
    let mut bench = Bench::new();
    for len in [1, 15, 39] {
        assert_eq!(bench.ask(&request(PANIC, 40)[..len], &[], &[4096]).len() % 16, 0);
    }
}

#[test]
fn broken_chains_are_given_back() {
    let mut bench = Bench::new();
    let outside = 0xffff_ffff_ffff_f000;
    for chain in [
        vec![(outside, 40, 0), (OUT, 4096, WRITE)],
        vec![(IN, 40, 0), (outside, 4096, WRITE)],
        vec![(IN, u32::MAX, 0), (IN, u32::MAX, 0)],
    ] {
        bench.driver.add(&bench.memory, &chain).unwrap();
        bench.run();
        let (_, len) = bench.driver.take(&bench.memory, chain.len()).expect("given back");
        assert_eq!(len, 0);
    }
}

#[test]
fn descriptor_loops_end() {
    let mut bench = Bench::new();
    bench.memory.write_slice(&request(ECHO, 40), GuestAddress(IN)).unwrap();
    for flags in [NEXT, NEXT | WRITE] {
        let lap = Descriptor { addr: IN, len: 4096, flags, next: 0 };
        bench.driver.store(&bench.memory, 0, lap);
        bench.driver.publish(&bench.memory, 0);
        bench.run();
        assert!(bench.driver.take(&bench.memory, 0).is_some());
    }
}

#[test]
fn answers_may_come_in_any_order_and_from_any_thread() {
    let mut bench = Bench::new();
    let message = request(KEEP, 64);
    bench.memory.write_slice(&message, GuestAddress(IN)).unwrap();
    let parts = |number: u64| [(IN, 64, 0), (OUT + number * 64, 64, WRITE)];
    let heads: Vec<_> =
        (0..9).map(|number| bench.driver.add(&bench.memory, &parts(number)).unwrap()).collect();
    bench.run();
    assert_eq!(bench.driver.take(&bench.memory, 2), None, "none is answered yet");
    // What comes later is not held up.
    assert_eq!(bench.ask(&request(ECHO, 40), &[], &[4096]).len(), 40);
    let kept = std::mem::take(&mut *bench.handler.kept.lock().unwrap());
    let order = [4, 0, 8, 1, 7, 2, 6, 3, 5];
    let mut kept: Vec<_> = kept.into_iter().map(Some).collect();
    for number in order {
        let message = kept[number].take().unwrap();
        std::thread::spawn(move || message.answer(&[7; 24])).join().unwrap();
    }
    bench.run();
    for number in order {
        assert_eq!(bench.driver.take(&bench.memory, 2), Some((heads[number], 24)));
    }
}

#[test]
fn a_message_that_is_dropped_is_eio() {
    let mut bench = Bench::new();
    bench.memory.write_slice(&request(KEEP, 64), GuestAddress(IN)).unwrap();
    let head = bench.driver.add(&bench.memory, &[(IN, 64, 0), (OUT, 64, WRITE)]).unwrap();
    bench.run();
    bench.handler.kept.lock().unwrap().clear();
    bench.run();
    assert_eq!(bench.driver.take(&bench.memory, 2), Some((head, 16)));
    let mut reply = [0; 16];
    bench.memory.read_slice(&mut reply, GuestAddress(OUT)).unwrap();
    assert_eq!(reply[..], eio_reply());
}

/// A chain that is made available again before it was given back breaks the rules of the ring, and costs
/// no more than the ring is long.
#[test]
fn messages_under_way_are_bounded() {
    let mut bench = Bench::new();
    bench.memory.write_slice(&request(KEEP, 64), GuestAddress(IN)).unwrap();
    let head = bench.driver.add(&bench.memory, &[(IN, 64, 0), (OUT, 64, WRITE)]).unwrap();
    for _ in 0..1500 {
        bench.driver.publish(&bench.memory, head);
        bench.run();
    }
    assert_eq!(bench.handler.kept.lock().unwrap().len(), usize::from(QUEUE_SIZE));
    // Those that are answered make room.
    bench.handler.kept.lock().unwrap().truncate(1000);
    bench.run();
    assert_eq!(bench.handler.kept.lock().unwrap().len(), usize::from(QUEUE_SIZE));
}

/// The memory of a ring that was stopped may be anything: neither is it read, nor written.
#[test]
fn a_stopped_ring_is_left_alone() {
    let mut bench = Bench::new();
    bench.memory.write_slice(&request(KEEP, 64), GuestAddress(IN)).unwrap();
    bench.driver.add(&bench.memory, &[(IN, 64, 0), (OUT, 64, WRITE)]).unwrap();
    bench.driver.add(&bench.memory, &[(IN, 64, 0), (OUT, 64, WRITE)]).unwrap();
    bench.run();
    let kick = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    bench.rings[1].stop();
    bench.rings[1].start(kick.into());
    let kept = std::mem::take(&mut *bench.handler.kept.lock().unwrap());
    for message in kept {
        let error = message.read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        message.answer(&[9; 64]);
    }
    bench.run();
    assert_eq!(bench.driver.take(&bench.memory, 2), None);
    let mut reply = [0; 64];
    bench.memory.read_slice(&mut reply, GuestAddress(OUT)).unwrap();
    assert_eq!(reply, [0; 64]);
    assert_eq!(bench.core.under_way, [0; QUEUES]);
}

#[test]
fn tags_are_checked() {
    let handler = || Arc::new(Scripted::default());
    for tag in ["", "a\0b", &"x".repeat(37)] {
        let error = FsBackend::start(tag, handler()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    FsBackend::start(&"x".repeat(36), handler()).unwrap();
}
