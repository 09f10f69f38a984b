//! Whole devices against a monitor of our own making, over the real socket.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::vhost_user::fs::FsBackend;
use crate::vhost_user::testing::{Driver, WRITE};
use crate::vhost_user::vsock::VsockDevice;
use crate::vhost_user::vsock::wire::{HEADER_LEN, Header};
use crate::{FuseHandler, FuseMessage};

const CID: u64 = 3;
const RAM: u64 = 8 << 20;
/// Where the monitor would see guest memory.
const MONITOR: u64 = 0x7f00_0000_0000;
const TX: u64 = 0x10_0000;
const RX: u64 = 0x20_0000;

/// All of [`RAM`], as the monitor describes it.
fn region(file: &File) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: RAM,
        userspace_addr: MONITOR,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    }
}

/// Guest memory as the monitor makes it.
fn ram(seals: SealFlags) -> File {
    let fd = memfd_create("ram", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, RAM).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd.into()
}

struct Monitor {
    frontend: Frontend,
    memory: Memory,
    rx: Driver,
    tx: Driver,
    kicks: [EventFd; 2],
    call: EventFd,
}

impl Monitor {
    /// As QEMU does it: features, memory, then each ring.
    fn start(fd: OwnedFd) -> Self {
        let mut frontend = Frontend::from_stream(UnixStream::from(fd), 2);
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        frontend.set_features(features).unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(protocol).unwrap();
        assert_eq!(frontend.get_queue_num().unwrap(), 2);
        let file = ram(SealFlags::SHRINK);
        frontend.set_mem_table(&[region(&file)]).unwrap();
        let size = usize::try_from(RAM).unwrap();
        let range = (GuestAddress(0), size, Some(FileOffset::new(file, 0)));
        let memory = Memory::from_ranges_with_files([range]).unwrap();
        let (rx, _) = Driver::new(&memory, 0, 256);
        let (tx, _) = Driver::new(&memory, 0x1_0000, 256);
        let kicks = [0, 1].map(|_| EventFd::new(0).unwrap());
        let call = EventFd::new(libc_nonblock()).unwrap();
        for (index, base) in [(0, 0), (1, 0x1_0000)] {
            frontend.set_vring_num(index, 256).unwrap();
            frontend.set_vring_base(index, 0).unwrap();
            let config = VringConfigData {
                queue_max_size: 256,
                queue_size: 256,
                flags: 0,
                desc_table_addr: MONITOR + base,
                avail_ring_addr: MONITOR + base + 0x8000,
                used_ring_addr: MONITOR + base + 0xc000,
                log_addr: None,
            };
            frontend.set_vring_addr(index, &config).unwrap();
            frontend.set_vring_kick(index, &kicks[index]).unwrap();
            frontend.set_vring_call(index, &call).unwrap();
            frontend.set_vring_enable(index, true).unwrap();
        }
        Self { frontend, memory, rx, tx, kicks, call }
    }

    /// Offers a receive buffer and waits for a packet in it.
    fn receive(&mut self) -> Header {
        self.rx.add(&self.memory, &[(RX, 4096, WRITE)]).unwrap();
        self.kicks[0].write(1).unwrap();
        let limit = Duration::from_secs(20);
        matchlock_testkit::wait_until("a packet", limit, || self.rx.take(&self.memory, 1));
        let mut bytes = [0; HEADER_LEN];
        self.memory.read_slice(&mut bytes, GuestAddress(RX)).unwrap();
        Header::parse(&bytes)
    }

    fn send(&mut self, header: &Header) {
        self.memory.write_slice(&header.to_bytes(), GuestAddress(TX)).unwrap();
        self.tx.add(&self.memory, &[(TX, 44, 0)]).unwrap();
        self.kicks[1].write(1).unwrap();
    }
}

