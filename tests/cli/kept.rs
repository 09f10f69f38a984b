//! `--rm=false`: the sandbox outlives its command.

use matchlock_testkit::{Lab, PATIENCE, Pty, wait_until};
use rustix::process::Signal;

use crate::support::{processes, sandboxes, sh};

#[test]
fn it_runs_on_after_its_command_until_a_signal_which_is_success() {
    let lab = Lab::new();
    let mut pty = Pty::new(24, 80);
    let running = sh(&lab, &["--rm=false", "-it"], "read -r line; exit 7").spawn_on(&pty);
    wait_until("raw mode", PATIENCE, || (!pty.is_cooked()).then_some(()));
    pty.send(b"\r");
    // The terminal is given back when the command has ended.
    wait_until("the earlier mode", PATIENCE, || pty.is_cooked().then_some(()));
    assert_eq!(sandboxes(&lab).len(), 1, "it is still there");
    let processes = processes(&lab);
    let monitor = processes.iter().any(|process| process.contains("qemu"));
    assert!(monitor, "{processes:?}, {}", pty.shown());
    running.signal(Signal::TERM);
    let status = running.finish(PATIENCE).code();
    assert_eq!(status, 0, "{}", pty.shown());
    lab.matchlock(&["prune"]).finish().expect(0);
}

#[test]
fn it_needs_no_command_and_says_which_sandbox_it_is() {
    let lab = Lab::new();
    let mut pty = Pty::new(24, 80);
    let running = lab.run(&["--rm=false"], &[]).spawn_on(&pty);
    let shown = pty.wait_for(" is running", PATIENCE);
    let ids = sandboxes(&lab);
    assert!(ids.len() == 1 && ids.iter().all(|id| shown.contains(id)), "{ids:?} in {shown}");
    running.signal(Signal::INT);
    let status = running.finish(PATIENCE).code();
    assert_eq!(status, 0, "{}", pty.shown());
    lab.matchlock(&["prune"]).finish().expect(0);
}
