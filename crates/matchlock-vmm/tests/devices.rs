//! Our devices under a real QEMU with a real Linux guest.

mod support;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use matchlock_testkit::wait_until;

use support::{Machine, PATIENCE, fuse};

const ECHO: u32 = 1000;
const COUNT: u32 = 1001;
const SOURCE: u32 = 1002;
const DIAL: u32 = 1003;
const FILE: u32 = 1004;

/// One boot for everything: it is the slow part.
#[test]
fn devices_serve_a_linux_guest() {
    let Some(mut machine) = Machine::boot() else {
        return;
    };
    machine.connect(ECHO);
    refused(&machine);
    guest_cannot_dial(&machine);
    echo(&machine.connect(ECHO), 16 << 20);
    half_close(&machine);
    whole_source(&machine);
    many_connections(&machine);
    slow_reader(&machine);
    read_file(&machine);
    death_is_seen(&mut machine);
}

fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn refused(machine: &Machine) {
    let error = machine.vsock.connector().connect(4444, Instant::now() + PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

fn guest_cannot_dial(machine: &Machine) {
    const ECONNRESET: i32 = 104;
    for port in [1u32, 1024, ECHO, 0x4000_0000] {
        let mut stream = machine.connect(DIAL);
        stream.write_all(&port.to_le_bytes()).unwrap();
        let mut code = [0; 4];
        stream.read_exact(&mut code).unwrap();
        assert_eq!(i32::from_le_bytes(code), ECONNRESET, "port {port}");
    }
}

fn echo(stream: &UnixStream, len: usize) {
    let sent = pattern(len);
    let mut writer = stream.try_clone().unwrap();
    let mut received = Vec::with_capacity(len);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        (&*stream).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} bytes back of {len}", received.len());
}

fn half_close(machine: &Machine) {
    let mut stream = machine.connect(COUNT);
    stream.write_all(&pattern(1_000_003)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut total = Vec::new();
    stream.read_to_end(&mut total).unwrap();
    assert_eq!(total, 1_000_003u64.to_le_bytes());
}

/// The guest sends and closes at once: every byte arrives before the end.
fn whole_source(machine: &Machine) {
    for len in [0u64, 1, 4096, 262_144, 262_145, 3_000_001] {
        let mut stream = machine.connect(SOURCE);
        stream.write_all(&len.to_le_bytes()).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received.len() as u64, len);
        assert!(received.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8));
    }
}

fn many_connections(machine: &Machine) {
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| echo(&machine.connect(ECHO), 300_000));
        }
    });
}

/// A stream that nobody reads holds up no other.
fn slow_reader(machine: &Machine) {
    let mut stuck = machine.connect(SOURCE);
    stuck.write_all(&5_000_000u64.to_le_bytes()).unwrap();
    // More than a packet waits for us: the guest sends, and nobody reads.
    wait_until("unread data", PATIENCE, || {
        (rustix::io::ioctl_fionread(&stuck).unwrap() > 100_000).then_some(())
    });
    echo(&machine.connect(ECHO), 1_000_000);
    let mut received = Vec::new();
    stuck.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), 5_000_000);
}

fn read_file(machine: &Machine) {
    for name in ["file", "missing", "panic", "file"] {
        let mut stream = machine.connect(FILE);
        stream.write_all(name.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut content = Vec::new();
        stream.read_to_end(&mut content).unwrap();
        let expected = if name == "file" { fuse::FILE_LEN } else { 0 };
        assert_eq!(content.len(), expected, "{name}: {}", machine.console());
        assert!(content.iter().enumerate().all(|(i, b)| *b == fuse::byte(i)));
    }
}

fn death_is_seen(machine: &mut Machine) {
    let mut stream = machine.connect(ECHO);
    machine.kill();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    let error = machine.vsock.connector().connect(ECHO, Instant::now() + PATIENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
