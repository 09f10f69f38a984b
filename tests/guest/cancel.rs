//! What is left of a program that the host has cancelled: nothing.

use matchlock_core::ExitStatus;

use crate::lab::Lab;
use crate::run::{Lock, argv, sh};

cases![
    a_cancelled_program_leaves_no_process_whatever_it_started,
    a_cancelled_program_that_minds_ends_before_the_grace_of_one_that_does_not,
    a_cancelled_program_may_clean_up,
    a_program_that_writes_without_end_is_cancelled,
    a_program_that_waits_for_input_is_cancelled,
    a_stopped_program_is_cancelled,
    many_cancelled_programs_leave_the_machine_as_it_was,
];

async fn a_cancelled_program_leaves_no_process_whatever_it_started(lab: &Lab) {
    let sandbox = lab.plain().await;
    let cases = [
        ("child", "true; sleep 600; :"),
        ("background", "sleep 600 & wait"),
        ("daemon", "(setsid sh -c 'sleep 600 & sleep 600' >/dev/null 2>&1 &); sleep 600; :"),
        ("sessions", "for i in 1 2 3; do setsid sleep 600 & done; wait"),
        ("stubborn", "trap '' TERM HUP INT; while :; do sleep 600; done"),
        ("stubborn-child", "(trap '' TERM; exec sleep 600) & wait"),
        ("stopped-child", "sleep 600 & kill -STOP $!; wait"),
    ];
    let mut locks = Vec::new();
    for (name, script) in cases {
        let lock = Lock::new(name);
        let mut program = lock.held_by(script).start(sandbox).await;
        program.wait_for("held").await;
        assert!(lock.is_held(sandbox).await, "{name}: the check sees the processes");
        drop(program);
        locks.push(lock);
    }
    for lock in locks {
        lock.free(sandbox).await;
    }
}

async fn a_cancelled_program_that_minds_ends_before_the_grace_of_one_that_does_not(lab: &Lab) {
    let sandbox = lab.plain().await;
    let (plain, stubborn) = (Lock::new("minds"), Lock::new("does-not-mind"));
    let mut second = plain.held_by("exec sleep 600").start(sandbox).await;
    second.wait_for("held").await;
    // In its own grace it sees the other one go.
    let watch = format!("{}; echo gone >/tmp/seen-to-go; exec sleep 600", plain.wait_in_shell());
    let mut first = stubborn.held_after("trap '' TERM", &watch).start(sandbox).await;
    first.wait_for("held").await;
    drop(second);
    drop(first);
    plain.free(sandbox).await;
    stubborn.free(sandbox).await;
    assert_eq!(argv(["cat", "/tmp/seen-to-go"]).text(sandbox).await, "gone");
}

async fn a_cancelled_program_may_clean_up(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("cleans-up");
    let trap = "trap 'echo clean >/tmp/cleaned; exit' TERM";
    let script = "while :; do sleep 0.01; done";
    let mut program = lock.held_after(trap, script).start(sandbox).await;
    program.wait_for("held").await;
    drop(program);
    lock.free(sandbox).await;
    assert_eq!(argv(["cat", "/tmp/cleaned"]).text(sandbox).await, "clean");
}

async fn a_program_that_writes_without_end_is_cancelled(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("writes");
    let mut program = lock.held_by("yes & yes >&2").start(sandbox).await;
    program.wait_for("held").await;
    drop(program);
    lock.free(sandbox).await;
}

async fn a_program_that_waits_for_input_is_cancelled(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("reads");
    let mut program = lock.held_by("cat; :").piped().start(sandbox).await;
    program.wait_for("held").await;
    drop(program);
    lock.free(sandbox).await;
}

async fn a_stopped_program_is_cancelled(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("stopped");
    let mut program = lock.held_by("exec sleep 600").start(sandbox).await;
    program.wait_for("held").await;
    program.control.signal(19);
    drop(program);
    lock.free(sandbox).await;
}

async fn many_cancelled_programs_leave_the_machine_as_it_was(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("many");
    for _ in 0..5 {
        let mut running = Vec::new();
        for _ in 0..10 {
            // Shared: all of them hold it at once.
            let script = "exec 9>/tmp/many.lock; flock -s 9; echo held; sleep 600; :";
            running.push(sh(script).start(sandbox).await);
        }
        for program in &mut running {
            program.wait_for("held").await;
        }
        drop(running);
        lock.free(sandbox).await;
    }
    assert_eq!(sh("exit 3").status(sandbox).await, ExitStatus::Code(3));
}
