mod hostile;
mod several;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use matchlock_testkit::registry::{FakeRegistry, Reply};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::*;
use crate::digest::Digest;
use crate::registry::{BoxFuture, Credentials, Dial, DialError, Dialed, Reach, Registries};
use crate::samples::{config, files, gzip, store, tar};
use crate::store::Source;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[derive(Debug)]
struct Direct;

impl Dial for Direct {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        _reach: Reach,
    ) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await;
            let stream = stream.map_err(DialError::Unreachable)?;
            Ok(Dialed { stream, private: true })
        })
    }
}

/// Remembers events.
#[derive(Default)]
struct Events(Mutex<Vec<Event>>);

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().expect("lock").push(event);
    }
}

impl Events {
    fn states(&self, wanted: usize) -> Vec<LayerState> {
        let events = self.0.lock().expect("lock");
        let states = events.iter().filter_map(|event| match event {
            Event::Layer { index, state, .. } if *index == wanted => Some(*state),
            _ => None,
        });
        states.collect()
    }
}

/// Bytes that do not compress, different for each `seed`.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(len).collect()
}

/// Archives of `count` layers.
fn archives(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|at| tar(&[(&format!("file-{at}"), &noise(at + 1, 50_000))])).collect()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn client() -> Client {
    Client::new(Arc::new(Direct), Registries::default(), Credentials::none(), "test")
}

fn reference(address: SocketAddr, tag: &str) -> Reference {
    format!("{address}/team/app:{tag}").parse().expect("a reference")
}

fn pull_with(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    runtime().block_on(pull(store, &client(), reference, options, progress))
}

fn force() -> PullOptions {
    PullOptions { force: true, ..PullOptions::default() }
}

/// A manifest over blobs that the registry is given.
fn publish(registry: &FakeRegistry, tag: &str, archives: &[Vec<u8>]) -> Digest {
    let blobs: Vec<_> = archives.iter().map(|bytes| (GZIP, gzip(bytes))).collect();
    publish_blobs(registry, tag, &config(archives), &blobs)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn publish_blobs(
    registry: &FakeRegistry,
    tag: &str,
    config: &[u8],
    layers: &[(&str, Vec<u8>)],
) -> Digest {
    registry.put_blob(config);
    let layers: Vec<_> = layers
        .iter()
        .map(|(media_type, bytes)| {
            registry.put_blob(bytes);
            descriptor(media_type, bytes)
        })
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config), "layers": layers});
    let digest = registry.put_manifest("team/app", tag, MANIFEST, manifest.to_string().as_bytes());
    digest.parse().expect("a digest")
}

/// How often a blob was asked for.
fn asked(registry: &FakeRegistry, digest: &Digest) -> usize {
    let end = format!("/blobs/{digest}");
    registry.targets().iter().filter(|target| target.ends_with(&end)).count()
}

fn layer_digests(archives: &[Vec<u8>]) -> Vec<Digest> {
    archives.iter().map(|bytes| Digest::of(&gzip(bytes))).collect()
}

struct Lab {
    registry: FakeRegistry,
    store: Store,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { registry: FakeRegistry::plain(), store: store(dir.path()), dir }
    }

    fn reference(&self, tag: &str) -> Reference {
        reference(self.registry.address(), tag)
    }

    fn pull(&self, tag: &str) -> Result<Pulled, PullError> {
        pull_with(&self.store, &self.reference(tag), &PullOptions::default(), &NoProgress)
    }

    /// Nothing is there that a name or a resumed pull could lead to.
    fn assert_empty(&self) {
        assert!(self.store.list().expect("list").is_empty());
        self.store.gc().expect("gc");
        for dir in ["blobs", "ingest", "leases"] {
            assert_eq!(files(&self.store, dir), [], "{dir}");
        }
    }
}

#[test]
fn an_image_is_pulled_and_then_found_without_the_registry() {
    let lab = Lab::new();
    let archives = archives(5);
    let digest = publish(&lab.registry, "v1", &archives);
    let events = Events::default();
    let reference = lab.reference("v1");
    let pulled = pull_with(&lab.store, &reference, &PullOptions::default(), &events);
    let pulled = pulled.expect("pull");
    assert!(pulled.fresh);
    assert_eq!((pulled.image.digest, pulled.image.source), (digest, Source::Registry));
    assert_eq!(pulled.image.tag, reference.as_typed());
    assert_eq!(lab.store.open_image(&pulled.image).expect("open").files.len(), 6);
    assert_eq!(files(&lab.store, "ingest"), []);
    assert_eq!(files(&lab.store, "leases"), []);
    for index in 0..5 {
        let states = events.states(index);
        assert!(matches!(states[0], LayerState::Downloading { done: 0, .. }), "{states:?}");
        assert_eq!(states[states.len() - 2..], [LayerState::Unpacking, LayerState::Done]);
    }
    let Lab { registry, store, dir: _dir } = lab;
    drop(registry);
    let again = pull_with(&store, &reference, &PullOptions::default(), &NoProgress);
    let again = again.expect("without a registry");
    assert!(!again.fresh);
    assert_eq!(again.image.digest, digest);
}

