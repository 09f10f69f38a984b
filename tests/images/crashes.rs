//! Pulls that end too early, and pulls beside each other.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use matchlock_testkit::image_archive::{Format, ImageArchive, LayerTar, Packing};
use matchlock_testkit::registry::{FakeRegistry, Reply, Request};
use matchlock_testkit::{Lab, PATIENCE, Running, wait_until};
use rustix::process::Signal;
use serde_json::json;

use crate::images::bytes;
use crate::stock::{Stock, blobs, names, store};

cases![
    a_pull_that_was_killed_is_gone_on_with,
    an_interrupted_pull_ends_as_signals_end_programs,
    two_pulls_at_once_fetch_every_blob_once,
    pulls_of_images_that_share_layers_share_their_downloads,
];

/// How much of the layer a registry sends before it is silent.
const SENT: usize = 3 << 20;

/// An image of layers with so many MiB each, none of which can be compressed.
fn image(seeds: &[u64], mib: usize) -> ImageArchive {
    let layer = |seed: &u64| {
        let mut state = *seed;
        let data: Vec<u8> = (0..mib << 17)
            .flat_map(|_| {
                // SplitMix64.
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (mixed ^ (mixed >> 27)).to_le_bytes()
            })
            .collect();
        LayerTar::new().file(&format!("data-{seed}"), 0o644, &data).finish()
    };
    ImageArchive::new(seeds.iter().map(layer).collect())
}

/// Puts an image in; digests of its layers.
fn put(registry: &FakeRegistry, image: &ImageArchive, tag: &str) -> Vec<String> {
    let archive = bytes(image, Format::Oci, Packing::Plain);
    let mut digests = Vec::new();
    let mut entries = tar::Archive::new(&archive[..]);
    for entry in entries.entries().expect("a tar archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("read");
        if path.starts_with("blobs/") && is_manifest(&content) {
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            registry.put_manifest("some/image", tag, media_type, &content);
        } else if path.starts_with("blobs/") {
            let digest = registry.put_blob(&content);
            if !content.starts_with(b"{") {
                digests.push(digest);
            }
        }
    }
    digests
}

/// A configuration has no `layers`, and a layer is no JSON.
fn is_manifest(content: &[u8]) -> bool {
    let document: Option<serde_json::Value> = serde_json::from_slice(content).ok();
    document.is_some_and(|document| document["layers"].is_array())
}

/// Lets the registry fall silent in the middle of the first layer that is asked for, once.
fn stall_once(registry: &FakeRegistry, layer: Vec<u8>, digest: &str) {
    let stalled = AtomicBool::new(false);
    let end = format!("/blobs/{digest}");
    registry.script(move |request: &Request| {
        let stalls = request.path().ends_with(&end) && !stalled.swap(true, Ordering::SeqCst);
        stalls.then(|| Reply::ok(&layer).stall(SENT))
    });
}

/// A pull that has got all that it will get.
fn stalled(lab: &Lab, image: &str) -> Running {
    let running = lab.matchlock(&["pull", image]).spawn();
    let ingest = store(lab).join("ingest");
    wait_until("a part of the layer", PATIENCE, || {
        let parts =
            names(&ingest).into_iter().filter_map(|name| fs::metadata(ingest.join(name)).ok());
        parts.map(|part| part.len()).any(|length| length == SENT as u64).then_some(())
    });
    running
}

/// A registry with an image of one layer that stalls; the image and the layer's digest.
fn stalling() -> (FakeRegistry, String, String) {
    let registry = FakeRegistry::plain();
    let image = image(&[7], 6);
    put(&registry, &image, "1");
    let layer = image.layers()[0].clone();
    let digest = registry.put_blob(&layer);
    stall_once(&registry, layer, &digest);
    let reference = format!("{}/some/image:1", registry.address());
    (registry, reference, digest)
}

fn ranges(registry: &FakeRegistry, digest: &str) -> Vec<Option<String>> {
    let requests = registry.requests().into_iter();
    let blob = requests.filter(|request| request.path().ends_with(digest));
    blob.map(|request| request.header("range").map(str::to_owned)).collect()
}

