mod front;
mod kernel;
mod streams;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{TcpControl, TcpRepr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guest_frames::{self, Segment};
use super::*;

/// Keeps what it is given, refuses datagrams to odd ports and returns those to even ones.
#[derive(Debug, Default)]
struct Keeper {
    pending: Mutex<Vec<PendingFlow>>,
}

impl Keeper {
    fn take(&self) -> Vec<PendingFlow> {
        std::mem::take(&mut self.pending.lock().expect("lock"))
    }
}

impl Handler for Keeper {
    fn syn(self: &Arc<Self>, flow: PendingFlow) {
        self.pending.lock().expect("lock").push(flow);
    }

    fn udp(self: &Arc<Self>, datagram: Datagram, replies: UdpReplies) -> UdpVerdict {
        if datagram.dst.port() % 2 == 1 {
            return UdpVerdict::Refused;
        }
        replies.send(&datagram.payload).expect("there is room");
        UdpVerdict::Taken
    }
}

/// A stack, its handler, and the time.
struct Bench {
    core: StackCore<Keeper>,
    keeper: Arc<Keeper>,
    addressing: Addressing,
    now: Instant,
}

impl Bench {
    fn new(mtu: u32) -> Self {
        let keeper = Arc::new(Keeper::default());
        let addressing = Addressing::default();
        let config = StackConfig { mtu, addressing: addressing.clone() };
        let core = StackCore::new(config, Clock::manual(), Arc::clone(&keeper));
        Self { core, keeper, addressing, now: Instant::ZERO }
    }

    /// Sends a frame, and gives what comes back.
    fn send(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.core.ingress(frame, self.now);
        self.receive()
    }

    fn receive(&mut self) -> Vec<Vec<u8>> {
        let stream = self.core.egress(usize::MAX);
        guest_frames::frames(&stream).into_iter().map(<[u8]>::to_vec).collect()
    }

    /// Lets time pass and runs the timers; an empty frame is dropped.
    fn pass(&mut self, seconds: u64) -> Vec<Vec<u8>> {
        self.now += Duration::from_secs(seconds);
        self.send(&[])
    }

    fn count(&self, reason: Discard) -> u64 {
        self.core.shared.counters.get(reason)
    }

    /// A connection after its handshake, from the guest's `port`.
    fn open(&mut self, port: u16) -> (Peer, TcpFlow) {
        let mut peer = Peer::new(self, port);
        let syn = peer.frame(TcpControl::Syn, &[]);
        assert!(self.send(&syn).is_empty(), "a SYN waits for a decision");
        let flow = self.keeper.take().pop().expect("a flow").accept();
        let replies = self.receive();
        let (_, reply) = guest_frames::segment(&replies[0]).expect("a segment");
        assert_eq!((replies.len(), reply.control), (1, TcpControl::Syn));
        peer.learn(&reply);
        let ack = peer.frame(TcpControl::None, &[]);
        assert!(self.send(&ack).is_empty());
        (peer, flow)
    }
}

/// The guest's side of one connection, which keeps count of sequence numbers and nothing else.
struct Peer {
    addressing: Addressing,
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    ack: Option<u32>,
    window: u16,
}

impl Peer {
    fn new(bench: &Bench, port: u16) -> Self {
        let addressing = bench.addressing.clone();
        let from = SocketAddr::new(addressing.guest_v4.into(), port);
        let to = SocketAddr::from(([198, 19, 0, 9], 443));
        Self { addressing, from, to, seq: 1000, ack: None, window: 60000 }
    }

    /// A segment, after which the next one follows.
    fn frame(&mut self, control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let (from, to, seq, ack, window) = (self.from, self.to, self.seq, self.ack, self.window);
        let flag = matches!(control, TcpControl::Syn | TcpControl::Fin);
        self.seq = seq.wrapping_add(payload.len() as u32 + u32::from(flag));
        Segment { from, to, control, seq, ack, window, payload }.frame(&self.addressing)
    }

    /// Acknowledges all up to the end of a segment.
    fn learn(&mut self, reply: &TcpRepr<'_>) {
        self.ack = Some((reply.seq_number + reply.segment_len()).0 as u32);
    }
}

/// What kind of segments the frames are.
fn controls(frames: &[Vec<u8>]) -> Vec<TcpControl> {
    let segments = frames.iter().filter_map(|frame| guest_frames::segment(frame));
    segments.map(|(_, segment)| segment.control).collect()
}

fn read(flow: &mut TcpFlow, size: usize) -> Poll<std::io::Result<Vec<u8>>> {
    let mut space = vec![0; size];
    let mut buffer = ReadBuf::new(&mut space);
    let poll = Pin::new(flow).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
    poll.map_ok(|()| buffer.filled().to_vec())
}

fn write(flow: &mut TcpFlow, data: &[u8]) -> Poll<std::io::Result<usize>> {
    Pin::new(flow).poll_write(&mut Context::from_waker(Waker::noop()), data)
}

fn shut_down(flow: &mut TcpFlow) {
    let poll = Pin::new(flow).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(poll, Poll::Ready(Ok(()))));
}

fn kind<T>(poll: Poll<std::io::Result<T>>) -> Option<std::io::ErrorKind> {
    match poll {
        Poll::Ready(Err(error)) => Some(error.kind()),
        _ => None,
    }
}

fn ready<T>(poll: Poll<std::io::Result<T>>) -> T {
    match poll {
        Poll::Ready(result) => result.expect("no error"),
        Poll::Pending => panic!("pending"),
    }
}