#[test]
fn force_asks_for_the_tag_and_loads_only_what_is_new() {
    let lab = Lab::new();
    let archives = archives(3);
    publish(&lab.registry, "v1", &archives[..2]);
    lab.pull("v1").expect("pull");
    let before = files(&lab.store, "blobs");
    for _ in 0..2 {
        let pulled = pull_with(&lab.store, &lab.reference("v1"), &force(), &NoProgress);
        assert!(pulled.expect("pull").fresh);
        assert_eq!(files(&lab.store, "blobs"), before);
    }
    let new = publish(&lab.registry, "v1", &archives[1..]);
    assert_ne!(lab.pull("v1").expect("from the store").image.digest, new);
    let pulled = pull_with(&lab.store, &lab.reference("v1"), &force(), &NoProgress);
    assert_eq!(pulled.expect("pull").image.digest, new);
    assert_eq!(lab.pull("v1").expect("from the store").image.digest, new);
    for digest in layer_digests(&archives) {
        assert_eq!(asked(&lab.registry, &digest), 1);
    }
    // The layer that was only of the old image is gone: two layers and an index.
    assert_eq!(files(&lab.store, "blobs").len(), 3);
}

#[test]
fn an_index_leads_to_the_image_of_the_platform() {
    let lab = Lab::new();
    let digest = publish(&lab.registry, "single", &archives(1));
    let requests = lab.registry.requests().len();
    assert_eq!(requests, 0);
    let image = lab.pull("single").expect("pull").image;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config(&archives(1))),
        "layers": [descriptor(GZIP, &gzip(&archives(1)[0]))]});
    assert_eq!(Digest::of(manifest.to_string().as_bytes()), digest);
    let mut entry = descriptor(MANIFEST, manifest.to_string().as_bytes());
    let host = Platform::host().to_string();
    let (os, architecture) = host.split_once('/').expect("two parts");
    entry["platform"] = json!({"os": os, "architecture": architecture});
    let mut other = descriptor(MANIFEST, b"other");
    other["platform"] = json!({"os": "plan9", "architecture": "mips"});
    let index = |entries: &[&Value]| {
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string()
    };
    lab.registry.put_manifest("team/app", "multi", INDEX, index(&[&other, &entry]).as_bytes());
    assert_eq!(lab.pull("multi").expect("pull").image.digest, image.digest);
    lab.registry.put_manifest("team/app", "none", INDEX, index(&[&other]).as_bytes());
    let error = lab.pull("none").expect_err("no image").to_string();
    assert!(error.contains("plan9/mips") && error.contains(&host), "{error}");
    let nested = descriptor(INDEX, index(&[&entry]).as_bytes());
    lab.registry.put_manifest("team/app", "nested", INDEX, index(&[&nested]).as_bytes());
    assert!(lab.pull("nested").is_err());
    // What an index calls an image must be one, or there would be circles.
    let looped = index(&[&entry]);
    let disguised = json!({"mediaType": MANIFEST, "digest": Digest::of(looped.as_bytes()),
        "size": looped.len(), "platform": entry["platform"]});
    lab.registry.put_manifest("team/app", "looped", INDEX, looped.as_bytes());
    lab.registry.put_manifest("team/app", "circle", INDEX, index(&[&disguised]).as_bytes());
    assert!(lab.pull("circle").is_err());
}

