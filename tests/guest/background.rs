//! What a program leaves behind when it ends by itself lives on.

use matchlock_core::ExitStatus;

use crate::lab::Lab;
use crate::run::{Lock, sh};

cases![
    a_background_process_outlives_its_program,
    a_background_process_that_holds_the_outputs_does_not_delay_the_end,
    a_background_process_that_writes_on_is_not_ended_by_it,
    orphans_are_reaped,
];

/// Waits for a line in a pipe that another program writes.
fn until_told(pipe: &str) -> String {
    format!("mkfifo {pipe}; cat {pipe} >/dev/null")
}

async fn a_background_process_outlives_its_program(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("outlives");
    let script = format!("({}) >/dev/null 2>&1 &", until_told("/tmp/outlives"));
    let ended = lock.held_by(&script).on(sandbox).await;
    assert_eq!(ended.status, ExitStatus::Code(0));
    assert!(lock.is_held(sandbox).await, "the background process lives");
    sh("until test -p /tmp/outlives; do :; done; echo end >/tmp/outlives").text(sandbox).await;
    lock.free(sandbox).await;
}

async fn a_background_process_that_holds_the_outputs_does_not_delay_the_end(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("holds-outputs");
    let script = format!("({}) & echo done", until_told("/tmp/holds-outputs"));
    let ended = lock.held_by(&script).on(sandbox).await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(0), "held\ndone\n"));
    assert!(lock.is_held(sandbox).await, "the background process lives");
    sh("until test -p /tmp/holds-outputs; do :; done; echo end >/tmp/holds-outputs")
        .text(sandbox)
        .await;
    lock.free(sandbox).await;
}

async fn a_background_process_that_writes_on_is_not_ended_by_it(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("writes-on");
    // More than any pipe holds, after the end of the program: read and dropped.
    let write = "head -c 2000000 /dev/zero && echo whole >/tmp/writes-on";
    let ended = lock.held_by(&format!("(cat /tmp/go-on; {write}) & :"));
    sh("mkfifo /tmp/go-on").text(sandbox).await;
    assert_eq!(ended.status(sandbox).await, ExitStatus::Code(0));
    sh("echo go >/tmp/go-on").text(sandbox).await;
    lock.free(sandbox).await;
    assert_eq!(sh("cat /tmp/writes-on").text(sandbox).await, "whole");
}

async fn orphans_are_reaped(lab: &Lab) {
    // Until no more processes are left than the first one, the shell and what it starts to count.
    let script = "for i in $(seq 200); do (sh -c : &); done
        until set -- /proc/[0-9]* && test $# -le 3; do :; done; echo reaped";
    assert_eq!(sh(script).text(lab.plain().await).await, "reaped");
}
