//! The log: where it goes, and that nothing of it gets between results.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use matchlock_testkit::Lab;
use serde_json::Value;

use crate::support::sh;

#[test]
fn a_level_or_file_that_does_not_exist_is_said_before_anything_starts() {
    let lab = Lab::new();
    let flag = lab.matchlock(&["--log-level", "loud", "version"]).finish().expect(1);
    assert!(flag.err().contains("--log-level"), "{}", flag.err());
    let variable = lab.matchlock(&["version"]).env("MATCHLOCK_LOG_LEVEL", "loud").finish();
    assert!(variable.expect(1).err().contains("MATCHLOCK_LOG_LEVEL"));
    let file = lab.matchlock(&["version", "--log-file", "/no/such/log"]).finish().expect(1);
    assert!(file.err().contains("/no/such/log"), "{}", file.err());
}

#[test]
fn an_ordinary_run_logs_nothing_unless_it_is_asked_to() {
    let lab = Lab::new();
    let log = lab.home().join("run.log");
    let path = log.to_str().expect("text");
    let quiet =
        sh(&lab, &["--log-file", path], "echo out; echo err >&2").piped().finish().expect(0);
    assert_eq!((&*quiet.out(), &*quiet.err()), ("out\n", "err\n"));
    assert_eq!(fs::read_to_string(&log).expect("made at once"), "");
    assert_eq!(fs::metadata(&log).expect("there").permissions().mode() & 0o777, 0o600);

    let flags = ["--log-level", "debug", "--log-file", path];
    let loud = sh(&lab, &flags, "echo out; echo err >&2").piped().finish().expect(0);
    assert_eq!((&*loud.out(), &*loud.err()), ("out\n", "err\n"));
    let text = fs::read_to_string(&log).expect("read");
    assert!(text.contains("DEBUG matchlock_"), "{text}");
}

#[test]
fn lines_of_the_log_and_of_the_program_are_apart() {
    let lab = Lab::new();
    let flags = ["--log-level", "debug", "--json"];
    let finished = sh(&lab, &flags, "printf half >&2").piped().finish().expect(0);
    let err = finished.err();
    let (mut logged, mut rest) = (0, Vec::new());
    for line in err.lines() {
        if line.contains(" DEBUG matchlock_") {
            assert!(line.starts_with("20"), "{line:?} begins with its time");
            logged += 1;
        } else {
            rest.push(line);
        }
    }
    assert!(logged > 0, "{err}");
    let [half, report] = rest.as_slice() else { panic!("{err}") };
    assert_eq!(*half, "half");
    let report: Value = serde_json::from_str(report).expect("one object on a line of its own");
    assert_eq!(report["exit_code"], 0, "{report}");
}
