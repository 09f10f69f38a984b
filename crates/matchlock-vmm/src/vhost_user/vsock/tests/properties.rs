//! Properties under generated sequences: of one flow against any packets, and of the whole device
//! against a guest that keeps the rules in any order and size.

use std::io::{Read, Write};
use std::net::Shutdown;

use proptest::prelude::*;

use super::*;
use crate::vhost_user::vsock::flow::{Event, Flow, Phase};
use crate::vhost_user::vsock::wire::{Credit, Ends, Op};

#[derive(Debug, Clone, Copy)]
enum Step {
    Packet(Op, u32, Credit),
    SendControl,
    SendData(u32),
    Forward(u32),
    HostFinished,
    HostDeaf,
    Starved,
    Abort,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::Request),
        3 => Just(Op::Response),
        1 => Just(Op::Reset),
        2 => any::<(bool, bool)>().prop_map(|(receive, send)| Op::Shutdown(Ends { receive, send })),
        8 => Just(Op::Data),
        4 => Just(Op::CreditUpdate),
        2 => Just(Op::CreditRequest),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![0..70_000u32, any::<u32>()];
    let credit = (prop_oneof![Just(1 << 18), any::<u32>()], any::<u32>())
        .prop_map(|(buf_alloc, fwd_cnt)| Credit { buf_alloc, fwd_cnt });
    prop_oneof![
        6 => (any_op(), len, credit).prop_map(|(op, len, credit)| Step::Packet(op, len, credit)),
        6 => Just(Step::SendControl),
        3 => any::<u32>().prop_map(Step::SendData),
        3 => any::<u32>().prop_map(Step::Forward),
        1 => Just(Step::HostFinished),
        1 => Just(Step::HostDeaf),
        1 => Just(Step::Starved),
        1 => Just(Step::Abort),
    ]
}

/// What an observer on the wire and at the host end has seen of a flow.
#[derive(Debug, Default)]
struct Observer {
    held: u32,
    told: Ends,
    requests: u32,
    was_over: bool,
}

impl Observer {
    fn apply(&mut self, flow: &mut Flow, step: Step) {
        match step {
            Step::Packet(op, len, credit) => {
                let len = if op == Op::Data { len } else { 0 };
                if matches!(flow.on_packet(op, len, credit), Event::Deliver | Event::Discard) {
                    self.held = self.held.checked_add(len).expect("no overflow");
                }
            }
            Step::SendControl => {
                if let Some(op) = flow.control() {
                    self.sent(op);
                    flow.on_sent(op, 0);
                }
            }
            Step::SendData(len) => {
                let len = len.min(flow.window());
                if len > 0 {
                    assert!(!self.told.send, "data after the promise to send none");
                    flow.on_sent(Op::Data, len);
                }
            }
            Step::Forward(len) => {
                let len = len.min(self.held);
                self.held -= len;
                flow.on_forwarded(len);
            }
            Step::HostFinished => flow.on_host_finished(),
            Step::HostDeaf => flow.on_host_deaf(),
            Step::Starved => flow.on_starved(),
            Step::Abort => flow.abort(),
        }
        self.check(flow);
    }

    fn sent(&mut self, op: Op) {
        match op {
            Op::Request => self.requests += 1,
            Op::Response => panic!("the host accepts nobody"),
            Op::Shutdown(ends) => {
                assert!(ends.send || !self.told.send, "hints are permanent");
                assert!(ends.receive || !self.told.receive, "hints are permanent");
                assert_ne!(ends, self.told, "told once");
                self.told = ends;
            }
            Op::Reset | Op::Data | Op::CreditUpdate | Op::CreditRequest => {}
        }
        assert!(self.requests <= 1);
    }

    fn check(&mut self, flow: &Flow) {
        assert!(self.held <= BUF_ALLOC, "more held than granted");
        let over = flow.phase() == Phase::Over;
        assert!(over || !self.was_over, "there is no way back");
        self.was_over = over;
        if over {
            assert_eq!((flow.control(), flow.window()), (None, 0));
            assert!(!flow.wants_host_bytes() && flow.guest_finished());
        }
    }
}

proptest! {
    #[test]
    fn a_flow_keeps_its_word_whatever_comes(steps in prop::collection::vec(any_step(), 0..200)) {
        let (mut flow, mut observer) = (Flow::new(), Observer::default());
        for step in steps {
            observer.apply(&mut flow, step);
        }
    }
}

