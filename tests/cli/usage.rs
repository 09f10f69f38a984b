//! `stats` and `top`: what a sandbox uses, and what runs in it.

use matchlock_testkit::{Finished, Lab, PATIENCE, Pty, wait_until};
use rustix::process::Signal;
use serde_json::Value;

fn json(finished: Finished) -> Vec<Value> {
    serde_json::from_str(&finished.expect(0).out()).expect("an array")
}

#[test]
fn numbers_and_processes_of_a_running_sandbox_are_shown() {
    let lab = Lab::new();
    let script = "sleep 123456 & while :; do :; done";
    let words = ["run", "--image", "host", "-d", "--name", "web", "sh", "-c", script];
    lab.matchlock(&words).finish().expect(0);
    tables_and_json(&lab);
    a_live_table(&lab);
    processes(&lab);
    lab.matchlock(&["rm", "-f", "web"]).finish().expect(0);
    let gone = lab.matchlock(&["stats", "web"]).finish().expect(1);
    assert!(gone.err().contains("VM not found web"), "{}", gone.err());
    assert_eq!(json(lab.matchlock(&["stats", "--json"]).finish()), Vec::<Value>::new());
}

fn tables_and_json(lab: &Lab) {
    lab.matchlock(&["exec", "web", "sh", "-c", "head -c 5000000 /dev/urandom > /tmp/x; sync"])
        .finish()
        .expect(0);
    let found = json(lab.matchlock(&["stats", "web", "--json"]).finish());
    let [one] = &found[..] else { panic!("{found:?}") };
    let number = |name: &str| one[name].as_f64().unwrap_or_else(|| panic!("{name} in {one}"));
    assert_eq!(one["name"], "web");
    assert!(number("cpu_percent") > 1.0, "a loop runs: {one}");
    assert!(number("memory_used") > 0.0 && number("memory_used") < number("memory_limit"), "{one}");
    assert!(number("host_memory") > 16e6, "{one}");
    assert!(number("disk_written") >= 5e6, "{one}");
    assert!(number("processes") >= 2.0, "{one}");
    assert!(number("network_sent") > 0.0, "a guest looks for its gateway: {one}");
    let table = lab.matchlock(&["stats", "--no-stream"]).finish().expect(0).out();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("ID ") && lines[0].contains("MEM USAGE / LIMIT"), "{table}");
    assert!(lines[1].contains("web") && lines[1].contains('%'), "{table}");
}

fn a_live_table(lab: &Lab) {
    let mut pty = Pty::new(30, 120);
    let live = lab.matchlock(&["stats", "web"]).spawn_on(&pty);
    wait_until("two tables", PATIENCE, || {
        pty.wait_for("PIDS", PATIENCE);
        (pty.shown().matches("PIDS").count() >= 2).then_some(())
    });
    live.signal(Signal::INT);
    live.finish(PATIENCE).expect(0);
}

fn processes(lab: &Lab) {
    // A program may call itself what it likes.
    let hostile = "exec -a \"$(printf 'evil\\033[2J\\nname')\" sleep 654321";
    let mut odd = lab.matchlock(&["exec", "-u", "nobody", "web", "bash", "-c", hostile]).spawn();
    let shown = odd.wait_until("both programs", PATIENCE, || {
        let shown = lab.matchlock(&["top", "web"]).finish().expect(0).out();
        let is_there = shown.contains("sleep 123456") && shown.contains("evil\\u{1b}");
        is_there.then_some(shown)
    });
    assert!(shown.starts_with("PID ") && !shown.contains('\x1b'), "{shown:?}");
    let odd_line = shown.lines().find(|line| line.contains("654321")).expect("a line");
    assert!(odd_line.contains("nobody") && odd_line.contains("evil\\u{1b}[2J"), "{shown}");
    assert!(!shown.contains("kthreadd"), "none of the kernel's: {shown}");
    let found = json(lab.matchlock(&["top", "web", "--json"]).finish());
    let sleeping = |one: &&Value| one["command"] == "sleep 123456";
    let one = found.iter().find(sleeping).unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!((&one["user"], &one["uid"]), (&Value::from("root"), &Value::from(0)));
    odd.signal(Signal::INT);
    odd.finish(PATIENCE).expect(130);
}
