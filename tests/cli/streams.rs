//! The three standard streams through pipes: everything arrives, unchanged and in its place.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use matchlock_testkit::{Lab, PATIENCE};
use sha2::{Digest, Sha256};

use crate::support::sh;

/// 100 MB take a few seconds; emulated on a busy machine many more.
const LONG: Duration = Duration::from_secs(400);

/// Bytes that look random and are the same each time (xorshift64, Marsaglia 2003).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[test]
fn a_hundred_megabytes_pass_through_the_guest_unchanged() {
    let lab = Lab::new();
    let sent = noise(100_000_003);
    // The guest hashes what it got, the host what came back.
    let script = "mkfifo /tmp/f && { sha256sum </tmp/f >&2 & tee /tmp/f; wait; }";
    let mut running = sh(&lab, &["-i"], script).piped().spawn();
    let mut input = running.take_input();
    let expected = hex(Sha256::digest(&sent));
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::io::Write::write_all(&mut input, &sent).expect("the program reads everything");
            drop(input);
        });
        running.finish(LONG).expect(0)
    });
    assert_eq!(finished.err().split_whitespace().next(), Some(&*expected), "as the guest got it");
    assert_eq!(finished.stdout.len(), sent.len());
    assert_eq!(hex(Sha256::digest(&finished.stdout)), expected, "as it came back");
}

#[test]
fn both_outputs_flooded_at_once_stay_complete_and_apart() {
    const LINES: u32 = 300_000;
    let lab = Lab::new();
    let script = format!("seq -f 'out %.0f' {LINES} & seq -f 'err %.0f' {LINES} >&2; wait");
    let finished = sh(&lab, &[], &script).spawn().finish(LONG).expect(0);
    let numbered = |name: &str| -> Vec<u8> {
        (1..=LINES).flat_map(|n| format!("{name} {n}\n").into_bytes()).collect()
    };
    // Not `assert_eq`: nobody wants to read megabytes.
    assert!(finished.stdout == numbered("out"), "{} bytes", finished.stdout.len());
    let err = finished.err().into_bytes();
    assert!(err == numbered("err"), "{} bytes", err.len());
}

#[test]
fn input_is_not_forwarded_unless_asked() {
    let lab = Lab::new();
    let mut running = sh(&lab, &[], "cat; echo end").piped().spawn();
    running.write(b"not for the guest\n");
    let finished = running.finish(PATIENCE).expect(0);
    assert_eq!(finished.out(), "end\n");
}

#[test]
fn a_reader_that_goes_away_ends_the_sandbox() {
    let lab = Lab::new();
    let (reader, writer) = std::io::pipe().expect("pipe");
    let running = lab.run(&[], &["yes", "still here"]).spawn_to(writer);
    let mut reader = BufReader::new(reader);
    let mut first = String::new();
    reader.read_line(&mut first).expect("read");
    assert_eq!(first, "still here\n");
    drop(reader);
    let finished = running.finish(PATIENCE).expect(128 + 13);
    assert_eq!(finished.err(), "", "a pipe that closes is no error");
}
