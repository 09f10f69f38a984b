//! The stack under a guest that means it no good.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::TcpControl;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guest_frames::{self, Segment};
use super::{
    Addressing, Clock, Datagram, Deframer, Handler, MAX_FLOWS, PendingFlow, StackConfig, StackCore,
    TcpFlow, UdpReplies, UdpVerdict,
};

/// Connections that the input can tell apart.
const PEERS: usize = 6;
/// What the guest may be sent while it does not read: what is full, and the answers to one batch.
const EGRESS_BOUND: usize = 4 * 1024 * 1024;

/// Two halves of the input, after its first byte says which: a raw stream of frames, in pieces; or
/// the moves of a guest that completes handshakes and then breaks rules, with valid checksums.
///
/// Nothing panics, the table keeps its bound, and what comes out are whole frames.
pub fn ethernet_stack(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    if kind % 2 == 0 { raw(rest) } else { moves(rest) }
}

fn raw(mut input: &[u8]) {
    let mut world = World::new();
    let mut deframer = Deframer::new();
    while let Some((step, rest)) = input.split_first() {
        let space = deframer.space();
        let count = (usize::from(*step) + 1).min(rest.len()).min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        deframer.filled(count);
        input = &rest[count..];
        loop {
            match deframer.next() {
                Ok(Some(frame)) => world.core.ingress(frame, world.now),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        world.read(usize::MAX);
    }
}

fn moves(input: &[u8]) {
    let mut world = World::new();
    let mut input = Input(input);
    while let Some(step) = input.byte() {
        match step % 8 {
            0..4 => world.segment(&mut input),
            4 => world.now += Duration::from_millis(u64::from(input.word()) * 16),
            5 => world.read(usize::from(input.word()) * 32),
            6 => world.stream(&mut input),
            _ => {
                let frame = input.take();
                world.core.ingress(frame, world.now);
            }
        }
        assert!(world.core.flows() <= MAX_FLOWS);
    }
    world.read(usize::MAX);
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte().unwrap_or(0), self.byte().unwrap_or(0)])
    }

    fn take(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

/// What the guest knows of a connection.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    seq: u32,
    ack: u32,
}

