//! Exit statuses, and what is said about them.

use matchlock_testkit::{Lab, PATIENCE};
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
