//! Everything that our writer of EROFS can write, as the kernel of a real guest reads it.

use std::collections::BTreeSet;
use std::fs;

use matchlock_core::image::digest::Digest;
use matchlock_core::image::erofs::BlobWriter;
use matchlock_core::image::fixture;
use matchlock_core::image::layer::Layer;
use matchlock_core::image::manifest::{ImageConfig, Platform};
use matchlock_core::image::store::{ImageName, NewImage, Source, Store};

use crate::stock::{Stock, program, run, store};

cases![the_kernel_reads_all_that_is_written];

/// The directories of the fixture.
const ROOTS: [&str; 6] = ["/files", "/modes", "/special", "/links", "/xattrs", "/directories"];

fn the_kernel_reads_all_that_is_written(stock: &Stock) {
    let lab = stock.lab();
    let expected = add_fixture(&Store::open(&store(&lab)).expect("a store"));
    let script = fs::read_to_string(program("fixture.py")).expect("read");
    let argv: Vec<&str> = ["python3", "-c", &script].into_iter().chain(ROOTS).collect();
    // Privileged, since `trusted` attributes are for nobody else.
    let seen = run(&lab, "fixture:1", &["--privileged"], &argv).finish().expect(0).out();
    let seen: BTreeSet<&str> = seen.lines().collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert!(expected.len() > 10_000, "{} files", expected.len());
    let missing: Vec<_> = expected.difference(&seen).take(20).collect();
    let other: Vec<_> = seen.difference(&expected).take(20).collect();
    assert!(missing.is_empty() && other.is_empty(), "missing: {missing:#?}\nelse: {other:#?}");
}

/// Stores Debian's image with the fixture as one more layer; what a guest should see of that.
fn add_fixture(store: &Store) -> Vec<String> {
    let debian = store.find_tag("debian:local").expect("read").expect("it is there");
    let mut blob = BlobWriter::new(store.new_blob().expect("a file")).expect("a blob");
    let tree = fixture::small(&mut blob).expect("written").tree;
    let file = blob.finish(&tree).expect("written");
    let listing = fixture::listing(&tree, &[&file]).expect("read");
    let layer = Layer { diff_id: Digest::of(b"fixture"), file, tree, unpacked: 0 };
    let mut diff_ids: Vec<Digest> = debian.layers.iter().map(|layer| layer.diff_id).collect();
    diff_ids.push(layer.diff_id);
    let lease = store.lease(diff_ids.iter().copied()).expect("a lease");
    store.commit_layer(&lease, &layer).expect("stored");
    let config = ImageConfig { platform: Platform::host(), diff_ids, runtime: debian.config };
    let names = [ImageName::local("fixture:1", Source::Import).expect("a name")];
    let image = NewImage { names: &names, digest: Digest::of(b"image"), config: &config };
    store.commit_image(&lease, &image).expect("stored");
    // The root is of all layers; whiteouts have done their work.
    let is_seen = |line: &String| !line.ends_with("] ") && !line.ends_with("/opaque/whiteout");
    let opaque = format!("trusted.overlay.opaque={},", Digest::of(b"y").hex());
    listing.into_iter().filter(is_seen).map(|line| line.replace(&opaque, "")).collect()
}
