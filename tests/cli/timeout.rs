//! `--timeout` really ends the sandbox, whatever its command is doing.

use matchlock_testkit::{Finished, Lab, PATIENCE};

use crate::support::sh;

#[track_caller]
fn assert_timed_out(finished: Finished, time: &str) -> Finished {
    let finished = finished.expect(124);
    let err = finished.err();
    assert!(err.contains(&format!("timed out after {time}; ")), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    finished
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let lab = Lab::new();
    assert_timed_out(lab.run(&["--timeout", "1"], &["sleep", "600"]).finish(), "1 s");
    assert_eq!(lab.leaks(), Vec::<String>::new(), "gone when we are");
}

/// Emulated, a boot takes longer than the command has here.
#[test]
fn the_boot_does_not_count() {
    let lab = Lab::new();
    // The trap answers the signal that ends the command: it was there to receive it.
    let script = "trap 'echo ended; exit' TERM; sleep 600 & wait";
    let finished = assert_timed_out(sh(&lab, &["--timeout", "500ms"], script).finish(), "0.5 s");
    assert_eq!(finished.out(), "ended\n");
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
