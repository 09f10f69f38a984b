//! Programs on a pseudo-terminal.

use matchlock_core::{ExitStatus, WindowSize};

use crate::lab::Lab;
use crate::run::{Lock, argv, sh};

cases![
    a_terminal_has_the_size_that_was_asked_for,
    a_program_is_told_of_a_new_size,
    standard_error_is_merged_into_the_output,
    the_terminal_has_a_name_that_its_user_can_open,
    the_terminal_is_set_as_people_expect,
    job_control_works,
    the_end_of_input_is_the_end_of_file_character,
    the_end_of_input_behind_an_unfinished_line_ends_a_program_too,
    control_c_interrupts_the_foreground,
    a_signal_of_the_host_reaches_the_foreground,
    a_cancelled_terminal_leaves_no_process,
    a_background_process_on_the_terminal_does_not_delay_the_end,
];

async fn a_terminal_has_the_size_that_was_asked_for(lab: &Lab) {
    let text = argv(["stty", "size"]).tty(33, 121).text(lab.plain().await).await;
    assert_eq!(text, "33 121");
}

async fn a_program_is_told_of_a_new_size(lab: &Lab) {
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.01; done";
    let mut program = sh(script).tty(24, 80).start(lab.plain().await).await;
    program.wait_for("ready").await;
    program.control.resize(WindowSize { rows: 50, cols: 132 });
    let ended = program.ended().await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(0), "ready\r\n50 132\r\n"));
}

async fn standard_error_is_merged_into_the_output(lab: &Lab) {
    let ended = sh("echo out; echo err >&2").tty(24, 80).on(lab.plain().await).await;
    assert_eq!((&*ended.out(), &*ended.err()), ("out\r\nerr\r\n", ""));
}

async fn the_terminal_has_a_name_that_its_user_can_open(lab: &Lab) {
    for user in ["root", "nobody"] {
        let script = "tty; echo by name >$(tty); echo by alias >/dev/tty; echo >/dev/stdout also";
        let text = sh(script).user(user).tty(24, 80).text(lab.plain().await).await;
        let mut lines = text.lines();
        let name = lines.next().unwrap_or_default();
        let number = name.strip_prefix("/dev/pts/").map(str::parse::<u32>);
        assert!(matches!(number, Some(Ok(_))), "{user}: {text}");
        assert_eq!(lines.collect::<Vec<_>>(), ["by name", "by alias", "also"], "{user}");
    }
}

async fn the_terminal_is_set_as_people_expect(lab: &Lab) {
    let script = "stty -a; echo TERM=$TERM";
    let text = sh(script).tty(24, 80).text(lab.plain().await).await;
    let words: Vec<&str> = text.split([' ', '\n', '\r', ';']).collect();
    for expected in ["icanon", "isig", "echo", "icrnl", "opost", "onlcr", "iexten", "TERM=xterm"] {
        assert!(words.contains(&expected), "{expected}: {text}");
    }
    for expected in ["intr = ^C", "eof = ^D", "susp = ^Z", "erase = ^?"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

async fn job_control_works(lab: &Lab) {
    // A background process that reads from the terminal is stopped until it is in the foreground.
    let script = "set -m; sh -c 'read line; echo $line; exit 5' & echo ready; fg; echo status $?";
    let mut program = sh(script).tty(24, 80).start(lab.plain().await).await;
    program.wait_for("ready").await;
    program.send("typed\n").await;
    let ended = program.ended().await;
    let text = ended.out();
    assert!(text.contains("typed\r\n") && text.ends_with("status 5\r\n"), "{text:?}");
    assert!(!text.contains("job control"), "{text:?}");
}

async fn the_end_of_input_is_the_end_of_file_character(lab: &Lab) {
    let mut program = argv(["cat"]).tty(24, 80).start(lab.plain().await).await;
    program.send("line\n").await;
    program.wait_for("line\r\nline\r\n").await;
    program.end_input();
    assert_eq!(program.ended().await.status, ExitStatus::Code(0));
}

async fn the_end_of_input_behind_an_unfinished_line_ends_a_program_too(lab: &Lab) {
    let script = "stty -echo; echo ready; cat";
    let mut program = sh(script).tty(24, 80).start(lab.plain().await).await;
    program.wait_for("ready").await;
    program.send("unfinished").await;
    program.end_input();
    let ended = program.ended().await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(0), "ready\r\nunfinished"));
}

async fn control_c_interrupts_the_foreground(lab: &Lab) {
    let program = argv(["sleep", "600"]).tty(24, 80).start(lab.plain().await).await;
    program.send([0x03]).await;
    assert_eq!(program.ended().await.status, ExitStatus::Signal(2));
}

async fn a_signal_of_the_host_reaches_the_foreground(lab: &Lab) {
    let script = "set -m; trap : TERM; sh -c 'echo ready; exec sleep 600'; echo $?";
    let mut program = sh(script).tty(24, 80).start(lab.plain().await).await;
    program.wait_for("ready").await;
    program.control.signal(15);
    let text = program.ended().await.out();
    assert!(text.ends_with("143\r\n"), "{text:?}");
}

async fn a_cancelled_terminal_leaves_no_process(lab: &Lab) {
    let sandbox = lab.plain().await;
    let lock = Lock::new("terminal");
    let script = "set -m; trap '' HUP; (trap '' HUP TERM; sleep 600) & sh -c 'sleep 600; :'; :";
    let mut program = lock.held_by(script).tty(24, 80).start(sandbox).await;
    program.wait_for("held").await;
    drop(program);
    lock.free(sandbox).await;
}

async fn a_background_process_on_the_terminal_does_not_delay_the_end(lab: &Lab) {
    let sandbox = lab.plain().await;
    let script = "trap '' HUP; sleep 600 & echo started";
    let ended = sh(script).tty(24, 80).on(sandbox).await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(0), "started\r\n"));
}
