//! Sandboxes that are found again: `list`, `get`, `inspect`, `stop`, `kill`, `wait`, `rm`, `prune`, `gc`.

use matchlock_testkit::{Finished, Lab, PATIENCE, Running, wait_until};
use serde_json::Value;

use crate::support::{sandboxes, sh};

const SECRET: &str = "canary-7b1e";

/// A sandbox that stays, with the name `web`, whose command has ended.
fn web(lab: &Lab) -> Running {
    let secret = format!("API_KEY={SECRET}@api.example.com");
    let flags = ["--rm=false", "--name", "web", "-e", "COLOUR=blue", "--secret", &secret];
    let mut running = sh(lab, &flags, "echo up; exit 7").spawn();
    running.wait_for("up", PATIENCE);
    // What it wrote may come before its end does, and a signal would then be the command's.
    wait_until("the end of the command", PATIENCE, || {
        let trails =
            sandboxes(lab).into_iter().map(|id| lab.home().join(".matchlock/vms").join(id));
        let mut texts =
            trails.filter_map(|vm| std::fs::read_to_string(vm.join("audit.jsonl")).ok());
        texts.any(|text| text.contains("\"exec_end\"")).then_some(())
    });
    running
}

fn matchlock(lab: &Lab, line: &str) -> Finished {
    lab.matchlock(&line.split(' ').collect::<Vec<_>>()).finish()
}

fn json(lab: &Lab, line: &str) -> Value {
    serde_json::from_str(&matchlock(lab, line).expect(0).out()).expect("JSON")
}

/// Fails with status 1, and says so.
#[track_caller]
fn refused(lab: &Lab, line: &str, says: &str) {
    let finished = matchlock(lab, line).expect(1);
    assert!(finished.err().starts_with(&format!("Error: {says}\n")), "{}", finished.err());
    assert_eq!(finished.out(), "");
}

#[test]
fn one_that_stays_is_listed_described_stopped_waited_for_and_removed() {
    let lab = Lab::new();
    let running = web(&lab);
    let pid = running.pid().to_string();
    let listed = matchlock(&lab, "list").expect(0).out();
    let lines: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "STATUS", "IMAGE", "CREATED", "PID"], "{listed}");
    let [id, "running", "host", _, _, owner] = *lines[1] else { panic!("{listed}") };
    assert_eq!((owner, lines.len()), (&*pid, 2), "{listed}");
    assert_eq!(
        matchlock(&lab, "ls -q --running --filter name=web").expect(0).out(),
        format!("{id}\n")
    );
    assert_eq!(matchlock(&lab, "ls -q --filter status=crashed").expect(0).out(), "");
    assert_eq!(json(&lab, "ls --json")[0]["name"], "web");
    while_it_runs(&lab, id);
    let waiting = lab.matchlock(&["wait", "web"]).spawn();
    assert_eq!(matchlock(&lab, "stop web").expect(0).out(), format!("Stopped {id}\n"));
    assert_eq!(waiting.finish(PATIENCE).expect(0).out(), "7\n");
    let said = running.finish(PATIENCE).expect(0).err();
    assert!(said.contains(&format!("  Stop:    matchlock kill {id}\n")), "{said}");
    let listed = matchlock(&lab, "list").expect(0).out();
    let last: Vec<&str> = listed.lines().last().expect("a line").split_whitespace().collect();
    assert_eq!((last[1], last[5]), ("stopped", "-"), "{listed}");
    assert_eq!(matchlock(&lab, "list -q --running").expect(0).out(), "");
    let inspected = json(&lab, "inspect web --json");
    assert_eq!(inspected["vm"]["ending"]["cause"], "stopped", "{inspected}");
    assert_eq!(inspected["lifecycle"]["phase"], "cleaned", "{inspected}");
    for (line, says) in [
        ("kill web", format!("VM {id} is not running")),
        ("stop web", format!("VM {id} is not running")),
        ("get nope", "VM nope not found".to_owned()),
    ] {
        refused(&lab, line, &says);
    }
    assert_eq!(
        matchlock(&lab, &format!("gc {id}")).expect(0).out(),
        format!("{id}: no resources to clean\n")
    );
    assert_eq!(matchlock(&lab, "rm web").expect(0).out(), format!("Removed {id}\n"));
    refused(&lab, "get web", "VM web not found");
    assert_eq!(matchlock(&lab, &format!("wait {id}")).expect(0).out(), "7\n", "it is remembered");
}