struct World {
    core: StackCore<Server>,
    server: Arc<Server>,
    addressing: Addressing,
    now: Instant,
    peers: [Peer; PEERS],
    unread: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let server = Arc::new(Server::default());
        let addressing = Addressing::default();
        let config = StackConfig { mtu: 65520, addressing: addressing.clone() };
        let core = StackCore::new(config, Clock::manual(), Arc::clone(&server));
        let peers = [Peer::default(); PEERS];
        Self { core, server, addressing, now: Instant::ZERO, peers, unread: Vec::new() }
    }

    fn ends(&self, peer: usize) -> (SocketAddr, SocketAddr) {
        let addressing = &self.addressing;
        let (guest, remote): (IpAddr, IpAddr) = match peer % 2 {
            0 => (addressing.guest_v4.into(), addressing.gateway_v4.into()),
            _ => (addressing.guest_v6.into(), addressing.gateway_v6.into()),
        };
        (SocketAddr::new(guest, 1000), SocketAddr::new(remote, peer as u16 + 1))
    }

    /// A segment, near to what is expected of it or not.
    fn segment(&mut self, input: &mut Input<'_>) {
        let index = usize::from(input.byte().unwrap_or(0)) % PEERS;
        let flags = input.byte().unwrap_or(0);
        let control = match flags % 8 {
            0 | 1 | 5 => TcpControl::None,
            2 => TcpControl::Psh,
            3 => TcpControl::Syn,
            4 => TcpControl::Fin,
            6 => TcpControl::Rst,
            _ => TcpControl::Syn,
        };
        let offset =
            |flag: u8, word: u16| if flags & flag == 0 { 0 } else { i32::from(word as i16) };
        let shift = if flags & 0x40 == 0 { 0 } else { 4 };
        let seq_offset = offset(0x08, input.word()) << shift;
        let ack_offset = offset(0x10, input.word());
        let window = if flags & 0x20 == 0 { 60000 } else { input.word() };
        let payload = vec![flags; usize::from(input.word()).min(65000)];
        let (from, to) = self.ends(index);
        let peer = self.peers[index];
        let seq = peer.seq.wrapping_add_signed(seq_offset);
        let ack = peer.ack.wrapping_add_signed(ack_offset);
        let ack = (control != TcpControl::Syn || flags % 8 == 7).then_some(ack);
        let data = if control == TcpControl::Syn { &[][..] } else { &payload };
        let segment = Segment { from, to, control, seq, ack, window, payload: data };
        let frame = segment.frame(&self.addressing);
        self.core.ingress(&frame, self.now);
        let length = data.len() as u32
            + u32::from(control != TcpControl::None && control != TcpControl::Psh);
        self.peers[index].seq = seq.wrapping_add(length);
        if flags & 0x80 == 0 {
            self.read(usize::MAX);
        }
    }

    /// The guest takes up to `limit` bytes of what there is for it, and learns from whole frames.
    fn read(&mut self, limit: usize) {
        let got = self.core.egress(limit.min(EGRESS_BOUND + 1));
        assert!(got.len() <= EGRESS_BOUND, "{} bytes waited", got.len());
        self.unread.extend(got);
        let mut at = 0;
        while let Some(prefix) = self.unread[at..].first_chunk::<4>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            let Some(frame) = self.unread.get(at + 4..at + 4 + length) else { break };
            if let Some((ip, tcp)) = guest_frames::segment(frame) {
                assert!(ip.buffer_len() <= 65520);
                let end = (tcp.seq_number + tcp.segment_len()).0 as u32;
                if let Some(peer) = self.peers.get_mut(usize::from(tcp.src_port) - 1) {
                    peer.ack = end;
                }
            }
            at += 4 + length;
        }
        self.unread.drain(..at);
    }

    /// The holder of a stream does something.
    fn stream(&mut self, input: &mut Input<'_>) {
        let (which, count) = (input.byte().unwrap_or(0), usize::from(input.word()));
        let mut held = self.server.held.lock().expect("lock");
        if which & 0x80 != 0 {
            held.pending.pop().map(PendingFlow::accept).into_iter().for_each(|flow| {
                held.flows.push(flow);
            });
        }
        if held.flows.is_empty() {
            return;
        }
        let index = usize::from(which >> 3) % held.flows.len();
        let mut context = Context::from_waker(Waker::noop());
        let flow = Pin::new(&mut held.flows[index]);
        match which % 8 {
            0 | 1 => {
                let mut buffer = vec![0; count];
                let _ = flow.poll_read(&mut context, &mut ReadBuf::new(&mut buffer));
            }
            2..5 => {
                let _ = flow.poll_write(&mut context, &vec![0; count]);
            }
            5 => {
                let _ = flow.poll_shutdown(&mut context);
            }
            6 => drop(held.flows.swap_remove(index)),
            _ => held.flows.swap_remove(index).reset(),
        }
    }
}

/// Accepts, refuses, or lets wait, by port.
#[derive(Debug, Default)]
struct Server {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    flows: Vec<TcpFlow>,
    pending: Vec<PendingFlow>,
}

impl Handler for Server {
    fn syn(self: &Arc<Self>, flow: PendingFlow) {
        match flow.dst().port() {
            4 => flow.refuse(),
            5 => self.held.lock().expect("lock").pending.push(flow),
            _ => {
                let flow = flow.accept();
                self.held.lock().expect("lock").flows.push(flow);
            }
        }
    }

    fn udp(self: &Arc<Self>, datagram: Datagram, replies: UdpReplies) -> UdpVerdict {
        if datagram.dst.port().is_multiple_of(2) {
            return UdpVerdict::Refused;
        }
        let _ = replies.send(&datagram.payload);
        UdpVerdict::Taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_guest_breaks_the_stack(input in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::ethernet_stack(&input);
        }
    }
}
