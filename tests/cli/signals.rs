//! Signals to `matchlock` itself: one ends the command, another one everything.

use matchlock_testkit::{Lab, PATIENCE, wait_until, write_program};
use rustix::process::Signal;

use crate::support::{sh, wait_for_monitor};

#[test]
fn a_signal_ends_the_command_by_that_signal() {
    let lab = Lab::new();
    for (signal, status) in [(Signal::INT, 128 + 2), (Signal::TERM, 128 + 15)] {
        let mut running = sh(&lab, &[], "echo up; exec sleep 600").spawn();
        running.wait_for("up", PATIENCE);
        running.signal(signal);
        let finished = running.finish(PATIENCE).expect(status);
        assert_eq!(finished.err(), "");
        assert_eq!(lab.leaks(), Vec::<String>::new(), "gone when we are");
    }
}

#[test]
fn a_program_that_ends_in_its_own_way_has_the_last_word() {
    let lab = Lab::new();
    let script = "trap 'echo saved; exit 9' TERM; echo up; while :; do sleep 0.1; done";
    let mut running = sh(&lab, &["--graceful-shutdown", "1h"], script).spawn();
    running.wait_for("up", PATIENCE);
    running.signal(Signal::TERM);
    let finished = running.finish(PATIENCE).expect(9);
    assert_eq!(finished.out(), "up\nsaved\n", "output after the signal arrives too");
}

#[test]
fn a_program_that_ignores_the_signal_is_killed_after_the_grace() {
    let lab = Lab::new();
    let script = "trap '' TERM; echo up; while :; do sleep 1; done";
    let mut running = sh(&lab, &["--graceful-shutdown", "500ms"], script).spawn();
    running.wait_for("up", PATIENCE);
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(128 + 15);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let lab = Lab::new();
    let script = "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done";
    let mut running = sh(&lab, &["--graceful-shutdown", "1h"], script).spawn();
    running.wait_for("up", PATIENCE);
    running.signal(Signal::TERM);
    running.wait_for("asked", PATIENCE);
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(128 + 15);
}

#[test]
fn a_signal_during_the_boot_ends_it() {
    let lab = Lab::new();
    let mut running = lab.run(&[], &["sleep", "600"]).spawn();
    wait_for_monitor(&lab, &mut running);
    running.signal(Signal::INT);
    let finished = running.finish(PATIENCE).expect(128 + 2);
    assert_eq!(finished.err(), "");
    assert_eq!(lab.leaks(), Vec::<String>::new(), "gone when we are");
}

/// Issue 9: a QEMU that was asked for its version outlived us.
#[test]
fn a_signal_while_qemu_is_asked_for_its_version_leaves_no_process() {
    let lab = Lab::new();
    let (qemu, started) = (lab.home().join("qemu"), lab.home().join("started"));
    write_program(&qemu, &format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", started.display()));
    let mut running = lab.run(&[], &["true"]).env("MATCHLOCK_QEMU", &qemu).spawn();
    let pid = running.wait_until("QEMU is asked", PATIENCE, || {
        std::fs::read_to_string(&started).ok().filter(|text| text.ends_with('\n'))
    });
    running.signal(Signal::INT);
    running.finish(PATIENCE).expect(128 + 2);
    let arguments = format!("/proc/{}/cmdline", pid.trim());
    wait_until("it is gone", PATIENCE, || {
        std::fs::read(&arguments).unwrap_or_default().is_empty().then_some(())
    });
}
