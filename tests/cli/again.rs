//! `start` and `restart`: a kept sandbox goes on with its disk.

use matchlock_testkit::{Finished, Lab, PATIENCE, wait_until};
use serde_json::Value;

use crate::support::{sandboxes, sh};

/// Says how often it has run, which it keeps on its disk.
const SCRIPT: &str = "echo $API_KEY >>/var/lib/runs; echo run $(wc -l </var/lib/runs)";

fn matchlock(lab: &Lab, line: &str) -> Finished {
    lab.matchlock(&line.split(' ').collect::<Vec<_>>()).env("API_KEY", "canary-52e1").finish()
}

fn logged(lab: &Lab, text: &str) {
    wait_until("a line of the log", PATIENCE, || {
        matchlock(lab, "log --source command web").expect(0).out().contains(text).then_some(())
    });
}

fn inspect(lab: &Lab) -> Value {
    serde_json::from_str(&matchlock(lab, "inspect web").expect(0).out()).expect("JSON")
}

#[test]
fn data_outlives_a_stop_a_kill_and_a_restart() {
    let lab = Lab::new();
    let flags = ["-d", "--name", "web", "--secret", "API_KEY@api.example.com"];
    let started = sh(&lab, &flags, SCRIPT).env("API_KEY", "canary-52e1").finish().expect(0);
    let id = started.out();
    logged(&lab, "run 1\n");
    let running = matchlock(&lab, "start web").expect(1);
    assert!(running.err().contains(&format!("VM is running {}", id.trim())), "{}", running.err());
    matchlock(&lab, "stop web").expect(0);

    // A value that is missing is told, and nothing starts.
    let missing = lab.matchlock(&["start", "web"]).finish().expect(1);
    assert!(
        missing.err().contains("environment variable is not set $API_KEY"),
        "{}",
        missing.err()
    );
    assert_eq!(inspect(&lab)["vm"]["starts"], 1);

    assert_eq!(matchlock(&lab, "start web").expect(0).out(), id);
    logged(&lab, "run 2\n");
    matchlock(&lab, "exec web sync").expect(0);
    matchlock(&lab, "kill --signal KILL web").expect(0);
    assert_eq!(matchlock(&lab, "wait web").expect(0).out(), "137\n");
    assert_eq!(matchlock(&lab, "start web").expect(0).out(), id);
    logged(&lab, "run 3\n");
    let missing = lab.matchlock(&["restart", "web"]).finish().expect(1);
    assert!(missing.err().contains("$API_KEY"), "{}", missing.err());
    assert_eq!(matchlock(&lab, "restart web").expect(0).out(), id);
    logged(&lab, "run 4\n");
    // What stands for the secret is the same in each life.
    let runs = matchlock(&lab, "exec web cat /var/lib/runs").expect(0).out();
    let lines: Vec<_> = runs.lines().collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| *line == lines[0]), "{runs}");
    assert!(lines[0].starts_with("SANDBOX_SECRET_"), "{runs}");
    let inspected = inspect(&lab);
    assert_eq!(inspected["vm"]["starts"], 4, "{inspected}");
    assert_eq!(inspected["vm"]["status"], "running", "{inspected}");
    matchlock(&lab, "rm -f web").expect(0);
    assert_eq!(sandboxes(&lab), Vec::<String>::new());
    let gone = matchlock(&lab, "start web").expect(1);
    assert!(gone.err().contains("VM web not found"), "{}", gone.err());
}
