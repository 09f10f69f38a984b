use serde_json::json;

use super::*;
use crate::digest::Digest;
use crate::pull::NoProgress;
use crate::samples::{config, files, gzip, store, tar};
use crate::store::{Scope, Source, StoredImage};

type Files = Vec<(String, Vec<u8>)>;

fn layers() -> Vec<Vec<u8>> {
    vec![tar(&[("etc/hostname", b"one")]), tar(&[("srv/data", &[3; 9000])])]
}

fn archive(files: &Files) -> Vec<u8> {
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    tar(&files)
}

/// As `docker save` wrote it before it knew OCI.
fn saved(layers: &[Vec<u8>]) -> Files {
    let names: Vec<_> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["x:1"], "Layers": names}]);
    let mut files: Files = names.into_iter().zip(layers.iter().cloned()).collect();
    files.push(("config.json".into(), config(layers)));
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files
}

fn blob(files: &mut Files, bytes: &[u8], media_type: &str) -> serde_json::Value {
    let digest = Digest::of(bytes);
    files.push((format!("./blobs/sha256/{}", digest.hex()), bytes.to_vec()));
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// An OCI layout; `nested` puts an index between its root and the manifest.
fn layout(layers: &[Vec<u8>], nested: bool) -> Files {
    let mut files = vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let descriptors: Vec<_> = layers
        .iter()
        .map(|bytes| blob(&mut files, &gzip(bytes), "application/vnd.oci.image.layer.v1.tar+gzip"))
        .collect();
    let config = blob(&mut files, &config(layers), "application/vnd.oci.image.config.v1+json");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": descriptors}).to_string();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let mut root = blob(&mut files, manifest.as_bytes(), media_type);
    if nested {
        let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string();
        let media_type = "application/vnd.oci.image.index.v1+json";
        root = blob(&mut files, index.as_bytes(), media_type);
    }
    let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string();
    files.push(("index.json".into(), index.into_bytes()));
    files
}

fn import_into(store: &Store, bytes: &[u8]) -> Result<StoredImage, ImportError> {
    let name = ImageName::local("mine:1", Source::Import).expect("a tag");
    import(store, bytes, &name, &NoProgress).map(|pulled| pulled.image)
}

fn refused(bytes: &[u8]) -> ImportError {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    let error = import_into(&store, bytes).expect_err("refused");
    assert!(store.list().expect("list").is_empty());
    store.gc().expect("gc");
    assert!(files(&store, "blobs").is_empty());
    error
}

#[test]
fn every_form_gives_the_same_image() {
    let zstd = zstd::encode_all(&archive(&saved(&layers()))[..], 1).expect("in memory");
    for bytes in [
        archive(&saved(&layers())),
        archive(&saved(&layers())).into_iter().collect(),
        gzip(&archive(&saved(&layers()))),
        zstd,
        archive(&layout(&layers(), false)),
        gzip(&archive(&layout(&layers(), true))),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(dir.path());
        let image = import_into(&store, &bytes).expect("import");
        assert_eq!((image.scope, image.source), (Scope::Local, Source::Import));
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
        assert_eq!(diff_ids, layers().iter().map(|bytes| Digest::of(bytes)).collect::<Vec<_>>());
        assert_eq!(files(&store, "blobs").len(), 3);
        assert_eq!(store.open_image(&image).expect("open").files.len(), 3);
        let before = files(&store, "blobs");
        import_into(&store, &bytes).expect("again");
        assert_eq!(files(&store, "blobs"), before);
    }
}

#[test]
fn layers_may_be_links_and_compressed_in_the_old_form() {
    let mut files = saved(&layers());
    files[0].1 = gzip(&files[0].1);
    let real = files.remove(1).1;
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(::tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "1/layer.tar", "../shared/layer.tar").expect("in memory");
    files.push(("shared/layer.tar".into(), real));
    let links = builder.into_inner().expect("in memory");
    // Without the two blocks of zeros at its end.
    let mut bytes = links[..links.len() - 1024].to_vec();
    bytes.extend(archive(&files));
    let dir = tempfile::tempdir().expect("a directory");
    let image = import_into(&store(dir.path()), &bytes).expect("import");
    assert_eq!(image.layers.len(), 2);
}

#[test]
fn a_layer_that_occurs_twice_is_stored_once() {
    let twice = vec![layers()[0].clone(), layers()[0].clone()];
    for bytes in [archive(&saved(&twice)), archive(&layout(&twice, false))] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(dir.path());
        let image = import_into(&store, &bytes).expect("import");
        assert_eq!((image.layers.len(), files(&store, "blobs").len()), (2, 2));
        assert_eq!(store.open_image(&image).expect("open").files.len(), 3);
    }
}

#[test]
fn what_is_no_archive_of_an_image_is_refused() {
    for bytes in [&b""[..], b"x", b"no archive, but a text that is long enough", &[0; 4096]] {
        refused(bytes);
    }
    let error = refused(&archive(&vec![("a".into(), b"b".to_vec())]));
    assert!(error.to_string().contains("neither index.json nor manifest.json"), "{error}");
    let two = json!([{"Config": "c"}, {"Config": "d"}]).to_string();
    let error = refused(&archive(&vec![("manifest.json".into(), two.into_bytes())]));
    assert!(error.to_string().contains("several images"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    for (position, name) in [(0, "0/layer.tar"), (2, "config.json")] {
        let mut files = saved(&layers());
        files.remove(position);
        let error = refused(&archive(&files));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn what_was_changed_is_refused() {
    let mut old = saved(&layers());
    old[0].1 = tar(&[("etc/hostname", b"two")]);
    let error = refused(&archive(&old));
    assert!(matches!(error, ImportError::Layer { index: 1, .. }), "{error:?}");
    let good = layout(&layers(), false);
    for position in 1..good.len() - 1 {
        let mut files = good.clone();
        let at = files[position].1.len() / 2;
        files[position].1[at] ^= 1;
        let error = refused(&archive(&files));
        assert!(matches!(error, ImportError::Mismatch(_)), "{position}: {error:?}");
    }
}

#[test]
fn a_truncated_archive_is_refused() {
    let bytes = archive(&saved(&layers()));
    for length in [600, 1500, bytes.len() / 2] {
        refused(&bytes[..length]);
    }
    let packed = gzip(&bytes);
    refused(&packed[..packed.len() - 9]);
}

#[test]
fn paths_that_lead_out_of_the_archive_are_nothing() {
    let mut files = saved(&layers());
    let manifest = json!([{"Config": "../config.json", "Layers": ["0/layer.tar", "1/layer.tar"]}]);
    files[3].1 = manifest.to_string().into_bytes();
    assert!(matches!(refused(&archive(&files)), ImportError::Missing(_)));
    assert_eq!(path::plain(b"./a//b/../c"), Some("a/c".into()));
    assert_eq!(path::plain(b"a/../../b"), None);
    assert_eq!(path::link("x/layer.tar", b"../y/layer.tar"), Some("y/layer.tar".into()));
}