#[test]
fn a_tag_is_a_further_name() {
    let lab = Lab::new();
    publish(&lab.registry, "v1", &archives(1));
    let tag = |name: &str| PullOptions {
        tag: Some(ImageName::local(name, Source::Tag).expect("a tag")),
        ..PullOptions::default()
    };
    let reference = lab.reference("v1");
    let first = pull_with(&lab.store, &reference, &tag("mine"), &NoProgress).expect("pull");
    let before = files(&lab.store, "blobs");
    let again = pull_with(&lab.store, &reference, &tag("mine-too"), &NoProgress).expect("pull");
    assert_eq!((first.fresh, again.fresh), (true, false));
    let tags: Vec<_> = lab.store.list().expect("list").into_iter().map(|i| i.tag).collect();
    assert_eq!(tags, ["mine", "mine-too", reference.as_typed()]);
    assert_eq!(files(&lab.store, "blobs"), before);
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_stopped() {
    let lab = Lab::new();
    let archives = archives(1);
    publish(&lab.registry, "v1", &archives);
    let packed = gzip(&archives[0]);
    let end = format!("/blobs/{}", layer_digests(&archives)[0]);
    lab.registry.script(move |request| {
        let whole = request.target.ends_with(&end) && request.header("range").is_none();
        whole.then(|| Reply::ok(&packed).cut(20_000))
    });
    let events = Events::default();
    let pulled = pull_with(&lab.store, &lab.reference("v1"), &PullOptions::default(), &events);
    lab.store.open_image(&pulled.expect("pull").image).expect("whole");
    let retried = Event::Retrying { index: 0, attempt: 1 };
    assert!(events.0.lock().expect("lock").contains(&retried));
    let ranges: Vec<_> = lab.registry.requests();
    let ranges: Vec<_> = ranges.iter().filter_map(|r| r.header("range")).collect();
    assert_eq!(ranges, ["bytes=20000-"]);
}

#[test]
fn a_part_is_resumed_and_a_bad_one_is_not_believed() {
    let archives = archives(1);
    let packed = gzip(&archives[0]);
    let damaged: Vec<u8> = packed[..9_000].iter().map(|byte| byte ^ 1).collect();
    let too_long = vec![0; packed.len() + 1];
    for (part, ranges, bytes_again) in [
        (packed[..9_000].to_vec(), true, false),
        (packed[..9_000].to_vec(), false, true),
        (packed.clone(), true, false),
        (damaged, true, true),
        (too_long, true, true),
    ] {
        let lab = Lab::new();
        publish(&lab.registry, "v1", &archives);
        if !ranges {
            lab.registry.ignore_ranges();
        }
        let digest = layer_digests(&archives)[0];
        let mut file = lab.store.part(&digest).expect("a part").expect("ours");
        file.append(&part).expect("write");
        drop(file);
        let pulled = lab.pull("v1").expect("pull");
        lab.store.open_image(&pulled.image).expect("whole");
        assert_eq!(files(&lab.store, "ingest"), []);
        let requests = lab.registry.requests();
        let whole = requests.iter().any(|request| {
            request.target.ends_with(&digest.to_string()) && request.header("range").is_none()
        });
        assert_eq!(whole, bytes_again && ranges, "{} bytes", part.len());
        assert_eq!(asked(&lab.registry, &digest) > 0, part != packed);
    }
}

#[test]
fn a_full_device_is_said_and_nothing_is_stored() {
    let lab = Lab::new();
    publish(&lab.registry, "v1", &archives(2));
    let points = ["part-write", "before-link", "before-register"];
    for point in points {
        lab.store.set_fault(point, std::io::ErrorKind::StorageFull);
        let error = lab.pull("v1").expect_err("full");
        assert!(matches!(error, PullError::Store(StoreError::NoSpace(_))), "{point}: {error:?}");
        assert!(error.to_string().starts_with("no space left on the device"), "{error}");
        lab.assert_empty();
    }
    lab.store.clear_fault();
    lab.pull("v1").expect("with space");
}

/// Issue 9: the lock of the store was waited for on the event loop.
#[test]
fn a_pull_that_waits_for_the_store_keeps_no_other_task_waiting() {
    let lab = Lab::new();
    publish(&lab.registry, "v1", &archives(1));
    let lock = matchlock_sys::lock_file(&lab.dir.path().join(".lock")).expect("open");
    lock.lock().expect("lock");
    let (client, reference, options) = (client(), lab.reference("v1"), PullOptions::default());
    let events = Events::default();
    let resolved = || matches!(events.0.lock().expect("lock").last(), Some(Event::Resolved { .. }));
    let pulled = runtime().block_on(async {
        let release = async {
            while !resolved() {
                tokio::task::yield_now().await;
            }
            drop(lock);
        };
        tokio::join!(pull(&lab.store, &client, &reference, &options, &events), release).0
    });
    assert!(pulled.expect("pull").fresh);
}

#[test]
fn a_pull_may_move_between_threads() {
    fn moves(_: &impl Send) {}
    let lab = Lab::new();
    let (client, reference, options) = (client(), lab.reference("v1"), PullOptions::default());
    moves(&pull(&lab.store, &client, &reference, &options, &NoProgress));
}