fn a_pull_that_was_killed_is_gone_on_with(_: &Stock) {
    let lab = Lab::new();
    let (registry, image, digest) = stalling();
    let running = stalled(&lab, &image);
    running.signal(Signal::KILL);
    let killed = running.finish(PATIENCE);
    assert_eq!(killed.code(), -1, "by a signal: {}", killed.err());
    let list = lab.matchlock(&["image", "ls", "--json"]).finish().expect(0);
    assert_eq!(list.out(), "[]\n", "nothing is half there");
    lab.matchlock(&["pull", &image]).finish().expect(0);
    assert_eq!(ranges(&registry, &digest), [None, Some(format!("bytes={SENT}-"))]);
    assert_eq!(blobs(&lab).len(), 2);
    // As if it had never been: another home gets the same.
    let other = Lab::new();
    other.matchlock(&["pull", &image]).finish().expect(0);
    let read = |lab: &Lab, name: &String| fs::read(store(lab).join("blobs").join(name));
    for name in blobs(&lab) {
        assert!(read(&lab, &name).expect("read") == read(&other, &name).expect("read"), "{name}");
    }
    let gc = lab.matchlock(&["image", "gc", "--json"]).finish().expect(0);
    assert_eq!(gc.out(), "{\"bytes\":0,\"removed\":0}\n");
}

fn an_interrupted_pull_ends_as_signals_end_programs(_: &Stock) {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let lab = Lab::new();
        let (_registry, image, _) = stalling();
        let running = stalled(&lab, &image);
        running.signal(signal);
        running.finish(PATIENCE).expect(status);
        assert_eq!(blobs(&lab), Vec::<String>::new());
        let gc = lab.matchlock(&["image", "gc", "--json"]).finish().expect(0);
        assert_eq!(gc.out(), format!("{{\"bytes\":{SENT},\"removed\":0}}\n"), "the part");
        // So the check of what is left finds neither part nor lease.
    }
}

/// Requests of each blob.
fn assert_once(registry: &FakeRegistry, digests: &[String]) {
    for digest in digests {
        assert_eq!(ranges(registry, digest), [None], "{digest}");
    }
}

fn two_pulls_at_once_fetch_every_blob_once(_: &Stock) {
    let lab = Lab::new();
    let registry = FakeRegistry::plain();
    let digests = put(&registry, &image(&[1, 2, 3, 4, 5, 6], 6), "1");
    assert_eq!(digests.len(), 6);
    let image = format!("{}/some/image:1", registry.address());
    let pull = || lab.matchlock(&["pull", "--json", &image]).spawn();
    let pulls: Vec<Running> = (0..3).map(|_| pull()).collect();
    let outputs: Vec<String> =
        pulls.into_iter().map(|running| running.finish(PATIENCE).expect(0).out()).collect();
    let digest = |out: &String| {
        let pulled: serde_json::Value = serde_json::from_str(out).expect("JSON");
        pulled["digest"].clone()
    };
    assert!(outputs.iter().all(|out| digest(out) == digest(&outputs[0])), "{outputs:?}");
    assert_once(&registry, &digests[..]);
    assert_eq!(blobs(&lab).len(), 7);
}

fn pulls_of_images_that_share_layers_share_their_downloads(_: &Stock) {
    let lab = Lab::new();
    let registry = FakeRegistry::plain();
    let mut digests = put(&registry, &image(&[1, 2, 3], 6), "one");
    digests.extend(put(&registry, &image(&[1, 2, 4], 6), "two"));
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4);
    let pull = |tag: &str| {
        let image = format!("{}/some/image:{tag}", registry.address());
        lab.matchlock(&["pull", &image]).spawn()
    };
    let pulls = [pull("one"), pull("two")];
    for running in pulls {
        running.finish(PATIENCE).expect(0);
    }
    assert_once(&registry, &digests);
    assert_eq!(blobs(&lab).len(), 6, "four layers, two indexes");
    let gc = lab.matchlock(&["image", "gc", "--json"]).finish().expect(0);
    assert_eq!(gc.out(), format!("{}\n", json!({ "bytes": 0, "removed": 0 })));
}