/// What the two ends of a stream do, in any order.
#[derive(Debug, Clone, Copy)]
enum Move {
    HostWrites(usize),
    HostReads(usize),
    /// As much as the device granted, at most this.
    GuestSends(usize),
    /// The guest's program takes this much out of its receive buffer and tells.
    GuestReads(u32),
    GuestTakesPackets(usize),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        (1..100_000usize).prop_map(Move::HostWrites),
        (1..400_000usize).prop_map(Move::HostReads),
        (1..80_000usize).prop_map(Move::GuestSends),
        (1..80_000u32).prop_map(Move::GuestReads),
        (1..60usize).prop_map(Move::GuestTakesPackets),
    ]
}

/// Both directions of one stream, with the bytes counting up modulo 251.
struct Pair {
    bench: Bench,
    host: UnixStream,
    peer: Header,
    buf_alloc: u32,
    host_wrote: usize,
    guest_got: usize,
    guest_sent: u32,
    host_got: usize,
    granted: u32,
    host_done: bool,
    guest_done: bool,
}

fn counting(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|i| (i % 251) as u8).collect()
}

impl Pair {
    fn new(buf_alloc: u32) -> Self {
        let mut bench = Bench::new();
        let (host, peer) = bench.connect(buf_alloc);
        Self {
            bench,
            host,
            peer,
            buf_alloc,
            host_wrote: 0,
            guest_got: 0,
            guest_sent: 0,
            host_got: 0,
            granted: BUF_ALLOC,
            host_done: false,
            guest_done: false,
        }
    }

    fn apply(&mut self, step: Move) {
        match step {
            Move::HostWrites(len) => {
                let written = self.host.write(&counting(self.host_wrote, len)).unwrap_or(0);
                self.host_wrote += written;
                self.bench.run();
            }
            Move::HostReads(len) => self.host_reads(len),
            Move::GuestSends(len) => {
                let room = self.granted.wrapping_sub(self.guest_sent) as usize;
                let bytes = counting(self.guest_sent as usize, len.min(room));
                self.guest_sent += bytes.len() as u32;
                self.bench.data(self.peer, &bytes);
            }
            Move::GuestReads(len) => {
                let unread = self.guest_got as u32 - self.peer.fwd_cnt;
                self.peer.fwd_cnt += len.min(unread);
                self.bench.send(&Header { op: CREDIT_UPDATE, ..self.peer }, &[]);
            }
            Move::GuestTakesPackets(count) => {
                for _ in 0..count {
                    self.guest_receives();
                }
            }
        }
    }

    fn host_reads(&mut self, len: usize) {
        let mut buffer = vec![0; len];
        match self.host.read(&mut buffer) {
            Ok(0) => self.host_done = true,
            Ok(n) => {
                assert!(buffer[..n] == counting(self.host_got, n), "lost or out of order");
                self.host_got += n;
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        self.bench.run();
    }

    fn guest_receives(&mut self) -> bool {
        let Some((header, payload)) = self.bench.receive() else {
            return false;
        };
        assert!(payload == counting(self.guest_got, payload.len()), "lost or out of order");
        self.guest_got += payload.len();
        self.granted = header.fwd_cnt.wrapping_add(header.buf_alloc);
        let unread = self.guest_got as u32 - self.peer.fwd_cnt;
        assert!(unread <= self.buf_alloc, "more than the guest has room for");
        match header.op {
            RW | CREDIT_UPDATE | CREDIT_REQUEST => {}
            SHUTDOWN => self.guest_done = true,
            op => panic!("operation {op} in a clean conversation"),
        }
        true
    }

    /// Both ends say that they are done; everything on its way must still arrive.
    fn finish(mut self) {
        self.host.shutdown(Shutdown::Write).unwrap();
        self.bench.run();
        self.bench.send(&Header { op: SHUTDOWN, flags: 2, ..self.peer }, &[]);
        // A guest with a small buffer takes as little in each round.
        let rounds = 10_000 + 2 * self.host_wrote / self.buf_alloc as usize;
        for _ in 0..rounds {
            if self.host_done && self.guest_done {
                break;
            }
            self.host_reads(1 << 20);
            while self.guest_receives() {}
            self.apply(Move::GuestReads(u32::MAX));
        }
        assert_eq!((self.guest_got, self.host_got), (self.host_wrote, self.guest_sent as usize));
        assert!(self.host_done && self.guest_done);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_byte_is_lost_or_out_of_order(
        buf_alloc in 16u32..300_000,
        moves in prop::collection::vec(any_move(), 0..60),
    ) {
        let mut pair = Pair::new(buf_alloc);
        for step in moves {
            pair.apply(step);
        }
        pair.finish();
    }
}
