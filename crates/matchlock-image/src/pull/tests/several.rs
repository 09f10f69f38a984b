//! Several pulls at once, and pulls that end early.
#![expect(clippy::disallowed_methods, reason = "a test asks for its surroundings")]

use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use matchlock_testkit::wait_until;

use super::*;
use crate::samples::put_layers;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn pulls_of_one_image_at_once_load_each_layer_once() {
    let lab = Lab::new();
    let archives = archives(6);
    publish(&lab.registry, "v1", &archives);
    let start = Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = store(lab.dir.path());
                start.wait();
                let pulled =
                    pull_with(&store, &lab.reference("v1"), &force(), &NoProgress).expect("pull");
                store.open_image(&pulled.image).expect("whole");
            });
        }
    });
    for digest in layer_digests(&archives) {
        assert_eq!(asked(&lab.registry, &digest), 1);
    }
    assert_eq!(files(&lab.store, "blobs").len(), 7);
    assert_eq!(files(&lab.store, "ingest"), []);
}

/// What the child processes of the next tests do.
#[test]
#[ignore = "run by other tests, in processes of its own"]
fn child_that_pulls() {
    let dir = std::env::var_os("MATCHLOCK_TEST_STORE").expect("a store");
    let address = std::env::var("MATCHLOCK_TEST_REGISTRY").expect("a registry");
    let reference = reference(address.parse().expect("an address"), "v1");
    pull_with(&store(dir.as_ref()), &reference, &force(), &NoProgress).expect("pull");
}

fn child(lab: &Lab, abort_at: Option<&str>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", "pull::tests::several::child_that_pulls", "--ignored"])
        .env("MATCHLOCK_TEST_STORE", lab.dir.path())
        .env("MATCHLOCK_TEST_REGISTRY", lab.registry.address().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(point) = abort_at {
        command.env(crate::store::ABORT_AT, point);
    }
    command.spawn().expect("run")
}

#[test]
fn processes_that_pull_one_image_load_each_layer_once() {
    let lab = Lab::new();
    let archives = archives(6);
    publish(&lab.registry, "v1", &archives);
    let children: Vec<_> = (0..3).map(|_| child(&lab, None)).collect();
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    for digest in layer_digests(&archives) {
        assert_eq!(asked(&lab.registry, &digest), 1);
    }
    lab.registry.script(|_| Some(Reply::status(500)));
    lab.store.open_image(&lab.pull("v1").expect("from the store").image).expect("whole");
}

#[test]
fn a_process_that_dies_at_any_point_leaves_nothing_registered() {
    let points = ["part-write", "before-link", "after-link", "before-register", "after-register"];
    for point in points {
        let lab = Lab::new();
        let archives = archives(2);
        publish(&lab.registry, "v1", &archives);
        assert!(!child(&lab, Some(point)).wait().expect("wait").success(), "{point}");
        let registered = lab.store.find(&lab.reference("v1")).expect("look");
        assert_eq!(registered.is_some(), point == "after-register");
        lab.store.gc().expect("gc");
        if registered.is_none() {
            lab.assert_empty();
        }
        lab.store.open_image(&lab.pull("v1").expect("pull").image).expect("whole");
    }
}

/// Lets the registry send only so much of the layer and then nothing more.
fn stall(lab: &Lab, archive: &[u8], after: usize) -> std::path::PathBuf {
    let packed = gzip(archive);
    let digest = Digest::of(&packed);
    let end = format!("/blobs/{digest}");
    lab.registry.script(move |request| {
        request.target.ends_with(&end).then(|| Reply::ok(&packed).stall(after))
    });
    lab.dir.path().join("ingest").join(format!("{}.part", digest.hex()))
}

fn has_len(path: &std::path::Path, len: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() == len)
}

#[test]
fn the_next_pull_goes_on_where_a_killed_one_was() {
    let lab = Lab::new();
    let archives = archives(1);
    publish(&lab.registry, "v1", &archives);
    let part = stall(&lab, &archives[0], 30_000);
    let mut child = child(&lab, None);
    wait_until("the first part", LIMIT, || has_len(&part, 30_000).then_some(()));
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(lab.store.list().expect("list").is_empty());
    lab.registry.script(|_| None);
    lab.store.open_image(&lab.pull("v1").expect("pull").image).expect("whole");
    let requests = lab.registry.requests();
    assert!(requests.iter().any(|request| request.header("range") == Some("bytes=30000-")));
}

