//! Many processes that start and end sandboxes at once, one that is killed, and somebody who looks on.
#![expect(clippy::disallowed_methods, reason = "a test starts itself as other processes")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, EndCause, Lifetime, Phase, SandboxHandle, SandboxRecord, SandboxSpec,
    SandboxStatus, StateError, StateRoot,
};
use matchlock_proto::{AgentFrame, Request};

use support::{left, report, serve, spec, start};

const PROCESSES: usize = 20;
const SANDBOXES: usize = 10;

/// Names the home to a child.
const HOME: &str = "MATCHLOCK_TEST_HOME";

/// What a child does when its sandboxes are up.
const THEN: &str = "MATCHLOCK_TEST_THEN";

fn guest() -> Fake {
    serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        _ => drop(peer.send(&AgentFrame::Done)),
    })
}

/// Every second sandbox is recorded. Each has a connection of its own to the database.
async fn start_all(home: &Path) -> Vec<SandboxHandle> {
    let mut sandboxes = Vec::new();
    for number in 0..SANDBOXES {
        let lifetime = Lifetime { recorded: number.is_multiple_of(2), ..Lifetime::default() };
        let spec = SandboxSpec { lifetime, ..spec() };
        let sandbox = start(spec, Attachments::default(), home, &guest()).await.expect("up");
        assert_eq!(sandbox.phase(), Phase::Running);
        sandboxes.push(sandbox);
    }
    sandboxes
}

#[tokio::test]
async fn child_with_sandboxes() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let home = Path::new(&home);
    let then = std::env::var(THEN).expect("what to do");
    let wait = || std::io::stdin().read_to_end(&mut Vec::new()).expect("read");
    if then == "end" {
        // All of them go on when the parent has started the last one.
        wait();
    }
    StateRoot::in_home(home).sweep().expect("sweep");
    let sandboxes = if then == "repeat" { Vec::new() } else { start_all(home).await };
    say("up");
    match &*then {
        "end" => end(sandboxes).await,
        "hang" => drop(wait()),
        _ => loop {
            let spec = SandboxSpec {
                lifetime: Lifetime { recorded: true, ..Lifetime::default() },
                ..spec()
            };
            let sandbox = start(spec, Attachments::default(), home, &guest()).await.expect("up");
            say("started");
            sandbox.stop(Duration::ZERO).await;
            say("ended");
        },
    }
}

async fn end(sandboxes: Vec<SandboxHandle>) {
    let mut ends = tokio::task::JoinSet::new();
    for sandbox in sandboxes {
        ends.spawn(async move { sandbox.stop(Duration::ZERO).await });
    }
    for ending in ends.join_all().await {
        assert_eq!((ending.cause, ending.unrecorded), (EndCause::Stopped, None));
    }
}

/// Past what captures the output of tests.
fn say(word: &str) {
    writeln!(std::io::stderr(), "{word}").expect("write");
}

fn child(home: &Path, then: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "child_with_sandboxes", "--nocapture"]);
    command.env(HOME, home).env(THEN, then).stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(Stdio::piped()).spawn().expect("start")
}

/// Waits until a child has said this for the `number`th time, then kills it.
fn kill_after(mut child: Child, word: &str, number: usize) {
    let said = BufReader::new(child.stderr.take().expect("a pipe"));
    let words = said.lines().map(|line| line.expect("text"));
    assert_eq!(words.filter(|line| line == word).take(number).count(), number);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn a_process_that_is_killed_at_any_time_leaves_nothing_after_the_next_command() {
    for number in 1..=20_usize {
        let home = tempfile::tempdir().expect("tempdir");
        let home = home.path();
        let word = if number % 2 == 0 { "started" } else { "ended" };
        // It goes on meanwhile, so it is killed somewhere in what follows the word.
        kill_after(child(home, "repeat"), word, number.div_ceil(4));
        let records = StateRoot::in_home(home).list().expect("list");
        let known = |name: &String| records.iter().any(|record| record.id.as_str() == name);
        assert!(left(home).iter().all(known), "what is kept has a row");
        let crashed = |record: &&SandboxRecord| record.status == SandboxStatus::Crashed;
        assert!(records.iter().filter(crashed).count() <= 1, "{records:?}");
        for record in &records {
            assert_ne!(record.status, SandboxStatus::Running);
            StateRoot::in_home(home).remove(&record.id).expect("remove");
        }
        assert_eq!(left(home), Vec::<String>::new());
    }
}

#[test]
fn two_hundred_sandboxes_of_twenty_processes_leave_what_they_should_and_nothing_else() {
    let home = tempfile::tempdir().expect("tempdir");
    let home = home.path();
    let state = StateRoot::in_home(home);
    let killed = child(home, "hang");
    let mut children: Vec<_> = (0..PROCESSES).map(|_| child(home, "end")).collect();
    children.iter_mut().for_each(|child| drop(child.stdin.take()));
    kill_after(killed, "up", 1);
    let mut gone = 0;
    while children.iter_mut().any(|child| child.try_wait().expect("wait").is_none()) {
        let running = state.list().expect("list").into_iter();
        // Nothing of a sandbox that lives is taken by who looks on.
        let running = running.filter(|record| record.status == SandboxStatus::Running);
        for record in running {
            let removed = state.remove(&record.id);
            let lives = matches!(removed, Err(StateError::Running(_) | StateError::NotFound(_)));
            assert!(lives || removed.is_ok(), "{removed:?}");
            gone += usize::from(removed.is_ok());
        }
    }
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    let records = state.list().expect("list");
    let crashed = records.iter().filter(|record| record.status == SandboxStatus::Crashed).count();
    assert_eq!(crashed, SANDBOXES, "those of the process that was killed");
    assert!(records.iter().all(|record| record.status != SandboxStatus::Running));
    assert_eq!(
        records.len() - crashed + gone,
        PROCESSES * SANDBOXES / 2,
        "those that are recorded"
    );
    let known = |name: &String| records.iter().any(|record| record.id.as_str() == name);
    assert!(left(home).iter().all(known), "what is kept has a row");
    // Removed by several at once, each of them goes once.
    let removed: usize = std::thread::scope(|scope| {
        let removers: Vec<_> = (0..4)
            .map(|_| {
                let state = StateRoot::in_home(home);
                let records = &records;
                scope.spawn(move || {
                    records.iter().filter(|record| state.remove(&record.id).is_ok()).count()
                })
            })
            .collect();
        removers.into_iter().map(|remover| remover.join().expect("no panic")).sum()
    });
    assert_eq!(removed, records.len());
    assert!(state.list().expect("list").is_empty());
    assert_eq!(left(home), Vec::<String>::new());
}
