//! Registries that have not what is wanted, or something else: clear words, and nothing stored.

use matchlock_testkit::image_archive::{LayerTar, architecture};
use matchlock_testkit::registry::{Auth, FakeRegistry, Grants, Reply};
use matchlock_testkit::{Lab, TestImage};
use serde_json::json;

use crate::registries::error;
use crate::stock::{Stock, blobs, names, store};

cases![
    what_a_registry_has_not_is_said,
    what_is_not_what_it_should_be_is_refused,
    credentials_stay_with_their_registry,
];

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[track_caller]
fn refused(lab: &Lab, image: &str, says: &str) {
    let finished = lab.matchlock(&["pull", image]).finish();
    let error = error(&finished);
    assert!(error.starts_with("building rootfs: ") && error.contains(says), "{image}: {error}");
    assert_eq!(finished.out(), format!("Pulling {image}...\n"));
    assert_eq!(blobs(lab), Vec::<String>::new(), "{image}");
    for directory in ["ingest", "leases"] {
        assert_eq!(names(&store(lab).join(directory)), Vec::<String>::new(), "{image}");
    }
    let list = lab.matchlock(&["image", "ls", "--json"]).finish().expect(0);
    assert_eq!(list.out(), "[]\n", "{image}");
}

fn what_a_registry_has_not_is_said(stock: &Stock) {
    let lab = Lab::new();
    let registry = stock.registry();
    let host = registry.host();
    registry.push(&TestImage::Scratch.path(), "scratch:1");
    refused(&lab, &format!("{host}/scratch:none"), &format!("{host}/scratch has no tag \"none\""));
    let absent = format!("{host}/absent:1");
    refused(&lab, &absent, &format!("{host}/absent has no tag \"1\""));
    let digest = format!("{host}/scratch@sha256:{}", "0".repeat(64));
    refused(&lab, &digest, "does not exist");
    let run = lab.matchlock(&["run", "--image", &absent, "--", "true"]).finish();
    assert!(error(&run).starts_with("building rootfs: "), "{}", run.err());
    assert!(run.err().contains("\n  hint: check the name and the tag"), "{}", run.err());
}

/// Puts an image of one layer in, as `tag`; the digests of its layer and its configuration.
fn put(registry: &FakeRegistry, tag: &str, media_type: &str) -> [String; 2] {
    let layer = LayerTar::new().file("file", 0o644, tag.as_bytes()).finish();
    let layer_digest = registry.put_blob(&layer);
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    });
    let config = config.to_string();
    let config_digest = registry.put_blob(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config_digest, "size": config.len() },
        "layers": [{ "mediaType": media_type, "digest": layer_digest, "size": layer.len() }],
    });
    registry.put_manifest("some/image", tag, MANIFEST, manifest.to_string().as_bytes());
    [layer_digest, config_digest]
}

fn what_is_not_what_it_should_be_is_refused(_: &Stock) {
    let lab = Lab::new();
    let registry = FakeRegistry::plain();
    let image = |tag: &str| format!("{}/some/image:{tag}", registry.address());
    // That it can be had, first.
    put(&registry, "good", LAYER);
    let other = Lab::new();
    other.matchlock(&["pull", &image("good")]).finish().expect(0);

    let [layer, _] = put(&registry, "tampered", LAYER);
    let bytes = LayerTar::new().file("file", 0o644, b"tempered").finish();
    registry.tamper(&layer, &bytes);
    refused(&lab, &image("tampered"), "was asked for; what came is");
    let [_, config] = put(&registry, "config", LAYER);
    registry.tamper(&config, b"{}");
    refused(&lab, &image("config"), "");
    put(&registry, "type", "application/vnd.example.layer");
    refused(&lab, &image("type"), "application/vnd.example.layer");

    let index = |architecture: &str, digest: &str| {
        let platform = json!({ "os": "linux", "architecture": architecture });
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            { "mediaType": MANIFEST, "digest": digest, "size": 2, "platform": platform },
        ]})
    };
    let digest = format!("sha256:{}", "1".repeat(64));
    let foreign = index("s390x", &digest).to_string();
    registry.put_manifest("some/image", "foreign", INDEX, foreign.as_bytes());
    refused(&lab, &image("foreign"), "s390x");
    registry.put_manifest("some/image", "nonsense", MANIFEST, b"{}");
    refused(&lab, &image("nonsense"), "");
    registry.put_manifest("some/image", "page", "text/html", b"<html>");
    refused(&lab, &image("page"), "\"text/html\"");
    let large = vec![b' '; 5 << 20];
    registry.put_manifest("some/image", "large", MANIFEST, &large);
    refused(&lab, &image("large"), "more than");
    registry.script(|request| {
        request.path().ends_with("/loop").then(|| Reply::redirect(&request.target))
    });
    refused(&lab, &image("loop"), "redirects too often");
}

fn credentials_stay_with_their_registry(_: &Stock) {
    let lab = Lab::new();
    let (registry, thief) = (FakeRegistry::plain(), FakeRegistry::plain());
    let host = registry.address().to_string();
    let image = format!("{host}/some/image:1");
    put(&registry, "1", LAYER);
    let docker = lab.home().join(".docker/config.json");
    std::fs::create_dir_all(docker.parent().expect("a parent")).expect("mkdir");
    // `user:only-for-one`.
    let auths = json!({ "auths": { &host: { "auth": "dXNlcjpvbmx5LWZvci1vbmU=" } } });
    std::fs::write(&docker, auths.to_string()).expect("write");
    let grants = Grants::Password { user: "user".into(), password: "only-for-one".into() };
    // A realm elsewhere gets no password.
    let realm = format!("http://localhost:{}/token", thief.address().port());
    registry.require(Auth::Bearer { realm, grants: grants.clone() });
    refused(&lab, &image, "");
    // A realm of its own does.
    registry.require(Auth::Bearer { realm: format!("http://{host}/token"), grants });
    lab.matchlock(&["pull", &image]).finish().expect(0);
    // A redirect of a blob to elsewhere does not take it along.
    let elsewhere = format!("localhost:{}", thief.address().port());
    registry.script(move |request| {
        let blob = request.path().contains("/blobs/");
        blob.then(|| Reply::redirect(&format!("http://{elsewhere}{}", request.target)))
    });
    let [layer, config] = put(&thief, "1", LAYER);
    lab.matchlock(&["image", "rm", &image]).finish().expect(0);
    lab.matchlock(&["pull", &image]).finish().expect(0);
    let requests = thief.requests();
    for digest in [layer, config] {
        assert!(requests.iter().any(|request| request.target.ends_with(&digest)), "{digest}");
    }
    for request in requests {
        assert_eq!(request.header("authorization"), None, "{}", request.target);
    }
}
