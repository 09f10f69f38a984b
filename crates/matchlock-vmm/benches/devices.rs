//! How fast our devices move bytes under QEMU's software emulation.
//!
//! Figures of one run on one machine; compare runs before and after a change, not machines.

#![expect(clippy::print_stdout, reason = "prints its result")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use support::Machine;

const ECHO: u32 = 1000;
const COUNT: u32 = 1001;
const SOURCE: u32 = 1002;

const LEN: u64 = 400_000_000;

fn main() {
    let Some(machine) = Machine::boot() else {
        return;
    };
    machine.connect(ECHO);
    for _ in 0..3 {
        let cost = Cost::now(&machine);
        println!(
            "host to guest  {:6.0} MB/s{}",
            to_guest(&machine, LEN),
            cost.since(&machine)
        );
        let cost = Cost::now(&machine);
        println!(
            "guest to host  {:6.0} MB/s{}",
            to_host(&machine, LEN),
            cost.since(&machine)
        );
        println!("round trip     {:6.0} us", micros(round_trip(&machine)));
        println!("connect        {:6.0} us", micros(connect(&machine)));
    }
}

/// Processor time used so far. On a shared machine it says more than the clock.
struct Cost {
    qemu: u64,
    ours: u64,
}

impl Cost {
    fn now(machine: &Machine) -> Self {
        let ours = std::fs::read_dir("/proc/self/task")
            .expect("procfs")
            .flatten();
        let vsock = ours.map(|task| task.path()).find(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "vsock\n")
        });
        let qemu = format!("/proc/{}", machine.qemu.id());
        Self {
            qemu: ticks(qemu.as_ref()),
            ours: ticks(&vsock.expect("device thread")),
        }
    }

    /// Milliseconds per 100 MB.
    fn since(&self, machine: &Machine) -> String {
        let now = Self::now(machine);
        let per = |ticks: u64| ticks * 10 * 100_000_000 / LEN;
        let (qemu, ours) = (per(now.qemu - self.qemu), per(now.ours - self.ours));
        format!("  processor ms per 100 MB: QEMU {qemu}, device {ours}")
    }
}

/// User and system time in ticks of 10 ms (proc_pid_stat(5), fields 14 and 15).
fn ticks(task: &std::path::Path) -> u64 {
    let stat = std::fs::read_to_string(task.join("stat")).expect("procfs");
    let fields = stat
        .rsplit(')')
        .next()
        .expect("after the name")
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn to_guest(machine: &Machine, len: u64) -> f64 {
    let mut stream = machine.connect(COUNT);
    let chunk = vec![7; 256 * 1024];
    let start = Instant::now();
    let mut left = len as usize;
    while left > 0 {
        let n = left.min(chunk.len());
        stream.write_all(&chunk[..n]).expect("write");
        left -= n;
    }
    stream.shutdown(Shutdown::Write).expect("shutdown");
    let mut total = [0; 8];
    stream.read_exact(&mut total).expect("read");
    assert_eq!(u64::from_le_bytes(total), len);
    len as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn to_host(machine: &Machine, len: u64) -> f64 {
    let mut stream = machine.connect(SOURCE);
    let start = Instant::now();
    stream.write_all(&len.to_le_bytes()).expect("write");
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).expect("read") {
            0 => break,
            n => total += n as u64,
        }
    }
    assert_eq!(total, len);
    len as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn round_trip(machine: &Machine) -> Duration {
    const ROUNDS: u32 = 1000;
    let mut stream = machine.connect(ECHO);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        stream.write_all(b"x").expect("write");
        stream.read_exact(&mut [0]).expect("read");
    }
    start.elapsed() / ROUNDS
}

fn connect(machine: &Machine) -> Duration {
    const ROUNDS: u32 = 200;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        machine.connect(ECHO);
    }
    start.elapsed() / ROUNDS
}
