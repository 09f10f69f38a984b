//! Pulling from a real registry.

use std::fs;

use matchlock_testkit::docker_registry::{DockerRegistry, Options, PASSWORD, USER};
use matchlock_testkit::{Finished, Lab, TestImage, write_program};
use serde_json::{Value, json};

use crate::images::{file, with_shell};
use crate::stock::{Stock, blobs, run, store};

cases![
    a_pulled_image_needs_its_registry_no_more,
    a_new_image_under_an_old_tag_comes_when_it_is_asked_for,
    a_registry_with_tls_and_a_password,
    layers_in_zstd_are_the_same_layers,
    a_mirror_has_the_images_of_another_registry,
];

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.out()).expect("JSON")
}

fn pull(lab: &Lab, args: &[&str]) -> Finished {
    lab.matchlock(&[&["pull"], args].concat()).finish()
}

/// The error, which is the last line but for the hint. Its status is 1, or 125 of a run.
#[track_caller]
pub(crate) fn error(finished: &Finished) -> String {
    assert!([1, 125].contains(&finished.code()), "{}", finished.err());
    let err = finished.err();
    let line = err.lines().find_map(|line| line.strip_prefix("Error: "));
    line.unwrap_or_else(|| panic!("no error: {err}")).to_owned()
}

fn a_pulled_image_needs_its_registry_no_more(_: &Stock) {
    let registry = DockerRegistry::start(Options::default());
    let image = registry.push(&TestImage::Scratch.path(), "some/scratch:1");
    let lab = Lab::new();
    let pulled = pull(&lab, &[&image]).expect(0);
    let out = pulled.out();
    let lines: Vec<&str> = out.lines().collect();
    let [pulling, digest, size] = lines[..] else { panic!("{out}") };
    assert_eq!(pulling, format!("Pulling {image}..."));
    let digest = digest.strip_prefix("Digest: ").expect("a digest");
    assert!(size.starts_with("Size: ") && size.ends_with(" MB"), "{out}");
    let stored = blobs(&lab);
    assert_eq!(stored.len(), 2, "a layer and the index");

    let fetched = || registry.log().matches("GET /v2/some/scratch/blobs/").count() - 2;
    assert_eq!(fetched(), 0, "the configuration and the layer: {}", registry.log());

    // By digest it is the same; so it is under one name more, without a byte more.
    let fixed = format!("{}@{digest}", image.trim_end_matches(":1"));
    let by_digest = json(&pull(&lab, &["--json", &fixed]).expect(0));
    assert_eq!(
        (&by_digest["digest"], &by_digest["image"]),
        (&digest.into(), &fixed.clone().into())
    );
    let alias = pull(&lab, &["-t", "mine", &image]).expect(0);
    assert!(alias.out().contains("\nTagged: mine\n"), "{}", alias.out());
    assert_eq!(blobs(&lab), stored);
    assert_eq!(fetched(), 1, "the configuration again, and no layer: {}", registry.log());

    let host = registry.host();
    drop(registry);
    let hello = |image: &str| run(&lab, image, &[], &[]).finish().expect(0);
    let first = hello(&image);
    assert_eq!(first.out(), "hello from scratch\n");
    assert!(!first.err().contains("Built rootfs"), "from the store: {}", first.err());
    for name in [&image, &fixed, "mine"] {
        assert_eq!(json(&pull(&lab, &["--json", name]).expect(0))["fresh"], false, "{name}");
    }
    let says = format!("building rootfs: cannot connect to {host}: ");
    for asked in [pull(&lab, &["--force", &image]), run(&lab, &image, &["--pull"], &[]).finish()] {
        assert!(error(&asked).starts_with(&says), "{}", asked.err());
    }
    assert_eq!(blobs(&lab), stored, "what was there is there");
}

fn a_new_image_under_an_old_tag_comes_when_it_is_asked_for(stock: &Stock) {
    let lab = Lab::new();
    let archive = lab.home().join("archive.tar");
    let push = |says: &str| {
        file(&with_shell(json!({ "Entrypoint": ["/bin/echo", says] })), &archive);
        stock.registry().push(&archive, "moving:latest")
    };
    let image = push("first");
    let says = |flags: &[&str]| run(&lab, &image, flags, &[]).finish().expect(0);
    assert_eq!(says(&[]).out(), "first\n");
    let (digest, stored) = (json(&pull(&lab, &["--json", &image]))["digest"].clone(), blobs(&lab));
    push("second");
    let cached = says(&[]);
    assert_eq!((cached.out().as_str(), cached.err().contains("Built")), ("first\n", false));
    let new = says(&["--pull"]);
    assert_eq!(new.out(), "second\n");
    assert!(new.err().contains(&format!("Built rootfs from {image} (")), "{}", new.err());
    assert_eq!(blobs(&lab), stored, "the layer was there, and is used again");
    assert_eq!(says(&[]).out(), "second\n");
    // What was before it has no name any more but its digest.
    let old = format!("{}@{}", image.trim_end_matches(":latest"), digest.as_str().expect("text"));
    let listed = lab.matchlock(&["image", "ls", "--json"]).finish().expect(0);
    assert_eq!(json(&listed).as_array().expect("a list").len(), 1);
    assert_eq!(json(&pull(&lab, &["--json", &old]).expect(0))["fresh"], true);
}