fn while_it_runs(lab: &Lab, id: &str) {
    let got = matchlock(lab, "get web").expect(0).out();
    assert!(got.starts_with("{\n  \"id\": \"vm-"), "two spaces: {got}");
    let got: Value = serde_json::from_str(&got).expect("JSON");
    assert_eq!((&got["id"], &got["status"]), (&id.into(), &"running".into()));
    assert_eq!(got["config"]["env"]["COLOUR"], "blue");
    assert!(got["config"]["network"]["secrets"]["API_KEY"]["placeholder"].is_string(), "{got}");
    let inspected = json(lab, "stat web");
    let history = inspected["history"].as_array().expect("steps");
    let phases: Vec<_> = history.iter().map(|step| step["phase"].as_str()).collect();
    assert_eq!(phases, [Some("creating"), Some("starting"), Some("running")], "{inspected}");
    assert!(inspected["lifecycle"]["resources"]["monitor_pid"].is_u64(), "{inspected}");
    for file in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(lab.home().join(".matchlock").join(file)).expect("read");
        let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the value of the secret is in {file}");
    }
    let second = sh(lab, &["--name", "web"], "true").finish().expect(125);
    let says = format!("the name web is that of {id}, which is running");
    assert!(second.err().contains(&says), "{}", second.err());
    for line in ["rm web", "gc web"] {
        refused(lab, line, &format!("VM is running {id}"));
    }
    assert_eq!(matchlock(lab, "prune").expect(0).out(), "Pruned 0 VMs\n");
    let collected = format!("{id}: skipped (running)\nReconciled 1 VMs\n");
    assert_eq!(matchlock(lab, "gc").expect(0).out(), collected);
}

#[test]
fn one_that_is_killed_is_crashed_and_cleaned_up_after() {
    let lab = Lab::new();
    let running = web(&lab);
    let id = matchlock(&lab, "ls -q").expect(0).out().trim().to_owned();
    let killed = matchlock(&lab, "kill --signal KILL web").expect(0).out();
    assert_eq!(killed, format!("Killed {id}\n"));
    assert_eq!(running.finish(PATIENCE).status.code(), None);
    assert_eq!(sandboxes(&lab).len(), 1, "its directory is still there");
    let cleaned = matchlock(&lab, &format!("gc {id}")).expect(0).out();
    assert_eq!(cleaned, format!("{id}: cleaned monitor\n"));
    assert_eq!(sandboxes(&lab).len(), 1, "its disk and its log are kept");
    assert_eq!(json(&lab, "list --json")[0]["status"], "crashed");
    assert_eq!(matchlock(&lab, &format!("wait {id}")).expect(0).out(), "137\n");
    assert_eq!(matchlock(&lab, "prune").expect(0).out(), format!("Pruned {id}\nPruned 1 VMs\n"));
    assert_eq!(sandboxes(&lab), Vec::<String>::new());
    let running = web(&lab);
    let id = matchlock(&lab, "ls -q").expect(0).out().trim().to_owned();
    assert_eq!(matchlock(&lab, "rm -f web").expect(0).out(), format!("Removed {id}\n"));
    assert_eq!(running.finish(PATIENCE).status.code(), None);
    assert_eq!(matchlock(&lab, "ls -q").expect(0).out(), "");
}

#[test]
fn kill_all_and_rm_stopped_take_every_one() {
    let lab = Lab::new();
    let running = web(&lab);
    let id = matchlock(&lab, "ls -q").expect(0).out().trim().to_owned();
    assert_eq!(json(&lab, "kill --all --json")["killed"][0], *id);
    running.finish(PATIENCE).expect(0);
    assert_eq!(json(&lab, "rm --stopped --json")["removed"][0], *id);
    assert_eq!(matchlock(&lab, "kill --all").expect(0).out(), "");
    assert_eq!(matchlock(&lab, "rm --stopped").expect(0).out(), "");
}

#[test]
fn a_start_that_fails_leaves_no_row() {
    let lab = Lab::new();
    let run = sh(&lab, &[], "true").env("MATCHLOCK_KERNEL", "/dev/null").finish().expect(125);
    assert!(run.err().contains("kernel"), "{}", run.err());
    assert_eq!(json(&lab, "list --json"), Value::Array(Vec::new()));
}

#[test]
fn what_is_missing_or_unknown_is_told_without_a_sandbox() {
    let lab = Lab::new();
    refused(&lab, "kill", "VM ID required (or use --all)");
    refused(&lab, "rm", "VM ID required (or use --stopped)");
    refused(&lab, "get", "accepts 1 arg(s), received 0");
    for command in ["get", "inspect", "stop", "kill", "wait", "rm", "gc"] {
        refused(&lab, &format!("{command} nope"), "VM nope not found");
    }
    refused(&lab, "list --filter colour=red", "invalid filter \"colour=red\"");
    let named = matchlock(&lab, "run --name vm-0123abcd --image host true").expect(125);
    assert!(named.err().starts_with("Error: invalid --name \"vm-0123abcd\": "), "{}", named.err());
}

#[test]
fn a_damaged_database_is_told_by_every_command() {
    let lab = Lab::new();
    let directory = lab.home().join(".matchlock");
    std::fs::create_dir(&directory).expect("mkdir");
    std::fs::write(directory.join("state.db"), "no database ".repeat(99)).expect("write");
    for line in ["list", "gc", "prune", "get x"] {
        let finished = matchlock(&lab, line).expect(1);
        let says = "Error: the state of the sandboxes cannot be opened: ";
        assert!(finished.err().starts_with(says), "{}", finished.err());
        assert!(finished.err().contains("  hint: if it is damaged"), "{}", finished.err());
    }
    let run = sh(&lab, &[], "true").finish().expect(125);
    assert!(run.err().contains("the state of the sandboxes cannot be opened"), "{}", run.err());
}
