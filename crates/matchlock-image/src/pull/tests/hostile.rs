//! Registries that send something else than they say.

use super::*;
use crate::layer::LayerError;

/// The one layer of an image whose registry has other bytes for it.
fn tampered(change: impl Fn(Vec<u8>) -> Vec<u8>) -> PullError {
    let lab = Lab::new();
    let archives = archives(2);
    publish(&lab.registry, "v1", &archives);
    let digest = layer_digests(&archives)[1];
    lab.registry.tamper(&digest.to_string(), &change(gzip(&archives[1])));
    let error = lab.pull("v1").expect_err("refused");
    assert!(lab.store.list().expect("list").is_empty());
    assert_eq!(files(&lab.store, "ingest"), []);
    lab.assert_empty();
    error
}

#[test]
fn other_bytes_are_refused() {
    let flipped = |mut bytes: Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        bytes
    };
    assert!(matches!(tampered(flipped), PullError::DigestMismatch { .. }));
    let other = |bytes: Vec<u8>| {
        let mut other = gzip(&tar(&[("other", b"x")]));
        // An empty member makes the length right.
        while other.len() < bytes.len() {
            other.push(0);
        }
        other
    };
    let error = tampered(other);
    assert!(matches!(error, PullError::DigestMismatch { .. }), "{error:?}");
}

#[test]
fn fewer_and_more_bytes_are_refused() {
    let shorter = |bytes: Vec<u8>| bytes[..bytes.len() - 100].to_vec();
    assert!(matches!(tampered(shorter), PullError::Truncated { .. }));
    assert!(matches!(tampered(|_| Vec::new()), PullError::Truncated { got: 0, .. }));
    let longer = |bytes: Vec<u8>| [bytes, vec![0; 100]].concat();
    assert!(matches!(tampered(longer), PullError::Size { .. }));
}

fn refused(config: &[u8], layers: &[(&str, Vec<u8>)]) -> PullError {
    let lab = Lab::new();
    publish_blobs(&lab.registry, "v1", config, layers);
    let error = lab.pull("v1").expect_err("refused");
    lab.assert_empty();
    error
}

#[test]
fn another_archive_than_the_configuration_names_is_refused() {
    let archives = archives(2);
    let layers = [(GZIP, gzip(&archives[0]))];
    let error = refused(&config(&archives[1..]), &layers);
    let digest = Digest::of(&layers[0].1);
    assert!(
        matches!(&error, PullError::Layer { digest: named, source: LayerError::Digest { .. } }
            if *named == digest),
        "{error:?}"
    );
    assert!(matches!(refused(&config(&archives), &layers), PullError::Manifest(_)));
}

#[test]
fn another_compression_than_the_media_type_says_is_refused() {
    let archives = archives(1);
    for media_type in
        ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+zstd"]
    {
        let error = refused(&config(&archives), &[(media_type, gzip(&archives[0]))]);
        assert!(matches!(error, PullError::Layer { .. }), "{error:?}");
    }
    let error = refused(&config(&archives), &[("text/plain", gzip(&archives[0]))]);
    assert!(matches!(error, PullError::Manifest(_)), "{error:?}");
}

#[test]
fn what_is_no_archive_is_refused() {
    let nothing = vec![b"not an archive, whatever its digest".to_vec()];
    let error = refused(&config(&nothing), &[(GZIP, gzip(&nothing[0]))]);
    assert!(matches!(error, PullError::Layer { .. }), "{error:?}");
}

#[test]
fn a_bomb_is_refused() {
    let lab = Lab::new();
    publish(&lab.registry, "v1", &[tar(&[("zeros", &[0; 3_000_000])])]);
    let limits = Limits { ratio_free: 1_000_000, ..Limits::default() };
    let options = PullOptions { limits, ..PullOptions::default() };
    let error = pull_with(&lab.store, &lab.reference("v1"), &options, &NoProgress);
    let error = error.expect_err("refused");
    assert!(matches!(error, PullError::Layer { source: LayerError::Bomb(_), .. }), "{error:?}");
    lab.assert_empty();
}

#[test]
fn a_configuration_that_was_changed_is_refused() {
    let lab = Lab::new();
    let archives = archives(1);
    publish(&lab.registry, "v1", &archives);
    let config = config(&archives);
    let text = String::from_utf8(config.clone()).expect("text");
    let evil = text.replace("/srv", "/etc");
    lab.registry.tamper(&Digest::of(&config).to_string(), evil.as_bytes());
    let error = lab.pull("v1").expect_err("refused");
    assert!(matches!(error, PullError::DigestMismatch { .. }), "{error:?}");
    lab.assert_empty();
}

#[test]
fn what_is_not_there_is_said() {
    let lab = Lab::new();
    let error = lab.pull("missing").expect_err("nothing there");
    assert!(matches!(error, PullError::Registry(_)), "{error:?}");
    assert!(error.to_string().contains("does not exist"), "{error}");
    lab.assert_empty();
}

#[test]
fn an_old_image_stays_when_the_new_one_is_refused() {
    let lab = Lab::new();
    let archives = archives(2);
    publish(&lab.registry, "v1", &archives[..1]);
    let old = lab.pull("v1").expect("pull").image;
    publish(&lab.registry, "v1", &archives);
    lab.registry.tamper(&layer_digests(&archives)[1].to_string(), b"other");
    pull_with(&lab.store, &lab.reference("v1"), &force(), &NoProgress).expect_err("refused");
    let found = lab.pull("v1").expect("from the store").image;
    assert_eq!(found.digest, old.digest);
    lab.store.open_image(&found).expect("whole");
}
