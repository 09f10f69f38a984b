//! `-it`: the user's terminal becomes the program's, and is itself again afterwards.

use matchlock_testkit::{Invocation, Lab, PATIENCE, Pty, Running, wait_until};
use rustix::process::Signal;

use crate::support::sh;

fn wait_for_raw(pty: &Pty) {
    wait_until("raw mode", PATIENCE, || (!pty.is_cooked()).then_some(()));
}

fn start(invocation: Invocation, pty: &Pty) -> Running {
    assert!(pty.is_cooked(), "as it was before");
    invocation.env("TERM", "vt220").spawn_on(pty)
}

#[test]
fn the_program_has_the_size_every_resize_and_the_interrupt_key() {
    let lab = Lab::new();
    let mut pty = Pty::new(33, 101);
    // `read` ends at once when a signal has a trap.
    let script = "test -t 0 && test -t 1 && test -t 2 && echo TERM is $TERM
        trap 'echo now $(stty size)' WINCH
        trap 'echo interrupted; exit 9' INT
        echo first $(stty size)
        while :; do read -r line; done";
    let running = start(sh(&lab, &["-it"], script), &pty);
    let shown = pty.wait_for("first 33 101", PATIENCE);
    assert!(shown.contains("TERM is vt220"), "{shown}");
    assert!(!pty.is_cooked(), "raw mode during the session");
    pty.resize(50, 132);
    running.signal(Signal::WINCH);
    pty.wait_for("now 50 132", PATIENCE);
    pty.send(b"\x03");
    pty.wait_for("interrupted", PATIENCE);
    running.finish(PATIENCE).expect(9);
    assert!(pty.is_cooked(), "restored after a program that failed");
}

#[test]
fn without_a_command_there_is_a_shell() {
    let lab = Lab::new();
    let mut pty = Pty::new(24, 80);
    let running = start(lab.matchlock(&["run", "--image", "host", "-it"]), &pty);
    pty.wait_for("# ", PATIENCE);
    pty.send(b"echo $((6 * 7))-answer\r");
    // End of input, as a user leaves a shell: at the next prompt. Between the output of a command and the
    // prompt it is lost, on any Linux, for the shell sets the terminal there.
    wait_until("the prompt after the answer", PATIENCE, || {
        pty.shown().split_once("42-answer").filter(|(_, after)| after.contains("# ")).map(drop)
    });
    pty.send(b"\x04");
    running.finish(PATIENCE).expect(0);
    assert!(pty.is_cooked(), "restored after a program that succeeded");
}

#[test]
fn a_terminated_session_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    let pty = Pty::new(24, 80);
    let running = start(lab.run(&["-it"], &["sleep", "600"]), &pty);
    wait_for_raw(&pty);
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(128 + 15);
    assert!(pty.is_cooked());
}

#[test]
fn a_program_that_cannot_be_started_leaves_the_terminal_as_it_was() {
    let lab = Lab::new();
    let mut pty = Pty::new(24, 80);
    let running = start(lab.run(&["-it"], &["no-such-program"]), &pty);
    running.finish(PATIENCE).expect(127);
    assert!(pty.is_cooked());
    pty.wait_for("Error: executing command: ", PATIENCE);
}
