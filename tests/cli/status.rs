//! Exit statuses, and what is said about them.

use matchlock_testkit::{Finished, Lab, PATIENCE, binary, write_program};
use serde_json::Value;

use crate::support::sh;

#[test]
fn the_status_is_that_of_the_program_and_nothing_is_said_about_it() {
    let lab = Lab::new();
    for (script, status) in [("exit 1", 1), ("exit 255", 255), ("kill -KILL $$", 128 + 9)] {
        let finished = sh(&lab, &[], script).finish().expect(status);
        assert_eq!(finished.err(), "", "{script}");
        assert_eq!(finished.out(), "", "{script}");
    }
}

#[test]
fn a_program_that_cannot_be_started_has_the_status_of_a_shell_and_an_error() {
    let lab = Lab::new();
    for (program, status) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        let finished = lab.run(&[], &[program]).finish().expect(status);
        let err = finished.err();
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.starts_with("Error: executing command: "), "{err}");
        assert!(err.contains(program), "{err}");
        assert_eq!(finished.out(), "");
    }
}

#[test]
fn options_after_the_first_word_belong_to_the_command() {
    let lab = Lab::new();
    let args = ["run", "--image", "host", "grep", "-i", "ROOT:X:0", "/etc/passwd"];
    let finished = lab.matchlock(&args).finish().expect(0);
    assert!(finished.out().starts_with("root:x:0:"), "{}", finished.out());
    let args = ["run", "--image", "host", "echo", "--allow-host", "*", "-p", "80", "--", "--json"];
    let finished = lab.matchlock(&args).finish().expect(0);
    assert_eq!(finished.out(), "--allow-host * -p 80 -- --json\n");
    assert_eq!(finished.err(), "", "no port is published and no object is printed");
}

#[test]
fn json_is_the_last_line_and_its_phases_are_the_whole_run() {
    let lab = Lab::new();
    let mut running = sh(&lab, &["-i", "--json"], "echo text; exit 7").piped().spawn();
    // The input stays open: the program's end must not wait for it.
    running.wait_for("text", PATIENCE);
    let finished = running.finish(PATIENCE).expect(7);
    assert_eq!(finished.out(), "text\n", "nothing of ours on standard output");
    let err = finished.err();
    assert_eq!(err.lines().count(), 1, "{err}");
    let report: Value = serde_json::from_str(&err).expect("JSON");
    assert_eq!(report["exit_code"], 7);
    assert_eq!(report["timed_out"], false);
    assert_eq!(report["accelerator"]["accelerator"], "tcg");
    assert!(report["accelerator"]["reason"].is_string(), "{err}");
    assert!(report["id"].as_str().is_some_and(|id| id.starts_with("vm-")), "{err}");
    let phases = report["phases_ms"].as_object().expect("an object");
    let ms = |name: &str| phases[name].as_f64().unwrap_or_else(|| panic!("{name} in {err}"));
    let parts: f64 = phases.keys().filter(|name| *name != "total").map(|name| ms(name)).sum();
    assert!(phases.len() > 5 && phases.keys().all(|name| ms(name) >= 0.0), "{err}");
    assert!(ms("kernel_to_agent") > 10.0, "no kernel boots faster: {err}");
    assert!((parts - ms("total")).abs() < 1.0, "parts {parts} of {err}");
}

/// The object, which is the last line of standard error.
#[track_caller]
fn object(finished: &Finished) -> Value {
    let err = finished.err();
    let last = err.lines().last().unwrap_or_default();
    let object: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {err}"));
    assert_eq!(object["exit_code"], finished.code(), "{err}");
    object
}

#[test]
fn json_has_a_line_of_its_own_whatever_the_program_wrote() {
    let lab = Lab::new();
    let finished = sh(&lab, &["--json"], "printf out; printf err >&2").finish().expect(0);
    assert_eq!(finished.out(), "out", "as it was written");
    assert_eq!(finished.err().lines().next(), Some("err"));
    object(&finished);
    // Both streams in one pipe, as in a log.
    let merged = lab.home().join("merged");
    write_program(&merged, &format!("#!/bin/sh\nexec {} \"$@\" 2>&1\n", binary().display()));
    let finished = sh(&lab, &["--json"], "printf out").program(&merged).finish().expect(0);
    let out = finished.out();
    let lines: Vec<&str> = out.lines().collect();
    let [.., output, json] = lines[..] else { panic!("{out}") };
    assert_eq!(output, "out");
    serde_json::from_str::<Value>(json).expect("JSON");
}

#[test]
fn json_tells_of_errors_too() {
    let lab = Lab::new();
    let cases: [(&[&str], &[&str], i32); 6] = [
        (&["--memory", "2q"], &["true"], 125),
        (&["--no-such"], &["true"], 125),
        (&["--image", "a b"], &["true"], 125),
        (&["-it"], &["true"], 1),
        (&["-w", "/no/such/directory"], &["true"], 125),
        (&[], &["no-such-program"], 127),
    ];
    for (flags, argv, status) in cases {
        let flags = [&["--json"], flags].concat();
        let finished = lab.run(&flags, argv).finish().expect(status);
        let object = object(&finished);
        assert!(object["error"]["kind"].is_string(), "{flags:?}: {object}");
        let message = object["error"]["message"].as_str().unwrap_or_default();
        assert!(finished.err().contains(&format!("Error: {message}")), "{flags:?}: {object}");
        assert_eq!(finished.out(), "", "{flags:?}");
    }
}

#[test]
fn json_in_a_file_is_whole_and_the_only_thing_in_it() {
    let lab = Lab::new();
    let file = lab.home().join("run.json");
    let flag = format!("--json={}", file.display());
    let read = || -> Value {
        serde_json::from_slice(&std::fs::read(&file).expect("a file")).expect("JSON")
    };
    let finished = sh(&lab, &[&flag], "echo text; exit 3").finish().expect(3);
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("text\n", ""));
    assert_eq!(read()["exit_code"], 3);
    lab.run(&[&flag, "--memory", "1"], &["true"]).finish().expect(125);
    assert_eq!(read()["error"]["kind"], "invalid_argument", "in place of the other");
    // An argument of a program names no file.
    let other = lab.home().join("other.json");
    let given = format!("--json={}", other.display());
    lab.matchlock(&["run", "--memory", "2q", "prog", &given]).finish().expect(125);
    assert!(!other.exists());
    let lost = lab.run(&["--json=/no/such/directory/file"], &["true"]).finish().expect(125);
    assert!(lost.err().starts_with("Error: cannot write the JSON to /no/such/directory/file: "));
}

#[test]
fn every_command_has_one_json_value_on_standard_output_when_it_fails_too() {
    let lab = Lab::new();
    let cases: [&[&str]; 8] = [
        &["pull", "a b"],
        &["pull"],
        &["build", "-t", "x", "/no/such/directory"],
        &["image", "rm", "absent"],
        &["volume", "create", "a", "--size", "2q"],
        &["volume", "cp", "absent", "b"],
        &["audit", "verify", "/no/such/file"],
        &["image", "frobnicate"],
    ];
    for args in cases {
        let finished = lab.matchlock(&[args, &["--json"]].concat()).finish().expect(1);
        let out = finished.out();
        let object: Value =
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?}: {out}"));
        assert_eq!((out.lines().count(), &object["exit_code"]), (1, &1.into()), "{args:?}: {out}");
        assert!(object["error"]["kind"].is_string(), "{args:?}: {out}");
    }
}