fn a_registry_with_tls_and_a_password(_: &Stock) {
    let registry = DockerRegistry::start(Options { tls: true, auth: true });
    let image = registry.push(&TestImage::Scratch.path(), "private:1");
    let lab = Lab::new();
    let docker = lab.home().join(".docker/config.json");
    let settings = lab.home().join(".matchlock/registries.json");
    for file in [&docker, &settings] {
        fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
    }
    let refused = |says: &str| {
        let refused = pull(&lab, &[&image]);
        let error = error(&refused);
        assert!(error.contains(says), "{says}: {}", refused.err());
        assert!(!refused.err().contains(PASSWORD), "{}", refused.err());
        assert_eq!(blobs(&lab), Vec::<String>::new(), "{says}");
    };
    // In the order in which a user meets them.
    refused("certificate");
    let entry = json!({ registry.host(): { "ca": registry.ca() } });
    fs::write(&settings, entry.to_string()).expect("write");
    refused("denied access to");
    let auths = |password: &str| {
        let auth = base64(&format!("{USER}:{password}"));
        json!({ "auths": { registry.host(): { "auth": auth } } })
    };
    fs::write(&docker, auths("wrong").to_string()).expect("write");
    refused("denied access to");
    fs::write(&docker, auths(PASSWORD).to_string()).expect("write");
    let pulled = pull(&lab, &[&image]).expect(0);
    assert!(pulled.err().is_empty(), "{}", pulled.err());
    assert_eq!(blobs(&lab).len(), 2);

    // A helper has it, and is asked for this registry.
    let bin = lab.home().join("bin");
    fs::create_dir_all(&bin).expect("mkdir");
    let answer = json!({ "ServerURL": "", "Username": USER, "Secret": PASSWORD }).to_string();
    let asked = bin.join("asked");
    let script = format!(
        "#!/bin/sh\nread -r server\necho \"$1 $server\" >> '{}'\necho '{answer}'\n",
        asked.display()
    );
    write_program(&bin.join("docker-credential-ours"), &script);
    let helpers = json!({ "credHelpers": { registry.host(): "ours" } });
    fs::write(&docker, helpers.to_string()).expect("write");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("set"));
    let forced = lab.matchlock(&["pull", "--force", &image]).env("PATH", &path).finish();
    assert_eq!(forced.expect(0).out(), pulled.out());
    let asked = fs::read_to_string(asked).expect("it was asked");
    assert_eq!(asked.lines().next(), Some(format!("get {}", registry.host()).as_str()));
    // A directory elsewhere, as `docker` takes it.
    fs::remove_file(&docker).expect("rm");
    refused_without_a_password(&lab, &image);
    fs::write(bin.join("config.json"), auths(PASSWORD).to_string()).expect("write");
    let forced = lab.matchlock(&["pull", "--force", &image]).env("DOCKER_CONFIG", &bin).finish();
    assert_eq!(forced.expect(0).out(), pulled.out());
}

fn refused_without_a_password(lab: &Lab, image: &str) {
    let refused = pull(lab, &["--force", image]);
    assert!(error(&refused).contains("denied access to"), "{}", refused.err());
    assert_eq!(blobs(lab).len(), 2, "what was there is there");
}

/// RFC 4648.
fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for group in text.as_bytes().chunks(3) {
        let bytes = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = bytes[0] << 16 | bytes[1] << 8 | bytes[2];
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            encoded.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    encoded
}

fn layers_in_zstd_are_the_same_layers(stock: &Stock) {
    let path = TestImage::ManyLayers.path();
    let image = stock.registry().push_zstd(&path, "zstd:1");
    let (pulled, imported) = (Lab::new(), Lab::new());
    pull(&pulled, &[&image]).expect(0);
    let archive = fs::File::open(path).expect("open");
    imported.matchlock(&["image", "import", "many"]).stdin(archive).finish().expect(0);
    let names = blobs(&imported);
    assert_eq!((names.len(), &blobs(&pulled)), (129, &names));
    let read = |lab: &Lab, name: &str| fs::read(store(lab).join("blobs").join(name)).expect("read");
    for name in &names {
        assert!(read(&pulled, name) == read(&imported, name), "{name}");
    }
}

fn a_mirror_has_the_images_of_another_registry(stock: &Stock) {
    let lab = Lab::new();
    let registry = stock.registry();
    registry.push(&TestImage::Scratch.path(), "library/mirrored:latest");
    let settings = lab.home().join(".matchlock/registries.json");
    fs::create_dir_all(settings.parent().expect("a parent")).expect("mkdir");
    let mirrors = json!({ "docker.io": { "mirrors": [format!("http://{}", registry.host())] } });
    fs::write(&settings, mirrors.to_string()).expect("write");
    let pulled = pull(&lab, &["mirrored"]).expect(0);
    assert!(pulled.out().starts_with("Pulling mirrored...\nDigest: sha256:"), "{}", pulled.out());
    let other = pull(&lab, &["--json", "docker.io/library/mirrored:latest"]).expect(0);
    assert_eq!(json(&other)["fresh"], false, "the same name, in full");
    let list = json(&lab.matchlock(&["image", "ls", "--json"]).finish().expect(0));
    let rows = list.as_array().expect("a list");
    let rows: Vec<_> = rows.iter().map(|row| (&row["tag"], &row["source"])).collect();
    assert_eq!(rows, [(&json!("mirrored"), &json!("registry"))], "as it was typed");
}
