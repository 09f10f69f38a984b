//! Any sequence of events makes a trail that verifies, and no damaged trail does.

use std::fs;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;

use matchlock_net::{Cause, Decision, Protocol, Scheme};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::record::ExecEnd;
use super::*;

fn start() -> Lifecycle<'static> {
    Lifecycle::Start(Start {
        version: "1",
        image: "host".into(),
        image_digest: None,
        privileged: false,
        network: None,
    })
}

fn event() -> impl Strategy<Value = Event> {
    // Any character at all, control characters and line separators of every kind included.
    let text = || vec(any::<char>(), 0..40).prop_map(String::from_iter);
    let decision = || prop_oneof![Just(Decision::Allowed), Just(Decision::Denied)];
    // Reasons are words of our own.
    let reason = || prop_oneof![Just(None), Just(Some(Cause::from("no rule allows the host")))];
    prop_oneof![
        (text(), text(), decision(), text(), reason()).prop_map(
            |(name, qtype, decision, rule, reason)| Event::Dns {
                name,
                qtype,
                decision,
                rule,
                reason
            }
        ),
        (any::<u64>(), any::<[u8; 4]>(), any::<u16>(), decision(), text()).prop_map(
            |(flow, address, port, decision, rule)| Event::FlowOpen {
                flow,
                protocol: Protocol::Tcp,
                host: None,
                address: IpAddr::V4(Ipv4Addr::from(address)),
                port,
                decision,
                rule,
                reason: None,
            }
        ),
        (text(), text(), text(), vec(text(), 0..3)).prop_map(|(method, host, path, secrets)| {
            Event::Request {
                flow: 1,
                request: 1,
                scheme: Scheme::Https,
                method,
                host,
                path,
                decision: Decision::Allowed,
                rule: "x".into(),
                reason: None,
                secrets,
            }
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(bytes_up, bytes_down)| Event::FlowClose {
            flow: 1,
            bytes_up,
            bytes_down,
            duration_ms: 0,
        }),
    ]
}

/// The bytes of a file to which each of these sandboxes appended its events.
fn trail(sandboxes: &[Vec<Event>]) -> Vec<u8> {
    let _unlocking = crate::testing::unlocking();
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    for events in sandboxes {
        let id = SandboxId::random().expect("random");
        let trail = Trail::keep(&path, &id).expect("open");
        trail.lifecycle(&start()).expect("start");
        for event in events {
            trail.record(event).expect("record");
        }
        trail.close(EndReason::Ended, &EndCause::Killed).expect("close");
    }
    fs::read(&path).expect("read")
}

fn check(bytes: &[u8]) -> Result<Summary, Broken> {
    verify(Cursor::new(bytes))
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn sandboxes() -> impl Strategy<Value = Vec<Vec<Event>>> {
    vec(vec(event(), 0..8), 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sequence_of_events_verifies(sandboxes in sandboxes()) {
        let bytes = trail(&sandboxes);
        prop_assert!(bytes.iter().all(|&b| b == b'\n' || (0x20..0x7f).contains(&b)));
        let summary = check(&bytes).expect("intact");
        let events: usize = sandboxes.iter().map(|events| events.len() + 2).sum();
        prop_assert_eq!(summary.records, events as u64);
        prop_assert_eq!(summary.sandboxes, sandboxes.len() as u64);
        prop_assert!(summary.closed && summary.unclosed == 0);
    }

    #[test]
    fn a_changed_byte_is_found(sandboxes in sandboxes(), at: Index, flip in 1u8..) {
        let mut bytes = trail(&sandboxes);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(check(&bytes).is_err());
    }

    #[test]
    fn a_removed_line_is_found(sandboxes in sandboxes(), at: Index) {
        let mut lines = lines(&trail(&sandboxes));
        let at = at.index(lines.len());
        let is_last = at + 1 == lines.len();
        lines.remove(at);
        match check(&lines.concat()) {
            Err(_) => {}
            Ok(summary) => prop_assert!(is_last && !summary.closed && summary.unclosed == 1),
        }
    }

    #[test]
    fn a_moved_or_repeated_line_is_found(sandboxes in sandboxes(), from: Index, to: Index) {
        let original = lines(&trail(&sandboxes));
        let (from, to) = (from.index(original.len()), to.index(original.len()));
        let mut repeated = original.clone();
        repeated.insert(to, original[from].clone());
        prop_assert!(check(&repeated.concat()).is_err());
        if from != to {
            let mut swapped = original;
            swapped.swap(from, to);
            prop_assert!(check(&swapped.concat()).is_err());
        }
    }

    #[test]
    fn a_cut_end_is_found(sandboxes in sandboxes(), at: Index) {
        let bytes = trail(&sandboxes);
        let cut = &bytes[..at.index(bytes.len())];
        let ends = |line: &Vec<u8>| String::from_utf8_lossy(line).contains(r#""event":"end""#);
        match check(cut) {
            Err(_) => {}
            // Whole sandboxes at the end can go unseen: that is what the last hash is printed for.
            Ok(summary) => prop_assert_eq!(summary.closed, lines(cut).last().is_some_and(ends)),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(check(&bytes).is_err());
    }
}

fn opened() -> (tempfile::TempDir, PathBuf, SandboxId) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    (dir, path, SandboxId::random().expect("random"))
}

#[test]
fn the_chain_is_of_sha_256_over_whole_lines() {
    let bytes = trail(&[Vec::new()]);
    let lines = lines(&bytes);
    let first = lines[0].strip_suffix(b"\n").expect("a line");
    let second: serde_json::Value = serde_json::from_slice(&lines[1]).expect("JSON");
    assert_eq!(second["prev"], line::hex(&line::hash(first)));
    let first: serde_json::Value = serde_json::from_slice(first).expect("JSON");
    assert_eq!(first["prev"], "0".repeat(64));
    assert_eq!(second["records"], 1);
}

#[test]
fn only_the_user_can_read_it() {
    let (_dir, path, id) = opened();
    for trail in [Trail::create(&path, &id), Trail::keep(&path.with_extension("kept"), &id)] {
        let trail = trail.expect("open");
        let mode = fs::metadata(trail.path()).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(matches!(Trail::create(&path, &id), Err(OpenError::File { .. })), "exists");
}

#[test]
fn a_file_that_is_no_intact_trail_is_not_continued() {
    let (dir, path, id) = opened();
    let intact = trail(&[vec![]]);
    let cut = &intact[..intact.len() - 1];
    for content in [b"\n".as_slice(), b"a text\n", b"{}\n", cut] {
        fs::write(&path, content).expect("write");
        let error = Trail::keep(&path, &id).expect_err("refused");
        assert!(matches!(error, OpenError::Broken { .. }), "{error}");
        assert_eq!(fs::read(&path).expect("read"), content, "untouched");
    }
    let error = Trail::keep(dir.path(), &id).expect_err("a directory");
    assert!(matches!(error, OpenError::File { .. }), "{error}");
    let error = Trail::keep(Path::new("/dev/null"), &id).expect_err("a device");
    assert!(matches!(error, OpenError::NotAFile { .. }), "{error}");
}

#[test]
fn a_file_has_one_writer_at_a_time() {
    let _unlocking = crate::testing::unlocking();
    let (_dir, path, id) = opened();
    let first = Trail::keep(&path, &id).expect("open");
    let error = Trail::keep(&path, &id).expect_err("in use");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    first.lifecycle(&start()).expect("start");
    // Killed: no `end`. The next sandbox goes on, and the missing end stays visible.
    drop(first);
    let second = Trail::keep(&path, &SandboxId::random().expect("random")).expect("open");
    second.lifecycle(&start()).expect("start");
    second.close(EndReason::Stopped, &EndCause::Killed).expect("close");
    let summary = check(&fs::read(&path).expect("read")).expect("intact");
    assert_eq!((summary.sandboxes, summary.unclosed, summary.closed), (2, 1, true));
}

#[test]
fn nothing_is_recorded_after_the_end() {
    let (_dir, path, id) = opened();
    let trail = Trail::create(&path, &id).expect("open");
    trail.lifecycle(&start()).expect("start");
    trail.close(EndReason::Ended, &EndCause::Killed).expect("close");
    let late = Lifecycle::ExecEnd { exec: 1, end: ExecEnd::Signal(9) };
    assert!(trail.lifecycle(&late).is_err());
    assert!(trail.close(EndReason::Ended, &EndCause::Killed).is_err());
    assert_eq!(trail.lost(), None, "the file is whole");
    assert_eq!(check(&fs::read(&path).expect("read")).expect("intact").records, 2);
}

#[test]
fn a_record_that_cannot_be_written_is_the_last() {
    let id = SandboxId::random().expect("random");
    // Writes to it fail with ENOSPC (full(4)).
    let full = OpenOptions::new().append(true).open("/dev/full").expect("open");
    let trail = Trail::new(Path::new("/dev/full"), &id, false, full, 0, GENESIS);
    assert!(trail.lifecycle(&start()).is_err());
    let why = trail.lost().expect("lost");
    assert!(why.contains("No space left"), "{why}");
    // For ever: no record after a lost one could be trusted to be the next.
    trail.state().file = tempfile::tempfile().expect("tempfile");
    assert!(trail.lifecycle(&start()).is_err());
    assert!(trail.close(EndReason::Ended, &EndCause::Killed).is_err());
}

#[test]
fn a_log_of_many_sandboxes_is_not_continued_beyond_its_bound() {
    let (_dir, path, id) = opened();
    let file = fs::File::create(&path).expect("create");
    file.set_len(MAX_KEPT + 1).expect("a sparse file");
    let error = Trail::keep(&path, &id).expect_err("too long");
    assert!(matches!(error, OpenError::Full { .. }), "{error:?}");
    // Within it, what counts is what is in it.
    file.set_len(1).expect("shorter");
    let error = Trail::keep(&path, &id).expect_err("no record");
    assert!(matches!(error, OpenError::Broken { .. }), "{error:?}");
}

#[test]
fn a_trail_that_has_reached_its_limit_ends_whole() {
    let (_dir, path, id) = opened();
    let trail = Trail::create(&path, &id).expect("open");
    trail.lifecycle(&start()).expect("start");
    trail.state().room = 100;
    assert!(trail.lifecycle(&start()).is_err());
    assert_eq!(trail.lost().as_deref(), Some("it has reached its limit of 1024 MiB"));
    let summary = check(&fs::read(&path).expect("read")).expect("intact");
    assert_eq!((summary.records, summary.closed), (1, false));
}
