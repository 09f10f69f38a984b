//! The store on the disk, as other programs and `image` see it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use matchlock_testkit::image_archive::{Format, ImageArchive, LayerTar, Packing};
use matchlock_testkit::{Lab, TestImage};
use serde_json::{Value, json};

use crate::images::bytes;
use crate::stock::{Stock, blobs, store};

cases![
    archives_of_every_form_come_from_a_pipe,
    the_database_has_the_layers_as_other_programs_read_them,
    what_two_images_share_goes_with_the_second,
    gc_removes_what_nothing_needs_and_nothing_else,
];

/// The query of programs that look into the store, with the Python that they are written in.
const QUERY: &str = "import json, sqlite3, sys
rows = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True).execute(
    'SELECT digest, fs_type, size FROM image_layers WHERE scope = ? AND tag = ? ORDER BY ordinal',
    sys.argv[2:])
print(json.dumps(list(rows)))";

/// Digest, kind and size of each layer of an image.
fn layers(lab: &Lab, scope: &str, tag: &str) -> Vec<(String, String, u64)> {
    let database = store(lab).join("metadata.db");
    let mut python = Command::new("python3");
    let output = python.args(["-c", QUERY]).arg(database).args([scope, tag]).output();
    let output = output.expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn json(lab: &Lab, args: &[&str]) -> Value {
    let finished = lab.matchlock(args).finish().expect(0);
    assert_eq!(finished.err(), "", "{args:?}");
    serde_json::from_str(&finished.out()).expect("JSON")
}

/// An image of these layers, each of one file.
fn image(layers: &[&str]) -> ImageArchive {
    let layer = |name: &&str| LayerTar::new().file(name, 0o644, name.as_bytes()).finish();
    ImageArchive::new(layers.iter().map(layer).collect())
}

fn import(lab: &Lab, tag: &str, archive: Vec<u8>) -> Value {
    let imported = lab.matchlock(&["image", "import", "--json", tag]).finish_with(archive);
    serde_json::from_str(&imported.expect(0).out()).expect("JSON")
}

fn archives_of_every_form_come_from_a_pipe(_: &Stock) {
    let lab = Lab::new();
    let image = image(&["one", "two", "three"]);
    let mut stored = Vec::new();
    for format in [Format::Docker, Format::Oci] {
        for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
            let archive = bytes(&image, format, packing);
            let gzip = compressed(&archive);
            for (how, archive) in [("plain", archive), ("gzip", gzip)] {
                let tag = format!("{format:?}-{packing:?}-{how}").to_lowercase();
                assert_eq!(import(&lab, &tag, archive)["layers"], 3, "{tag}");
                stored.push(blobs(&lab));
            }
        }
    }
    assert_eq!(stored[0].len(), 4, "three layers and an index");
    assert!(stored.iter().all(|blobs| *blobs == stored[0]), "the same ones of all: {stored:?}");
    assert_eq!(json(&lab, &["image", "ls", "--json"]).as_array().expect("a list").len(), 12);
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

fn the_database_has_the_layers_as_other_programs_read_them(stock: &Stock) {
    let lab = Lab::new();
    let image = stock.registry().push(&TestImage::ManyLayers.path(), "many:1");
    let first = json(&lab, &["pull", "--json", &image]);
    let rows = layers(&lab, "registry", &image);
    assert_eq!((rows.len(), &first["layers"]), (128, &json!(128)));
    let mut names = Vec::new();
    for (digest, kind, size) in &rows {
        assert!(digest.starts_with("sha256:") && kind == "erofs", "{digest} {kind}");
        let name = format!("{}.{kind}", digest.replace(':', "_"));
        let file = fs::metadata(store(&lab).join("blobs").join(&name)).expect("a blob");
        assert_eq!(file.len(), *size, "{name}");
        names.push(name);
    }
    let index: Vec<_> = blobs(&lab).into_iter().filter(|name| !names.contains(name)).collect();
    assert_eq!(index.len(), 1, "the index: {index:?}");
    let allocated = |name: &String| {
        let blob = fs::metadata(store(&lab).join("blobs").join(name));
        blob.expect("a blob").blocks() * 512
    };
    let bytes: u64 = names.iter().chain(&index).map(allocated).sum();
    assert_eq!(first["bytes"], bytes, "what it takes on the device");
    // Again, and under another name: not a byte more, and the same sizes.
    for args in
        [&["pull", "--json", "--force", &image][..], &["pull", "--json", "-t", "alias", &image]]
    {
        let again = json(&lab, args);
        assert_eq!((&again["digest"], &again["bytes"]), (&first["digest"], &first["bytes"]));
        assert_eq!(layers(&lab, "registry", &image), rows);
        assert_eq!(blobs(&lab).len(), 129);
    }
    assert_eq!(layers(&lab, "local", "alias"), rows);
    let list = json(&lab, &["image", "ls", "--json"]);
    let listed: Vec<_> = list.as_array().expect("a list").iter().map(|row| &row["tag"]).collect();
    assert_eq!(listed, [&json!("alias"), &json!(image)], "local ones first");
}

fn what_two_images_share_goes_with_the_second(_: &Stock) {
    let lab = Lab::new();
    let archive = |layers: &[&str]| bytes(&image(layers), Format::Oci, Packing::Gzip);
    import(&lab, "one", archive(&["base", "upper"]));
    let alone = blobs(&lab);
    import(&lab, "two", archive(&["base", "other"]));
    assert_eq!(blobs(&lab).len(), 5, "one layer shared, two alone, two indexes");
    lab.matchlock(&["image", "rm", "two"]).finish().expect(0);
    assert_eq!(blobs(&lab), alone);
    // Another image under the name of one: that one is gone.
    import(&lab, "one", archive(&["new"]));
    assert_eq!(blobs(&lab).len(), 2);
    lab.matchlock(&["image", "rm", "one"]).finish().expect(0);
    assert_eq!(blobs(&lab), Vec::<String>::new());
    let missing = lab.matchlock(&["image", "rm", "one"]).finish().expect(1);
    assert!(missing.err().starts_with("Error: image not found: \"one\"\n"), "{}", missing.err());
}

fn gc_removes_what_nothing_needs_and_nothing_else(_: &Stock) {
    let lab = Lab::new();
    import(&lab, "kept", bytes(&image(&["kept"]), Format::Docker, Packing::Plain));
    let kept = blobs(&lab);
    // As crashes of others and older versions leave them.
    let dir = store(&lab);
    let lost = format!("blobs/sha256_{}.erofs", "ab".repeat(32));
    let part = format!("ingest/{}.part", "cd".repeat(32));
    for (name, length) in [(lost.as_str(), 8192), (&part, 4096), ("leases/99-0", 0)] {
        fs::write(dir.join(name), vec![1; length]).expect("write");
    }
    let report = json(&lab, &["image", "gc", "--json"]);
    assert_eq!(report, json!({ "bytes": 12_288, "removed": 1 }));
    assert_eq!(blobs(&lab), kept);
    assert_eq!(json(&lab, &["image", "gc", "--json"]), json!({ "bytes": 0, "removed": 0 }));
    // An image that has lost a layer says so, and how to get it back.
    let (digest, ..) = &layers(&lab, "local", "kept")[0];
    let file = format!("blobs/{}.erofs", digest.replace(':', "_"));
    fs::remove_file(dir.join(file)).expect("rm");
    let broken = lab.matchlock(&["run", "--image", "kept", "--", "/kept"]).finish().expect(125);
    let err = broken.err();
    assert!(err.contains(&format!("missing or damaged ({digest})")), "{err}");
    assert!(err.contains("\n  hint: `matchlock pull --force IMAGE`"), "{err}");
}
