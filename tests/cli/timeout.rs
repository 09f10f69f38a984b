//! `--timeout` really ends the sandbox, whatever it is doing.

use std::time::{Duration, Instant};

use matchlock_testkit::{Finished, Lab, PATIENCE};

use crate::support::sh;

// The time counts from the start of `matchlock`. On a machine so busy that a boot takes longer than
// the 12 seconds here, these tests say less, and what they say is still true.

#[track_caller]
fn assert_timed_out(finished: Finished, seconds: u32) {
    let finished = finished.expect(124);
    let err = finished.err();
    assert!(err.contains(&format!("timed out after {seconds} s")), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let lab = Lab::new();
    let started = Instant::now();
    let finished = lab.run(&["--timeout", "12"], &["sleep", "600"]).finish();
    assert_timed_out(finished, 12);
    assert!(started.elapsed() >= Duration::from_secs(12), "not before its time");
}

#[test]
fn output_that_flows_and_an_open_input_do_not_hold_it_up() {
    let lab = Lab::new();
    let flags = ["-i", "--timeout", "12", "--graceful-shutdown", "500ms"];
    // It does not end by SIGTERM either.
    let script = "trap '' TERM; while :; do echo line; done";
    let mut running = sh(&lab, &flags, script).piped().spawn();
    running.write(b"input\n");
    assert_timed_out(running.finish(PATIENCE), 12);
}

#[test]
fn a_boot_that_takes_too_long_is_ended() {
    let lab = Lab::new();
    let finished = lab.run(&["--timeout", "1"], &["sleep", "600"]).finish();
    assert_timed_out(finished, 1);
    assert_eq!(lab.leaks(), Vec::<String>::new(), "gone when we are");
}

#[test]
fn a_time_beyond_all_clocks_is_no_limit() {
    let lab = Lab::new();
    let longest = i64::MAX.to_string();
    let finished = lab.run(&["--timeout", &longest], &["echo", "done"]).finish().expect(0);
    assert_eq!(finished.out(), "done\n");
}
