//! What has to hold however often: a few rounds of each in the suite, and many by `cargo xtask soak`.

use std::time::Instant;

use matchlock_core::control::{Arg, RunParams, connect};
use matchlock_testkit::{Lab, PATIENCE, Running, Stretch, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{processes, sandboxes, sh};

/// Rounds, where a person or a machine has time for more.
const ROUNDS: &str = "MATCHLOCK_SOAK_ROUNDS";

fn rounds(in_the_suite: u32) -> u32 {
    std::env::var(ROUNDS).map_or(in_the_suite, |rounds| rounds.parse().expect("a number"))
}

fn sleeper(lab: &Lab) -> Running {
    sh(lab, &["--rm=false", "--memory", "128"], "echo up; exec sleep 600").spawn()
}

/// The monitor's process, if it was started.
fn monitor(lab: &Lab) -> Option<Pid> {
    let machine = processes(lab).into_iter().find(|line| line.contains("matchlock-vm-"))?;
    let id = machine.strip_prefix("process ")?.split(':').next()?.parse().ok()?;
    Pid::from_raw(id)
}

fn causes(lab: &Lab) -> Vec<String> {
    let listed = lab.matchlock(&["list", "-q"]).finish().expect(0).out();
    let cause = |id: &str| {
        let inspected = lab.matchlock(&["inspect", id, "--json"]).finish().expect(0).out();
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        inspected["vm"]["ending"]["cause"].as_str().expect("a cause").to_owned()
    };
    listed.lines().map(cause).collect()
}

/// The next command finds what was left, and puts all of it in order.
fn nothing_is_left(lab: &Lab, round: &str, expected: &str) {
    wait_until("all processes are gone", PATIENCE, || processes(lab).is_empty().then_some(()));
    lab.matchlock(&["gc"]).finish().expect(0);
    // Before it was registered there is nothing to tell of.
    let causes = causes(lab);
    assert!(
        causes.iter().all(|cause| cause == expected) && causes.len() <= 1,
        "{round}: {causes:?}"
    );
    lab.matchlock(&["prune"]).finish().expect(0);
    assert_eq!(lab.leaks(), Vec::<String>::new(), "{round}");
}

#[test]
fn either_process_killed_at_any_moment_leaves_nothing() {
    let lab = Lab::new();
    let began = Instant::now();
    let mut whole = sleeper(&lab);
    whole.wait_for("up", PATIENCE);
    let boot = Stretch::since(began);
    whole.signal(Signal::INT);
    whole.finish(PATIENCE).expect(130);
    lab.matchlock(&["prune"]).finish().expect(0);
    for round in 0..rounds(6) {
        let moment = boot.moment();
        let mut running = sleeper(&lab);
        assert!(!running.ends_within(moment), "it goes on until it is killed");
        let monitor = monitor(&lab).filter(|_| round % 2 == 0);
        let round = format!("round {round}, {moment:?} of {boot:?}, monitor {monitor:?}");
        let Some(monitor) = monitor else {
            running.signal(Signal::KILL);
            assert_eq!(running.finish(PATIENCE).status.code(), None, "{round}");
            nothing_is_left(&lab, &round, "crashed");
            continue;
        };
        kill_process(monitor, Signal::KILL).expect("alive");
        let finished = running.finish(PATIENCE);
        assert_eq!(finished.code(), 125, "{round}: {}", finished.err());
        // Its supervisor has put everything in order, and says what has happened.
        assert_eq!(processes(&lab), Vec::<String>::new(), "{round}");
        let cause = causes(&lab).pop().expect("it was registered");
        assert!(["monitor_died", "start_failed"].contains(&&*cause), "{round}: {cause}");
        nothing_is_left(&lab, &round, &cause);
    }
}

fn program(words: &[&str]) -> RunParams {
    let argv = words.iter().map(|&word| Arg::Text(word.to_owned())).collect();
    RunParams { argv, ..RunParams::default() }
}

/// A sandbox whose command has ended, and where its socket is.
fn kept(lab: &Lab) -> (Running, std::path::PathBuf) {
    let running = lab.run(&["--rm=false"], &[]).spawn();
    let directory = wait_until("a sandbox that can be entered", PATIENCE, || {
        let id = sandboxes(lab).pop()?;
        let entered = lab.matchlock(&["exec", &id, "true"]).finish();
        (entered.code() == 0).then(|| lab.home().join(".matchlock/vms").join(id))
    });
    (running, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_without_number_one_after_the_other_and_at_once() {
    let lab = Lab::new();
    let (running, directory) = kept(&lab);
    let run = async |number: u32| {
        let connection = connect(&directory).await.expect("connect");
        let script = format!("echo {number}; exit {}", number % 100);
        let (mut program, mut streams) =
            connection.run(program(&["sh", "-c", &script])).await.expect("started");
        let out = streams.stdout.collect().await;
        assert_eq!(String::from_utf8_lossy(&out), format!("{number}\n"));
        let ended = program.wait().await.expect("a status");
        assert_eq!(ended.exit_code, i64::from(number % 100));
    };
    for number in 0..10 * rounds(10) {
        run(number).await;
    }
    let mut at_once = JoinSet::new();
    for number in 0..100 {
        let directory = directory.clone();
        at_once.spawn(async move {
            let connection = connect(&directory).await.expect("connect");
            let words = ["sh", "-c", &format!("read -r line; echo {number} $line")];
            let params = RunParams { stdin: true, ..program(&words) };
            let (mut program, mut streams) = connection.run(params).await.expect("started");
            let stdin = streams.stdin.take().expect("input");
            stdin.send(b"go\n").await.expect("sent");
            let out = streams.stdout.collect().await;
            assert_eq!(String::from_utf8_lossy(&out), format!("{number} go\n"));
            assert_eq!(program.wait().await.expect("a status").exit_code, 0);
        });
    }
    assert_eq!(at_once.join_all().await.len(), 100);
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_cancelled_at_any_moment_leave_no_process() {
    let lab = Lab::new();
    let (running, directory) = kept(&lab);
    let id = directory.file_name().expect("an id").to_string_lossy().into_owned();
    let began = Instant::now();
    let connection = connect(&directory).await.expect("connect");
    let (mut whole, _streams) = connection.run(program(&["true"])).await.expect("started");
    whole.wait().await.expect("a status");
    let whole = Stretch::since(began);
    for _ in 0..5 * rounds(6) {
        let moment = whole.moment();
        let cancelled = async {
            let connection = connect(&directory).await.expect("connect");
            let sleeps = program(&["sh", "-c", "sleep 4242 & exec sleep 4242"]);
            let (mut program, _streams) = connection.run(sleeps).await.expect("started");
            program.wait().await.expect("a status")
        };
        assert!(tokio::time::timeout(moment, cancelled).await.is_err(), "it goes on");
    }
    let count = "ls -d /proc/[0-9]* | while read -r p; do tr '\\0' ' ' <$p/cmdline; echo; done \
                 2>/dev/null | grep -c '^sleep 4242' || true";
    wait_until("no process of a cancelled program", PATIENCE, || {
        let counted = lab.matchlock(&["exec", &id, "sh", "-c", count]).finish().expect(0).out();
        (counted == "0\n").then_some(())
    });
    running.signal(Signal::TERM);
    running.finish(PATIENCE).expect(0);
    lab.matchlock(&["prune"]).finish().expect(0);
}
