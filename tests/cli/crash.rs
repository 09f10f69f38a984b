//! `kill -9` of `matchlock` at several moments: the monitor dies with it, and the next start
//! removes the rest.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use matchlock_testkit::{Lab, PATIENCE, Running, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{processes, sandboxes, sh, wait_for_monitor};

fn sleeper(lab: &Lab) -> Running {
    sh(lab, &[], "echo up; exec sleep 600").spawn()
}

fn monitor(lab: &Lab) -> Pid {
    let all = processes(lab);
    let monitor = all.iter().find(|line| line.contains("qemu")).expect("the monitor");
    let id = monitor["process ".len()..].split(':').next().expect("an id");
    Pid::from_raw(id.parse().expect("a number")).expect("not 0")
}

/// Kills it and waits until no process is left, without any help.
fn kill(lab: &Lab, running: Running) {
    running.signal(Signal::KILL);
    let finished = running.finish(PATIENCE);
    assert_eq!(finished.status.code(), None, "by the signal");
    wait_until("all processes are gone", PATIENCE, || processes(lab).is_empty().then_some(()));
}

#[test]
fn the_monitor_has_no_environment_and_neither_process_leaves_a_core() {
    let lab = Lab::new();
    let mut running = sleeper(&lab);
    wait_for_monitor(&lab, &mut running);
    let monitor = monitor(&lab).as_raw_pid().cast_unsigned();
    let environment = fs::read_to_string(format!("/proc/{monitor}/environ")).expect("read");
    assert_eq!(environment, "");
    for process in [running.pid(), monitor] {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("read");
        let core =
            limits.lines().find(|line| line.starts_with("Max core file size")).expect("a line");
        let limit: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
        assert_eq!(limit, ["0", "0"], "{process}: {core}");
    }
    running.signal(Signal::INT);
    running.finish(PATIENCE).expect(128 + 2);
}

#[test]
fn one_that_has_just_started_leaves_nothing_to_the_next() {
    let lab = Lab::new();
    kill(&lab, sleeper(&lab));
    lab.matchlock(&["diagnose"]).finish().expect(0);
    assert_eq!(sandboxes(&lab), Vec::<String>::new());
}

#[test]
fn one_that_boots_leaves_nothing_to_the_next() {
    let lab = Lab::new();
    let mut running = sleeper(&lab);
    wait_for_monitor(&lab, &mut running);
    kill(&lab, running);
    let left = sandboxes(&lab);
    assert_eq!(left.len(), 1, "this is what a kill leaves");
    let said = lab.matchlock(&["diagnose"]).finish().expect(0).out();
    assert!(left.iter().all(|id| said.contains(id)), "it says what it removed: {said}");
    assert_eq!(sandboxes(&lab), Vec::<String>::new());
}

#[test]
fn one_that_runs_leaves_nothing_to_the_next_and_a_neighbour_in_peace() {
    let lab = Lab::new();
    let mut neighbour = sh(&lab, &["-i"], "echo up; cat").piped().spawn();
    let mut running = sleeper(&lab);
    running.wait_for("up", PATIENCE);
    neighbour.wait_for("up", PATIENCE);
    running.signal(Signal::KILL);
    drop(running.finish(PATIENCE));
    let monitors = || processes(&lab).iter().filter(|line| line.contains("qemu")).count();
    wait_until("one monitor is gone", PATIENCE, || (monitors() == 1).then_some(()));
    assert_eq!(sandboxes(&lab).len(), 2);
    let next = sh(&lab, &[], "echo next").finish().expect(0);
    assert_eq!(next.out(), "next\n");
    assert_eq!(sandboxes(&lab).len(), 1, "the neighbour's");
    neighbour.write(b"alive\n");
    neighbour.close_input();
    let finished = neighbour.finish(PATIENCE).expect(0);
    assert_eq!(finished.out(), "up\nalive\n");
}

/// As after the host has slept: both processes stood still, and the guest's clock is behind.
#[test]
fn one_that_stood_still_goes_on_and_has_the_time_of_the_host_again() {
    let lab = Lab::new();
    let script = "date -s @1000000000 >/dev/null; date +%s; \
                  while [ $(date +%s) -lt 1700000000 ]; do sleep 0.1; done; date +%s; read line";
    let mut running = sh(&lab, &["-i", "--privileged"], script).piped().spawn();
    let before: u64 = running.line(PATIENCE).parse().expect("a number");
    assert!(before < 1_000_000_100, "its own clock: {before}");
    let monitor = monitor(&lab);
    for signal in [Signal::STOP, Signal::CONT] {
        kill_process(monitor, signal).expect("alive");
        running.signal(signal);
    }
    let after: u64 = running.line(PATIENCE).parse().expect("a number");
    let host = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(host.abs_diff(after) < 60, "{after} in the guest, {host} here");
    running.write(b"\n");
    running.finish(PATIENCE).expect(0);
}

#[test]
fn a_guest_whose_kernel_gives_up_is_told_and_leaves_nothing() {
    let lab = Lab::new();
    let script = "echo 1 >/proc/sys/vm/panic_on_oom; exec tail /dev/zero";
    let flags = ["--rm=false", "--privileged", "--memory", "128"];
    let finished = sh(&lab, &flags, script).finish().expect(125);
    assert!(finished.err().contains("the connection to the guest was lost"), "{}", finished.err());
    let id = lab.matchlock(&["list", "-q"]).finish().expect(0).out();
    let inspected = lab.matchlock(&["inspect", id.trim(), "--json"]).finish().expect(0).out();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["vm"]["ending"]["cause"], "guest_gone", "{inspected}");
    lab.matchlock(&["prune"]).finish().expect(0);
    assert_eq!(lab.leaks(), Vec::<String>::new());
}
