//! A kept sandbox is started again, against a scripted guest.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use matchlock_core::vmm::Fake;
use matchlock_core::{
    Attachments, CoreError, Launcher, Lifetime, SandboxHandle, SandboxId, SandboxSpec,
    SandboxStatus, StartSpec, StateError, StateRoot,
};
use matchlock_proto::{AgentFrame, Request};

use support::{launcher, left, report, serve, spec, start};

fn guest() -> Fake {
    serve(|request, mut peer| match request {
        Request::Boot(_) => drop(peer.send(&AgentFrame::Booted(report()))),
        _ => drop(peer.send(&AgentFrame::Done)),
    })
}

fn kept() -> SandboxSpec {
    let lifetime = Lifetime { recorded: true, ..Lifetime::default() };
    SandboxSpec {
        name: Some("web".parse().expect("a name")),
        start: Some(StartSpec::default()),
        lifetime,
        ..spec()
    }
}

async fn again(launcher: &Launcher, id: &SandboxId) -> Result<SandboxHandle, Arc<CoreError>> {
    let sandbox = launcher.launch_again(id.clone(), kept(), Attachments::default());
    sandbox.ready().await?;
    Ok(sandbox)
}

/// The disk of a sandbox.
fn disk(home: &Path, id: &SandboxId) -> std::path::PathBuf {
    StateRoot::in_home(home).directory_of(id).join("upper.ext4")
}

#[tokio::test]
async fn it_has_its_id_its_name_and_its_disk_and_its_starts_are_counted() {
    let home = tempfile::tempdir().expect("tempdir");
    let (home, state) = (home.path(), StateRoot::in_home(home.path()));
    let vmm = guest();
    let launcher = launcher(home, &vmm);
    let first = launcher.start(kept(), Attachments::default()).await.expect("up");
    let id = first.id().clone();
    std::fs::write(disk(home, &id), "data").expect("write");
    first.stop(Duration::ZERO).await;
    for starts in 2..5 {
        let sandbox = again(&launcher, &id).await.expect("up again");
        assert_eq!(*sandbox.id(), id);
        let record = state.find("web").expect("by its name");
        assert_eq!((record.status, record.starts), (SandboxStatus::Running, starts));
        assert!(record.started_at > record.created_at && record.ending.is_none());
        sandbox.stop(Duration::ZERO).await;
        assert_eq!(std::fs::read(disk(home, &id)).expect("read"), b"data");
        assert_eq!(left(home), [id.to_string()]);
    }
    let history = state.history(&id).expect("history");
    let words: Vec<_> = history.iter().map(|step| &*step.phase).collect();
    let last = ["cleaned", "created", "starting", "running", "stopping", "cleaning", "cleaned"];
    assert_eq!(words[words.len() - last.len()..], last);
    // The disk is written through, and outlives the machine.
    assert!(vmm.seen().iter().all(|machine| !machine.disks[0].2), "{:?}", vmm.seen());
    state.remove(&id).expect("remove");
    assert!(left(home).is_empty());
    let gone = again(&launcher, &id).await.expect_err("it was removed");
    assert!(matches!(&*gone, CoreError::State(StateError::NotFound(_))), "{gone}");
    assert!(left(home).is_empty());
}

#[tokio::test]
async fn of_two_starts_at_once_one_has_it_and_nothing_is_lost() {
    let home = tempfile::tempdir().expect("tempdir");
    let (home, state) = (home.path(), StateRoot::in_home(home.path()));
    let launchers = [launcher(home, &guest()), launcher(home, &guest())];
    let first = launchers[0].start(kept(), Attachments::default()).await.expect("up");
    let id = first.id().clone();
    let running = again(&launchers[1], &id).await.expect_err("it runs");
    assert!(matches!(&*running, CoreError::State(StateError::Running(_))), "{running}");
    assert_eq!(state.find("web").expect("found").status, SandboxStatus::Running);
    std::fs::write(disk(home, &id), "data").expect("write");
    first.stop(Duration::ZERO).await;
    for _ in 0..10 {
        let (one, other) = tokio::join!(again(&launchers[0], &id), again(&launchers[1], &id));
        let (winner, loser) = match (one, other) {
            (Ok(winner), Err(loser)) | (Err(loser), Ok(winner)) => (winner, loser),
            both => panic!("{both:?}"),
        };
        assert!(matches!(&*loser, CoreError::State(StateError::Running(_))), "{loser}");
        assert!(winner.policy().is_none() && left(home) == [id.to_string()]);
        winner.stop(Duration::ZERO).await;
        assert_eq!(std::fs::read(disk(home, &id)).expect("read"), b"data");
    }
}

#[tokio::test]
async fn one_that_does_not_come_up_stays_and_one_that_runs_is_refused() {
    let home = tempfile::tempdir().expect("tempdir");
    let (home, state) = (home.path(), StateRoot::in_home(home.path()));
    let first = start(kept(), Attachments::default(), home, &guest()).await.expect("up");
    let id = first.id().clone();
    first.stop(Duration::ZERO).await;
    let dead = launcher(home, &Fake::new(|_, _| true));
    let sandbox = dead.launch_again(id.clone(), kept(), Attachments::default());
    let error = sandbox.ready().await.expect_err("it does not boot");
    assert!(matches!(*error, CoreError::Boot { .. }), "{error}");
    sandbox.ended().await;
    let record = state.find("web").expect("found");
    assert_eq!((record.status, record.starts), (SandboxStatus::Stopped, 2));
    assert_eq!(record.ending.expect("an ending").cause, "start_failed");
    assert!(disk(home, &id).is_file());
    let works = launcher(home, &guest());
    again(&works, &id).await.expect("up").stop(Duration::ZERO).await;
    let other = works.start(spec(), Attachments::default()).await.expect("up");
    let refused = again(&works, other.id()).await.expect_err("it runs");
    assert!(matches!(&*refused, CoreError::State(StateError::Running(_))), "{refused}");
    other.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_name_that_another_has_now_stops_the_start() {
    let home = tempfile::tempdir().expect("tempdir");
    let (home, works) = (home.path(), launcher(home.path(), &guest()));
    let first = works.start(kept(), Attachments::default()).await.expect("up");
    first.stop(Duration::ZERO).await;
    let second = works.start(kept(), Attachments::default()).await.expect("the name is free");
    let taken = again(&works, first.id()).await.expect_err("the name is taken");
    assert!(matches!(&*taken, CoreError::State(StateError::NameTaken { .. })), "{taken}");
    second.stop(Duration::ZERO).await;
    again(&works, first.id()).await.expect("free again").stop(Duration::ZERO).await;
    assert_eq!(left(home).len(), 2);
}
