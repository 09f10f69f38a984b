//! What is remembered of a life, at the very moment when it counts as ended.

mod support;

use std::sync::Arc;
use std::time::Duration;

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, CoreError, Lifetime, SandboxHandle, SandboxRecord, SandboxSpec, SandboxStatus,
    StartSpec, StateError, StateRoot,
};
use matchlock_proto::{AgentFrame, Request};

use support::{launcher, left, report, serve, spec, start};

fn guest() -> Fake {
    serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        _ => drop(peer.send(&AgentFrame::Done)),
    })
}

fn recorded() -> SandboxSpec {
    let lifetime = Lifetime { recorded: true, ..Lifetime::default() };
    SandboxSpec { lifetime, start: Some(StartSpec::default()), ..spec() }
}

fn state_of(home: &std::path::Path, sandbox: &SandboxHandle) -> std::path::PathBuf {
    StateRoot::in_home(home).directory_of(sandbox.id())
}

/// The row and the words of the history of the only sandbox.
fn only(state: &StateRoot) -> (SandboxRecord, Vec<String>) {
    let [record] = <[_; 1]>::try_from(state.list().expect("list")).expect("one");
    let history = state.history(&record.id).expect("history");
    (record, history.into_iter().map(|step| step.phase).collect())
}

async fn failed(home: &std::path::Path, vmm: &Fake, spec: SandboxSpec) -> Arc<CoreError> {
    let sandbox: SandboxHandle =
        launcher(home, vmm).launch(spec, Attachments::default()).expect("an id");
    let error = sandbox.ready().await.expect_err("it does not start");
    sandbox.ended().await;
    error
}

#[tokio::test]
async fn every_step_of_a_life_is_written_before_it_counts_as_ended() {
    let home = tempfile::tempdir().expect("tempdir");
    let state = StateRoot::in_home(home.path());
    let spec = SandboxSpec { name: Some("web".parse().expect("a name")), ..recorded() };
    let sandbox =
        start(spec.clone(), Attachments::default(), home.path(), &guest()).await.expect("up");
    let running = state.find("web").expect("by its name");
    assert_eq!((running.pid, running.status), (std::process::id(), SandboxStatus::Running));
    let stored: SandboxSpec = serde_json::from_value(running.config).expect("a description");
    assert_eq!(stored, spec);
    let ending = sandbox.stop(Duration::ZERO).await;
    assert_eq!(ending.unrecorded, None);
    let (record, phases) = only(&state);
    assert_eq!(phases, ["creating", "starting", "running", "stopping", "cleaning", "cleaned"]);
    assert_eq!((record.status, record.pid), (SandboxStatus::Stopped, 0));
    let ending = record.ending.expect("an ending");
    assert_eq!((&*ending.cause, ending.exit_code, ending.error), ("stopped", 0, None));
    assert_eq!(left(home.path()), [record.id.to_string()], "its disk and its log");
    let mut files: Vec<_> = std::fs::read_dir(state.directory_of(&record.id))
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    files.sort();
    assert_eq!(files, ["audit.jsonl", "upper.ext4"]);
    state.remove(&record.id).expect("remove");
    assert!(left(home.path()).is_empty());
}

#[tokio::test]
async fn starts_that_fail_are_remembered_with_their_reason_if_they_are_recorded() {
    let cases = [
        (Fake::new(|_, _| true), recorded(), "start_failed", "the guest did not start"),
        (
            guest(),
            SandboxSpec { audit_log: Some("/proc/no/such/file".into()), ..recorded() },
            "create_failed",
            "/proc/no/such/file",
        ),
    ];
    for (vmm, spec, word, says) in cases {
        let home = tempfile::tempdir().expect("tempdir");
        let state = StateRoot::in_home(home.path());
        failed(
            home.path(),
            &vmm,
            SandboxSpec { lifetime: Lifetime::default(), start: None, ..spec.clone() },
        )
        .await;
        assert!(state.list().expect("list").is_empty(), "{word}: nothing is left");
        failed(home.path(), &vmm, spec).await;
        let (record, phases) = only(&state);
        assert_eq!(phases[phases.len() - 3..], [word, "cleaning", "cleaned"], "{phases:?}");
        let ending = record.ending.expect("an ending");
        let error = ending.error.expect("a reason");
        assert!(ending.cause == "start_failed" && error.contains(says), "{error}");
        state.remove(&record.id).expect("remove");
        assert!(left(home.path()).is_empty());
    }
}

#[tokio::test]
async fn a_name_that_is_taken_starts_nothing_and_disturbs_nobody() {
    let home = tempfile::tempdir().expect("tempdir");
    let state = StateRoot::in_home(home.path());
    let spec = SandboxSpec { name: Some("web".parse().expect("a name")), ..recorded() };
    let first =
        start(spec.clone(), Attachments::default(), home.path(), &guest()).await.expect("up");
    let error = failed(home.path(), &guest(), spec).await;
    let CoreError::State(StateError::NameTaken { id, .. }) = &*error else { panic!("{error}") };
    assert_eq!(id, first.id());
    assert_eq!(only(&state).0.id, *first.id());
    assert_eq!(left(home.path()), [first.id().to_string()]);
    first.end().await;
}

#[tokio::test]
async fn an_end_that_cannot_be_written_down_is_told() {
    let home = tempfile::tempdir().expect("tempdir");
    let sandbox =
        start(recorded(), Attachments::default(), home.path(), &guest()).await.expect("up");
    // A table that the end needs is gone, as in a damaged file.
    let path = home.path().join(".matchlock/state.db");
    let database = rusqlite::Connection::open(path).expect("open");
    database.execute_batch("DROP TABLE endings").expect("drop");
    let ending = sandbox.stop(Duration::ZERO).await;
    let why = ending.unrecorded.expect("a reason");
    assert!(why.starts_with("the state of the sandboxes"), "{why}");
    assert_eq!(left(home.path()), [sandbox.id().to_string()], "it has ended all the same");
    assert!(!state_of(home.path(), &sandbox).join("control.sock").exists());
}
