//! `--timeout` really ends the sandbox, whatever its command is doing.

use matchlock_testkit::{Finished, Lab, PATIENCE, write_program};

use crate::support::sh;

#[track_caller]
fn assert_timed_out(finished: Finished, time: &str) {
    let finished = finished.expect(124);
    let err = finished.err();
    assert!(err.contains(&format!("timed out after {time}; ")), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let lab = Lab::new();
    assert_timed_out(lab.run(&["--timeout", "1"], &["sleep", "600"]).finish(), "1 s");
    assert_eq!(lab.leaks(), Vec::<String>::new(), "gone when we are");
}

/// A monitor that takes longer to start than the command may take.
#[test]
fn the_boot_does_not_count() {
    let lab = Lab::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64"));
    let real = places.find(|file| file.is_file()).expect("QEMU");
    let slow = lab.home().join("slow-qemu");
    let real = real.display();
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] || sleep 9\nexec {real} \"$@\"\n");
    write_program(&slow, &script);
    let run = lab.run(&["--timeout", "8s"], &["echo", "done"]).env("MATCHLOCK_QEMU", &slow);
    assert_eq!(run.finish().expect(0).out(), "done\n");
}

#[test]
fn output_that_flows_and_an_open_input_do_not_hold_it_up() {
    let lab = Lab::new();
    let flags = ["-i", "--timeout", "2s", "--graceful-shutdown", "500ms"];
    // It does not end by SIGTERM either.
    let script = "trap '' TERM; while :; do echo line; done";
    let mut running = sh(&lab, &flags, script).piped().spawn();
    running.write(b"input\n");
    assert_timed_out(running.finish(PATIENCE), "2 s");
}

#[test]
fn a_time_beyond_all_clocks_is_no_limit() {
    let lab = Lab::new();
    let longest = i64::MAX.to_string();
    let finished = lab.run(&["--timeout", &longest], &["echo", "done"]).finish().expect(0);
    assert_eq!(finished.out(), "done\n");
}
