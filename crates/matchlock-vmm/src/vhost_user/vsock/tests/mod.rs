//! The device against a guest of our own making, through real queues and real sockets.

mod hostile;
mod properties;
mod streams;

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use vm_memory::{Bytes, GuestAddress};

use super::Command;
use super::device::VsockCore;
use super::doorbell::Doorbell;
use super::flow::BUF_ALLOC;
use super::wire::{HEADER_LEN, HOST_CID, Header};
use crate::Answered;
use crate::vhost_user::event_loop::{Device, Next, Poller, Token};
use crate::vhost_user::memory::Memory;
use crate::vhost_user::ring::Ring;
use crate::vhost_user::testing::{Driver, WRITE, memory};

const CID: u64 = 3;
const PORT: u32 = 1024;

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RST: u16 = 3;
const SHUTDOWN: u16 = 4;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;

const QUEUE: u16 = 256;
const RX_BUFFER: u32 = 4096;
const RX_BUFFERS: u64 = 0x10_0000;
const TX_BUFFER: u64 = 0x30_0000;

/// The guest, the device and the poller between it and the sockets; no thread.
struct Bench {
    memory: Arc<Memory>,
    rx: Driver,
    tx: Driver,
    rings: [Ring; 2],
    core: VsockCore,
    poller: Poller,
    commands: Sender<Command>,
}

impl Bench {
    /// With this many receive buffers.
    fn with_buffers(count: u16) -> Self {
        let memory = memory();
        let (mut rx, rx_ring) = Driver::new(&memory, 0, QUEUE);
        let (tx, tx_ring) = Driver::new(&memory, 0x1_0000, QUEUE);
        for i in 0..u64::from(count) {
            let addr = RX_BUFFERS + i * u64::from(RX_BUFFER);
            rx.add(&memory, &[(addr, RX_BUFFER, WRITE)]).unwrap();
        }
        let (commands, receiver) = channel();
        let core = VsockCore::new(CID, receiver, Doorbell::default());
        let poller = Poller::new().unwrap();
        Self { memory: memory.into(), rx, tx, rings: [rx_ring, tx_ring], core, poller, commands }
    }

    fn new() -> Self {
        Self::with_buffers(QUEUE)
    }

    /// Lets the device work until it has nothing left to do.
    fn run(&mut self) {
        let mut events = Vec::with_capacity(64);
        for _ in 0..10_000 {
            self.poller.wait(&mut events, Next::Again).unwrap();
            for event in &events {
                let Token::Device(id) = Token::decode(event.data.u64()) else {
                    panic!("only sockets are registered here");
                };
                self.core.on_event(id, event.flags, &self.poller);
            }
            let next = self.core.run(Some(&self.memory), &mut self.rings, &self.poller);
            if next == Next::Wait && events.is_empty() {
                return;
            }
        }
        panic!("the device never rests");
    }

    fn send(&mut self, header: &Header, payload: &[u8]) {
        self.memory.write_slice(&header.to_bytes(), GuestAddress(TX_BUFFER)).unwrap();
        let data = TX_BUFFER + HEADER_LEN as u64;
        self.memory.write_slice(payload, GuestAddress(data)).unwrap();
        let len = (HEADER_LEN + payload.len()) as u32;
        self.tx.add(&self.memory, &[(TX_BUFFER, len, 0)]).unwrap();
        self.run();
        assert!(self.tx.take(&self.memory, 1).is_some(), "every packet is given back");
    }

    /// The next packet for the guest, whose buffer is offered again.
    fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, len) = self.rx.take(&self.memory, 1)?;
        let addr = self.buffer_of(head);
        let mut bytes = vec![0; len as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(addr)).unwrap();
        self.rx.add(&self.memory, &[(addr, RX_BUFFER, WRITE)]).unwrap();
        self.run();
        let (header, payload) = bytes.split_first_chunk().expect("a whole header");
        let header = Header::parse(header);
        assert_eq!(header.len as usize, payload.len());
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID));
        Some((header, payload.to_vec()))
    }

    fn buffer_of(&self, head: u16) -> u64 {
        self.memory.read_obj(GuestAddress(16 * u64::from(head))).unwrap()
    }

    fn ops(&mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.receive()).map(|(header, _)| header.op).collect()
    }

    fn dial(&mut self) -> (UnixStream, Receiver<io::Result<()>>) {
        let (ours, socket) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (answer, answered) = sync_channel(1);
        let answer = Answered::new(move |result| drop(answer.try_send(result)));
        self.commands.send(Command { port: PORT, socket, answer }).unwrap();
        self.run();
        (ours, answered)
    }

    /// A connection, and the addresses that the guest puts into its packets.
    fn connect(&mut self, buf_alloc: u32) -> (UnixStream, Header) {
        let (ours, answered) = self.dial();
        let (request, _) = self.receive().expect("a request");
        assert_eq!((request.op, request.dst_port), (REQUEST, PORT));
        let peer = Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: PORT,
            dst_port: request.src_port,
            kind: 1,
            buf_alloc,
            ..Header::default()
        };
        self.send(&Header { op: RESPONSE, ..peer }, &[]);
        answered.try_recv().unwrap().unwrap();
        (ours, peer)
    }

    fn data(&mut self, peer: Header, payload: &[u8]) {
        self.send(&Header { op: RW, len: payload.len() as u32, ..peer }, payload);
    }
}

fn drain(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
    }
    bytes
}

fn at_end(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

/// Reads what there is; whether the end was reached.
fn at_end_or_more(stream: &mut UnixStream, read: &mut Vec<u8>) -> bool {
    match stream.read_to_end(read) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}
