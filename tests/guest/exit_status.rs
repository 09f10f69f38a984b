//! How the end of a program is told.

use matchlock_core::ExitStatus;

use crate::lab::Lab;
use crate::run::{argv, sh};

cases![
    every_exit_code_from_0_to_255_arrives,
    every_signal_that_ends_a_program_is_reported_by_its_number,
    a_signal_from_the_host_ends_a_program_that_does_not_handle_it,
    a_program_that_handles_a_signal_of_the_host_ends_as_it_likes,
    a_signal_of_the_host_reaches_the_whole_process_group,
];

/// The signals that end a process by default (signal(7)), with all real-time ones.
fn terminating() -> impl Iterator<Item = u8> {
    const IGNORED_OR_STOPPING: std::ops::RangeInclusive<u8> = 17..=23;
    const SIGWINCH: u8 = 28;
    (1..=64).filter(|n| !IGNORED_OR_STOPPING.contains(n) && *n != SIGWINCH)
}

async fn every_exit_code_from_0_to_255_arrives(lab: &Lab) {
    let sandbox = lab.plain().await;
    for code in 0..=u8::MAX {
        let status = sh(&format!("exit {code}")).status(sandbox).await;
        assert_eq!((status, status.shell_code()), (ExitStatus::Code(code), code));
    }
}

async fn every_signal_that_ends_a_program_is_reported_by_its_number(lab: &Lab) {
    let sandbox = lab.plain().await;
    let directory = sh("mktemp -d").text(sandbox).await;
    for signal in terminating() {
        let program = sh(&format!("kill -{signal} $$")).dir(&directory);
        let status = program.status(sandbox).await;
        assert_eq!((status, status.shell_code()), (ExitStatus::Signal(signal), 128 + signal));
    }
    let files = argv(["ls", "-A", &directory]).text(sandbox).await;
    assert_eq!(files, "", "no core file");
}

async fn a_signal_from_the_host_ends_a_program_that_does_not_handle_it(lab: &Lab) {
    let sandbox = lab.plain().await;
    for signal in terminating() {
        let program = argv(["sleep", "600"]).start(sandbox).await;
        program.control.signal(signal);
        assert_eq!(program.ended().await.status, ExitStatus::Signal(signal));
    }
}

async fn a_program_that_handles_a_signal_of_the_host_ends_as_it_likes(lab: &Lab) {
    let script = "trap 'echo caught; exit 7' USR1; echo ready; while :; do sleep 0.01; done";
    let mut program = sh(script).start(lab.plain().await).await;
    program.wait_for("ready").await;
    program.control.signal(10);
    let ended = program.ended().await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(7), "ready\ncaught\n"));
}

async fn a_signal_of_the_host_reaches_the_whole_process_group(lab: &Lab) {
    // The shell survives the signal and tells how its child, which does not, has ended.
    let script = "trap : INT; sh -c 'echo ready; exec sleep 600'; echo $?";
    let mut program = sh(script).start(lab.plain().await).await;
    program.wait_for("ready").await;
    program.control.signal(2);
    assert_eq!(program.ended().await.out(), "ready\n130\n");
}
