//! The audit trail that a run keeps, and its verification.

use std::fs;

use matchlock_testkit::{Lab, PATIENCE};
use serde_json::Value;

use crate::support::sh;

#[test]
fn a_kept_trail_verifies_is_continued_and_shows_every_change() {
    let lab = Lab::new();
    let log = lab.home().join("audit.jsonl");
    let path = log.display().to_string();
    let flags = ["--audit-log", &path, "--json", "--secret", "API_KEY=canary-1f@a.example"];
    let script = "getent hosts evil.example.com; test -n \"$API_KEY\"";
    let first = sh(&lab, &flags, script).finish().expect(0);
    let err = first.err();
    let report: Value = serde_json::from_str(err.lines().last().expect("a report")).expect("JSON");
    assert_eq!(report["audit"], path);
    let refused = report["refused"].as_array().expect("an array");
    let evil = refused.iter().find(|refusal| refusal["host"] == "evil.example.com");
    let evil = evil.unwrap_or_else(|| panic!("{err}"));
    assert_eq!(evil["allow_with"], "--allow-host evil.example.com");
    sh(&lab, &["--no-network", "--audit-log", &path], "exit 7").finish().expect(7);

    let text = fs::read_to_string(&log).expect("read");
    assert!(!text.contains("canary-1f"), "{text}");
    let records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let events: Vec<&str> = records.iter().filter_map(|r| r["event"].as_str()).collect();
    assert_eq!(events.iter().filter(|event| **event == "start").count(), 2, "{events:?}");
    assert!(events.contains(&"dns") && events.contains(&"exec"), "{events:?}");
    assert_eq!(records.last().map(|record| &record["event"]), Some(&"end".into()));

    let verify = |args: &[&str]| lab.matchlock(&[&["audit", "verify", &path], args].concat());
    let verified = verify(&[]).finish().expect(0);
    assert!(verified.out().starts_with(&format!("{path}: {} records, intact", records.len())));
    let json = verify(&["--json"]).finish().expect(0).out();
    let verdict: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&verdict["intact"], &verdict["sandboxes"]), (&true.into(), &2.into()));

    fs::write(&log, text.replacen("evil.example.com", "good.example.com", 1)).expect("write");
    let changed = verify(&[]).finish().expect(1);
    assert!(changed.err().contains(": line 2: ") || changed.err().contains(": line 3: "));
    let json = verify(&["--json"]).finish().expect(1).out();
    let verdict: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&verdict["intact"], &verdict["error"]["kind"]),
        (&false.into(), &"conflict".into())
    );
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(&log, lines[..lines.len() - 1].concat()).expect("write");
    let cut = verify(&[]).finish().expect(0);
    assert!(cut.err().contains("no end record"), "{}", cut.err());
}

#[test]
fn a_trail_is_shown_for_people() {
    let lab = Lab::new();
    let file = lab.home().join("trail.jsonl");
    let flag = format!("--audit-log={}", file.display());
    let words = ["run", "--image", "host", "-d", "--name", "web", &flag, "sleep", "infinity"];
    lab.matchlock(&words).finish().expect(0);
    let show = |words: &[&str]| {
        let words: Vec<_> = ["audit", "show"].iter().chain(words).copied().collect();
        lab.matchlock(&words)
    };
    let mut following = show(&["-f", "web"]).spawn();
    following.wait_for("exec      #1 sleep infinity", PATIENCE);
    let script = "getent hosts denied.example; printf '\\033[2J'";
    lab.matchlock(&["exec", "web", "sh", "-c", script]).finish().expect(0);
    following.wait_for("name      denied.example", PATIENCE);
    let denied = show(&["web", "--denied"]).finish().expect(0).out();
    assert!(denied.lines().count() > 0, "a name was refused");
    assert!(denied.lines().all(|line| line.contains("denied.example") && line.contains("DENIED")));
    assert_eq!(show(&["web", "--since", "2999-01-01"]).finish().expect(0).out(), "");
    let json = show(&["web", "--json"]).finish().expect(0).out();
    let records: Vec<serde_json::Value> = serde_json::from_str(&json).expect("an array");
    assert_eq!(records[0]["event"], "start");
    lab.matchlock(&["stop", "web"]).finish().expect(0);
    let followed = following.finish(PATIENCE).expect(0).out();
    assert!(followed.contains("end       stopped"), "{followed}");
    assert!(!followed.contains('\x1b'), "{followed:?}");
    // It is kept, and so it is shown after the end, too: by the sandbox and by its file.
    let file = file.to_str().expect("UTF-8");
    assert_eq!(show(&["web"]).finish().expect(0).out(), show(&[file]).finish().expect(0).out());
    lab.matchlock(&["rm", "web"]).finish().expect(0);
    let nobody = show(&["web"]).finish().expect(1);
    assert!(nobody.err().contains("not found"), "{}", nobody.err());
}
