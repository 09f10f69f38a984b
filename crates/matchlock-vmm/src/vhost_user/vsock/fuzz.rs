//! The entry for a fuzzer: a guest that sends anything, against real connections.

use std::io::Read;
use std::os::unix::net::UnixStream;

use vm_memory::{Bytes, GuestAddress};

use super::buffer::Buffer;
use super::doorbell::Doorbell;
use super::table::{MAX_CONNECTIONS, Table};
use super::wire::{HEADER_LEN, HOST_CID, Header};
use crate::Answered;
use crate::vhost_user::event_loop::{Next, Poller, Token};
use crate::vhost_user::memory::Memory;

const CID: u64 = 3;
const BUFFER: usize = 0x1_0000;

struct Target {
    table: Table,
    poller: Poller,
    memory: Memory,
    hosts: Vec<UnixStream>,
    dialled: usize,
}

/// Lets the bytes drive a guest and the ends of its connections. Panics where a promise is broken:
/// the host accepts nobody, asks only when it dials, and holds a bounded number of connections.
pub fn fuzz_packets(data: &[u8]) {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 2 * BUFFER)]).expect("memory");
    let poller = Poller::new().expect("epoll");
    let mut target = Target {
        table: Table::new(CID, Doorbell::default()),
        poller,
        memory,
        hosts: Vec::new(),
        dialled: 0,
    };
    let mut rest = data;
    while let Some((action, tail)) = rest.split_first() {
        rest = target.step(*action, tail);
        target.events();
    }
}

impl Target {
    /// Takes one action and gives back the bytes that it did not use.
    fn step<'a>(&mut self, action: u8, data: &'a [u8]) -> &'a [u8] {
        match action % 8 {
            0 => self.dial(),
            1 => drop(self.hosts.pop()),
            2 => self.host_reads(),
            3 => self.host_writes(data),
            4 => self.take_packets(),
            shape => return self.packet(shape, data),
        }
        data
    }

    fn dial(&mut self) {
        let (ours, socket) = UnixStream::pair().expect("socket pair");
        ours.set_nonblocking(true).expect("nonblocking");
        self.table.dial(1024, socket, Answered::new(drop), &self.poller);
        self.dialled += 1;
        if self.hosts.len() < 8 {
            self.hosts.push(ours);
        }
        assert!(self.table.len() <= MAX_CONNECTIONS);
    }

    fn host_reads(&mut self) {
        let mut buffer = [0; 8192];
        for host in &mut self.hosts {
            let _ = host.read(&mut buffer);
        }
    }

    fn host_writes(&mut self, data: &[u8]) {
        for host in &mut self.hosts {
            let _ = std::io::Write::write(host, &data[..data.len().min(300)]);
        }
    }

    /// The odd shapes send any header, the others one that names a connection.
    fn packet<'a>(&mut self, shape: u8, data: &'a [u8]) -> &'a [u8] {
        let Some((header, rest)) = data.split_first_chunk::<HEADER_LEN>() else {
            return &[];
        };
        let mut header = Header::parse(header);
        if shape.is_multiple_of(2) {
            header = Header { src_cid: CID, dst_cid: HOST_CID, kind: 1, src_port: 1024, ..header };
            header.dst_port = Table::nth_port(header.dst_port % 8);
            header.op %= 8;
        }
        let payload = header.len as usize % BUFFER;
        let mut buffer = Buffer::over(&self.memory, 0, payload);
        self.table.on_packet(&header, &mut buffer, &self.poller);
        rest
    }

    fn take_packets(&mut self) {
        for _ in 0..16 {
            let mut buffer = Buffer::over(&self.memory, BUFFER, 4096);
            let Some(len) = self.table.emit(&mut buffer) else {
                return;
            };
            let mut header = [0; HEADER_LEN];
            self.memory.read_slice(&mut header, GuestAddress(BUFFER as u64)).expect("in memory");
            let header = Header::parse(&header);
            assert_eq!(len as usize, HEADER_LEN + header.len as usize);
            assert_eq!(header.dst_cid, CID);
            assert_ne!(header.op, 2, "the host accepts nobody");
            if header.op == 1 {
                self.dialled = self.dialled.checked_sub(1).expect("one request for each dial");
            }
        }
    }

    fn events(&mut self) {
        let mut events = Vec::with_capacity(16);
        self.poller.wait(&mut events, Next::Again).expect("epoll");
        for event in &events {
            if let Token::Device(id) = Token::decode(event.data.u64()) {
                self.table.on_event(id, event.flags, &self.poller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_input_keeps_the_promises(data in prop::collection::vec(any::<u8>(), 0..4000)) {
            super::fuzz_packets(&data);
        }
    }
}