#[test]
fn a_pull_that_is_dropped_can_be_taken_up_again() {
    let lab = Lab::new();
    let archives = archives(1);
    publish(&lab.registry, "v1", &archives);
    let part = stall(&lab, &archives[0], 30_000);
    let watched = async {
        let wait = move || wait_until("a part", LIMIT, || has_len(&part, 30_000).then_some(()));
        tokio::task::spawn_blocking(wait).await.expect("a part");
    };
    let (client, reference, options) = (client(), lab.reference("v1"), PullOptions::default());
    runtime().block_on(async {
        tokio::select! {
            _ = pull(&lab.store, &client, &reference, &options, &NoProgress) => panic!("stalled"),
            () = watched => {}
        }
    });
    assert!(lab.store.list().expect("list").is_empty());
    assert_eq!(files(&lab.store, "leases"), []);
    lab.registry.script(|_| None);
    lab.store.open_image(&lab.pull("v1").expect("pull").image).expect("whole");
    let requests = lab.registry.requests();
    assert!(requests.iter().any(|request| request.header("range") == Some("bytes=30000-")));
}

#[test]
fn gc_during_a_pull_deletes_nothing_that_it_needs() {
    let lab = Lab::new();
    let archives = archives(5);
    publish(&lab.registry, "v1", &archives);
    let digests = layer_digests(&archives);
    let last = format!("/blobs/{}", digests[4]);
    let other = store(lab.dir.path());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (seen_there, ids) = (Arc::clone(&seen), archives.clone());
    lab.registry.script(move |request| {
        if request.target.ends_with(&last) {
            // Three at a time: by now at least two of the five are stored.
            let stored = |store: &Store| {
                let there = |bytes: &&Vec<u8>| store.has_blob(&Digest::of(bytes)).expect("look");
                ids.iter().filter(there).count()
            };
            let before = stored(&other);
            let report = other.gc().expect("gc");
            seen_there.lock().expect("lock").push((before, report.blobs, stored(&other) >= before));
        }
        None
    });
    let pulled = lab.pull("v1").expect("pull");
    lab.store.open_image(&pulled.image).expect("whole");
    let seen = seen.lock().expect("lock").clone();
    let [(before, deleted, kept)] = seen[..] else { panic!("{seen:?}") };
    assert!(before >= 2 && deleted == 0 && kept, "{seen:?}");
    for digest in digests {
        assert_eq!(asked(&lab.registry, &digest), 1);
    }
}

/// Does something when a layer is waited for.
struct WhenWaiting<F>(Mutex<F>, Events);

impl<F: FnMut() + Send> Progress for WhenWaiting<F> {
    fn event(&self, event: Event) {
        if matches!(event, Event::Layer { state: LayerState::Waiting, .. }) {
            (self.0.lock().expect("lock"))();
        }
        self.1.event(event);
    }
}

/// Pulls while another has the part file, which `then` is told.
fn wait_for_another(lab: &Lab, then: impl FnMut() + Send) -> Vec<LayerState> {
    let progress = WhenWaiting(Mutex::new(then), Events::default());
    pull_with(&lab.store, &lab.reference("v1"), &PullOptions::default(), &progress).expect("pull");
    progress.1.states(0)
}

#[test]
fn who_waits_for_a_pull_that_fails_takes_its_place() {
    let lab = Lab::new();
    let archives = archives(1);
    publish(&lab.registry, "v1", &archives);
    let mut held = lab.store.part(&layer_digests(&archives)[0]).expect("a part");
    let states = wait_for_another(&lab, || held = None);
    assert_eq!((states[0], states[states.len() - 1]), (LayerState::Waiting, LayerState::Done));
}

#[test]
fn who_waits_for_a_pull_that_succeeds_loads_nothing() {
    let lab = Lab::new();
    let archives = archives(1);
    publish(&lab.registry, "v1", &archives);
    let digest = layer_digests(&archives)[0];
    let mut held = lab.store.part(&digest).expect("a part");
    let other = store(lab.dir.path());
    let states = wait_for_another(&lab, || {
        put_layers(&other, &archives);
        held = None;
    });
    assert_eq!(states, [LayerState::Waiting, LayerState::Exists]);
    assert_eq!(asked(&lab.registry, &digest), 0);
}
