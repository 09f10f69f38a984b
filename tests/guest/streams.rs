//! Standard input, output and error of programs without a terminal.

use std::fmt::Write;
use std::io::ErrorKind;

use matchlock_core::{ExitStatus, Output, WindowSize};
use sha2::{Digest, Sha256};

use crate::lab::Lab;
use crate::run::{argv, sh};

cases![
    bytes_go_in_and_come_out_unchanged_on_both_sides,
    standard_input_is_empty_without_a_pipe,
    the_end_of_standard_input_arrives,
    a_program_that_does_not_read_its_input_can_still_be_signalled,
    floods_of_both_outputs_at_once_arrive_whole,
    an_unread_standard_output_does_not_stall_standard_error,
    a_program_whose_output_is_not_read_does_not_stall_others,
    a_program_that_closes_its_outputs_runs_on,
    output_before_a_sudden_end_is_not_lost,
];

const MIB: usize = 1024 * 1024;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}

/// Bytes that no compression or repetition can stand for.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Takes `wanted` bytes from a stream, each of which must be `byte`.
async fn take(output: &mut Output, wanted: usize, byte: u8) {
    let mut taken = 0;
    while taken < wanted {
        let chunk = output.next().await.expect("more");
        assert!(chunk.iter().all(|&b| b == byte), "bytes of another stream");
        taken += chunk.len();
    }
    assert_eq!(taken, wanted);
}

async fn bytes_go_in_and_come_out_unchanged_on_both_sides(lab: &Lab) {
    let input = noise(32 * MIB);
    let script = "copy=$(mktemp -u); mkfifo $copy; sha256sum <$copy >&2 & tee $copy; wait";
    let ended = sh(script).input(input.clone()).on(lab.plain().await).await;
    assert_eq!(ended.status, ExitStatus::Code(0));
    assert_eq!(ended.err().split(' ').next(), Some(&*sha256(&input)), "in the guest");
    assert_eq!(sha256(&ended.stdout), sha256(&input), "on the host");
}

async fn standard_input_is_empty_without_a_pipe(lab: &Lab) {
    let text = sh("readlink /proc/self/fd/0; cat").text(lab.plain().await).await;
    assert_eq!(text, "/dev/null");
}

async fn the_end_of_standard_input_arrives(lab: &Lab) {
    let mut program = argv(["cat"]).piped().start(lab.plain().await).await;
    program.send("first").await;
    program.wait_for("first").await;
    program.end_input();
    let ended = program.ended().await;
    assert_eq!((ended.status, &*ended.out()), (ExitStatus::Code(0), "first"));
}

async fn a_program_that_does_not_read_its_input_can_still_be_signalled(lab: &Lab) {
    let sandbox = lab.plain().await;
    let mut program = argv(["sleep", "600"]).piped().start(sandbox).await;
    let stdin = program.stdin.take().expect("a pipe");
    let feeding = tokio::spawn(async move { stdin.send(&noise(8 * MIB)).await });
    assert_eq!(argv(["echo", "other"]).text(sandbox).await, "other");
    program.control.resize(WindowSize { rows: 1, cols: 1 });
    program.control.signal(15);
    assert_eq!(program.ended().await.status, ExitStatus::Signal(15));
    let sent = feeding.await.expect("no panic").map_err(|error| error.kind());
    assert_eq!(sent, Err(ErrorKind::BrokenPipe), "it had to wait for a reader");
}

async fn floods_of_both_outputs_at_once_arrive_whole(lab: &Lab) {
    let script = "head -c 8388608 /dev/zero | tr '\\0' e >&2 & \
                  head -c 8388608 /dev/zero | tr '\\0' o; wait";
    let ended = sh(script).on(lab.plain().await).await;
    assert_eq!(ended.status, ExitStatus::Code(0));
    for (bytes, byte) in [(&ended.stdout, b'o'), (&ended.stderr, b'e')] {
        assert_eq!(bytes.len(), 8 * MIB);
        assert!(bytes.iter().all(|&b| b == byte), "bytes of another stream");
    }
}

async fn an_unread_standard_output_does_not_stall_standard_error(lab: &Lab) {
    let script = "head -c 8388608 /dev/zero | tr '\\0' o & \
                  head -c 8388608 /dev/zero | tr '\\0' e >&2; wait";
    let mut program = sh(script).start(lab.plain().await).await;
    take(&mut program.stderr, 8 * MIB, b'e').await;
    take(&mut program.stdout, 8 * MIB, b'o').await;
    assert_eq!(program.ended().await.status, ExitStatus::Code(0));
}

async fn a_program_whose_output_is_not_read_does_not_stall_others(lab: &Lab) {
    let sandbox = lab.plain().await;
    let mut unread = argv(["yes"]).start(sandbox).await;
    unread.stdout.next().await.expect("it writes");
    for number in 0..10 {
        let number = number.to_string();
        assert_eq!(argv(["echo", &number]).text(sandbox).await, number);
    }
    unread.control.signal(15);
    assert_eq!(unread.ended().await.status, ExitStatus::Signal(15));
}

async fn a_program_that_closes_its_outputs_runs_on(lab: &Lab) {
    let script = "exec >&- 2>&-; read line; exit 7";
    let status = sh(script).input("line\n").status(lab.plain().await).await;
    assert_eq!(status, ExitStatus::Code(7));
}

async fn output_before_a_sudden_end_is_not_lost(lab: &Lab) {
    let script = "head -c 200000 /dev/zero; kill -9 $$";
    let ended = sh(script).on(lab.plain().await).await;
    assert_eq!((ended.status, ended.stdout.len()), (ExitStatus::Signal(9), 200_000));
}