fn libc_nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits().cast_signed()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn a_stream_lives_as_long_as_the_monitor() {
    let (device, fd) = VsockDevice::start(CID).unwrap();
    let connector = device.connector();
    // The guest is not up yet: the request waits.
    let dialling = std::thread::spawn(move || connector.connect(1024, soon()));
    let mut monitor = Monitor::start(fd);
    let request = monitor.receive();
    assert_eq!((request.op, request.dst_port, request.dst_cid), (1, 1024, CID));
    assert!(monitor.call.read().is_ok(), "the guest is interrupted");
    let (src_port, dst_port) = (request.dst_port, request.src_port);
    let answer = Header { src_cid: CID, dst_cid: 2, src_port, dst_port, op: 2, ..request };
    monitor.send(&answer);
    let mut stream = dialling.join().unwrap().unwrap();
    drop(monitor);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    let error = device.connector().connect(1024, soon()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_stopped_ring_goes_on_where_it_was() {
    let (device, fd) = VsockDevice::start(CID).unwrap();
    let mut monitor = Monitor::start(fd);
    let dial = |device: &VsockDevice| {
        let connector = device.connector();
        std::thread::spawn(move || connector.connect(1024, soon()))
    };
    let first = dial(&device);
    let request = monitor.receive();
    assert_eq!(monitor.frontend.get_vring_base(0).unwrap(), 1);
    let second = dial(&device);
    monitor.frontend.set_vring_base(0, 1).unwrap();
    monitor.frontend.set_vring_kick(0, &monitor.kicks[0]).unwrap();
    assert_ne!(monitor.receive().src_port, request.src_port);
    drop(device);
    for dialling in [first, second] {
        let error = dialling.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn the_guest_cid_is_in_the_configuration() {
    let (_device, fd) = VsockDevice::start(0x1234).unwrap();
    let mut frontend = Frontend::from_stream(UnixStream::from(fd), 2);
    frontend.get_features().unwrap();
    let protocol = frontend.get_protocol_features().unwrap();
    frontend.set_protocol_features(protocol).unwrap();
    let flags = VhostUserConfigFlags::empty();
    let (_, config) = frontend.get_config(0, 8, flags, &[0; 8]).unwrap();
    assert_eq!(config, 0x1234u64.to_le_bytes());
}

#[test]
fn a_deadline_is_kept() {
    let (device, _fd) = VsockDevice::start(CID).unwrap();
    let error = device.connector().connect(1024, Instant::now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_monitor_that_talks_nonsense_is_left() {
    for nonsense in [&[0xff; 64][..], &[0; 12], &[5, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]] {
        let (device, fd) = VsockDevice::start(CID).unwrap();
        let mut monitor = UnixStream::from(fd);
        monitor.write_all(nonsense).unwrap();
        let error = device.connector().connect(1, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn unsealed_memory_ends_the_device() {
    let (device, fd) = VsockDevice::start(CID).unwrap();
    let mut frontend = Frontend::from_stream(UnixStream::from(fd), 2);
    frontend.get_features().unwrap();
    let file = ram(SealFlags::empty());
    let _ = frontend.set_mem_table(&[region(&file)]);
    let error = device.connector().connect(1, soon()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    let _ = frontend.get_protocol_features();
}

#[test]
fn half_a_message_does_not_hold_up_the_end() {
    let (device, fd) = VsockDevice::start(CID).unwrap();
    let mut monitor = UnixStream::from(fd);
    monitor.write_all(&[1, 0, 0]).unwrap();
    drop(device);
    // The end is closed on our side while the monitor still has its own.
    assert!(!matches!(monitor.read(&mut [0]), Ok(1..)));
}

/// Hangs until told.
#[derive(Debug)]
struct Hanging {
    entered: Barrier,
    release: Barrier,
}

impl FuseHandler for Hanging {
    fn submit(&self, _: FuseMessage) {
        self.entered.wait();
        self.release.wait();
    }
}

#[test]
fn a_hanging_handler_does_not_hold_up_the_end() {
    let handler = Arc::new(Hanging { entered: Barrier::new(2), release: Barrier::new(2) });
    let (device, fd) = FsBackend::start("root", handler.clone()).unwrap();
    let mut monitor = Monitor::start(fd);
    monitor.tx.add(&monitor.memory, &[(TX, 40, 0), (RX, 4096, WRITE)]).unwrap();
    monitor.kicks[1].write(1).unwrap();
    handler.entered.wait();
    drop(device);
    handler.release.wait();
}

/// Two trees, told apart by the node: what is asked of the first hangs on a thread of its own, what is
/// asked of the second is answered by another.
#[derive(Debug, Default)]
struct TwoTrees {
    hanging: Mutex<Vec<FuseMessage>>,
}

impl FuseHandler for TwoTrees {
    fn submit(&self, message: FuseMessage) {
        if message.head()[16] == 1 {
            self.hanging.lock().unwrap().push(message);
        } else {
            std::thread::spawn(move || message.answer(&[3; 24]));
        }
    }
}

#[test]
fn messages_that_hang_hold_up_no_others_and_not_the_end() {
    let handler = Arc::new(TwoTrees::default());
    let (device, fd) = FsBackend::start("root", handler.clone()).unwrap();
    let mut monitor = Monitor::start(fd);
    let mut ask = |node: u8, place: u64| {
        let mut request = [0; 40];
        (request[0], request[16]) = (40, node);
        let (at, reply) = (TX + place * 64, RX + place * 64);
        monitor.memory.write_slice(&request, GuestAddress(at)).unwrap();
        let head = monitor.tx.add(&monitor.memory, &[(at, 40, 0), (reply, 64, WRITE)]).unwrap();
        monitor.kicks[1].write(1).unwrap();
        if node == 1 {
            return;
        }
        let answer =
            matchlock_testkit::wait_until("an answer", matchlock_testkit::PATIENCE, || {
                monitor.tx.take(&monitor.memory, 2)
            });
        assert_eq!(answer, (head, 24));
    };
    for round in 0..50 {
        ask(1, round * 2);
        ask(2, round * 2 + 1);
    }
    assert_eq!(handler.hanging.lock().unwrap().len(), 50);
    drop(device);
    // Nobody is left to give them back to, which does no harm.
    let hanging = std::mem::take(&mut *handler.hanging.lock().unwrap());
    drop(monitor);
    hanging.into_iter().for_each(|message| message.answer(&[3; 24]));
}
