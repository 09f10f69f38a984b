use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn digest(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string()
}

fn layer_of(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": digest("layer"), "size": 7})
}

fn image(media_type: &str, config: &str, layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": media_type, "layers": layers,
           "config": {"mediaType": config, "digest": digest("config"), "size": 2}})
}

fn index(entries: &[(&str, &str)]) -> Value {
    let entries = entries.iter().map(|(platform, name)| {
        let platform: Vec<_> = platform.split('/').collect();
        json!({"mediaType": OCI_MANIFEST, "digest": digest(name), "size": 2,
               "platform": {"os": platform[0], "architecture": platform[1],
                            "variant": platform.get(2)}})
    });
    let entries: Vec<_> = entries.collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

fn decode(value: &Value, announced: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::decode(value.to_string().as_bytes(), announced)
}

fn refusal(value: &Value, announced: Option<&str>) -> String {
    decode(value, announced).expect_err("refused").to_string()
}

fn chosen(entries: &[(&str, &str)], platform: &str) -> Result<Digest, ManifestError> {
    let Manifest::Index(index) = decode(&index(entries), None)? else { panic!("no index") };
    index.choose(&platform.parse().expect("a platform")).map(|blob| blob.digest)
}

#[test]
fn images_of_both_families_are_read() {
    let layers = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ]
    .map(layer_of);
    for (media_type, config) in [(OCI_MANIFEST, OCI_CONFIG), (DOCKER_MANIFEST, DOCKER_CONFIG)] {
        let announced = format!("{media_type}; charset=utf-8");
        let read = decode(&image(media_type, config, &layers), Some(&announced)).expect("valid");
        let Manifest::Image(read) = read else { panic!("no image") };
        let compressions: Vec<_> = read.layers.iter().map(|layer| layer.compression).collect();
        let (gzip, zstd) = (Compression::Gzip, Compression::Zstd);
        assert_eq!(compressions, [Compression::None, gzip, zstd, gzip]);
        assert_eq!(read.layers[0].blob, Blob { digest: Digest::of(b"layer"), size: 7 });
    }
}

#[test]
fn the_media_type_may_be_said_once_only_but_never_twice_differently() {
    let mut value = image(OCI_MANIFEST, OCI_CONFIG, &[]);
    assert!(decode(&value, None).is_ok());
    assert!(decode(&value, Some("application/octet-stream")).is_ok());
    let error = refusal(&value, Some(DOCKER_MANIFEST));
    assert!(error.contains("was announced as"), "{error}");
    value.as_object_mut().expect("an object").remove("mediaType");
    assert!(decode(&value, Some(OCI_MANIFEST)).is_ok());
    assert!(decode(&value, None).is_ok());
    assert!(decode(&value, Some(OCI_INDEX)).is_err());
    assert!(refusal(&value, Some("text/html")).contains("text/html"));
}

#[test]
fn what_is_an_image_and_an_index_is_neither() {
    let mut value = image(OCI_MANIFEST, OCI_CONFIG, &[]);
    value["manifests"] = json!([]);
    assert!(refusal(&value, None).contains("at once"));
    let twice = format!(r#"{{"schemaVersion":2,"layers":[],{}"#, &value.to_string()[1..]);
    assert!(Manifest::decode(twice.as_bytes(), None).is_err(), "a key may not occur twice");
}

#[test]
fn old_foreign_and_other_things_are_refused_with_words() {
    let old = json!({"schemaVersion": 1, "fsLayers": [], "history": []});
    assert!(refusal(&old, None).contains("schema 1"));
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(refusal(&json!({}), Some(signed)).contains("schema 1"));
    let chart = image(OCI_MANIFEST, "application/vnd.cncf.helm.config.v1+json", &[]);
    assert!(refusal(&chart, None).contains("not a container image"));
    for (media_type, words) in [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "do not distribute"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "do not distribute"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "no layer"),
        ("application/vnd.in-toto+json", "no layer"),
        ("", "no layer"),
    ] {
        let error = refusal(&image(OCI_MANIFEST, OCI_CONFIG, &[layer_of(media_type)]), None);
        assert!(error.contains("layer 1") && error.contains(words), "{error}");
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let many = vec![layer_of("application/vnd.oci.image.layer.v1.tar"); MAX_LAYERS + 1];
    assert!(refusal(&image(OCI_MANIFEST, OCI_CONFIG, &many), None).contains("257 layers"));
    assert!(decode(&image(OCI_MANIFEST, OCI_CONFIG, &many[1..]), None).is_ok());
    let long = vec![b' '; 4 * 1024 * 1024 + 1];
    assert!(matches!(Manifest::decode(&long, None), Err(ManifestError::TooLong(_))));
    assert!(matches!(ImageConfig::decode(&long), Err(ManifestError::TooLong(_))));
    let mut large = image(OCI_MANIFEST, OCI_CONFIG, &[]);
    large["config"]["size"] = json!(MAX_BYTES + 1);
    assert!(matches!(decode(&large, None), Err(ManifestError::TooLong(_))));
}

#[test]
fn the_fitting_platform_is_chosen() {
    let all = [
        ("linux/amd64", "a"),
        ("linux/arm64/v8", "b"),
        ("linux/arm64/v9", "c"),
        ("windows/amd64", "d"),
        ("unknown/unknown", "e"),
    ];
    for (platform, name) in [
        ("linux/amd64", "a"),
        ("linux/arm64", "b"),
        ("linux/arm64/v9", "c"),
        ("windows/amd64", "d"),
    ] {
        assert_eq!(chosen(&all, platform).expect("chosen"), Digest::of(name.as_bytes()));
    }
    // The first of equals, and what every such processor runs.
    let two = [("linux/amd64/v3", "new"), ("linux/amd64", "x"), ("linux/amd64", "y")];
    assert_eq!(chosen(&two, "linux/amd64").expect("chosen"), Digest::of(b"x"));
    let error = chosen(&all, "linux/riscv64").expect_err("none").to_string();
    assert!(error.contains("linux/riscv64") && error.contains("linux/arm64/v8"), "{error}");
    assert!(chosen(&[], "linux/amd64").is_err());
}

#[test]
fn an_index_within_an_index_is_not_followed_by_choice() {
    let nested = json!({"schemaVersion": 2, "manifests":
        [{"mediaType": OCI_INDEX, "digest": digest("inner"), "size": 2}]});
    let Manifest::Index(index) = decode(&nested, None).expect("valid") else { panic!("no index") };
    assert!(matches!(index.choose(&Platform::host()), Err(ManifestError::Nested)));
    assert_eq!(index.only_index().map(|blob| blob.digest), Some(Digest::of(b"inner")));
}

#[test]
fn a_configuration_is_read_with_what_go_writes_for_nothing() {
    let value = json!({"architecture": "arm64", "os": "linux", "variant": "v8", "config":
        {"Env": ["A=1=2", "=bad", "B"], "Cmd": null, "Entrypoint": ["/init"], "User": "",
         "WorkingDir": "srv", "Volumes": {"/x": {}}},
        "rootfs": {"type": "layers", "diff_ids": [digest("layer")]}, "history": null});
    let text = value.to_string();
    let config = ImageConfig::decode(text.as_bytes()).expect("valid");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.runtime.env, [pair("A", "1=2"), pair("B", "")]);
    assert_eq!(config.runtime.working_dir.as_deref(), Some("/srv"));
    assert_eq!((config.runtime.user.as_ref(), config.runtime.cmd.len()), (None, 0));
    assert_eq!(config.runtime.raw, text);
    assert!(config.runs_on(&"linux/arm64".parse().expect("a platform")).is_ok());
    let wanted = "linux/amd64".parse().expect("a platform");
    let error = ImageConfig::decode(text.as_bytes()).expect("valid").runs_on(&wanted);
    let error = error.expect_err("another machine").to_string();
    assert!(error.contains("linux/arm64/v8") && error.contains("linux/amd64"), "{error}");
}

#[test]
fn a_configuration_that_cannot_be_is_refused() {
    let with = |config: Value| json!({"config": config, "rootfs": {"type": "layers"}}).to_string();
    assert!(ImageConfig::decode(with(json!(null)).as_bytes()).is_ok());
    for config in [
        json!({"Env": ["A=\0"]}),
        json!({"Cmd": ["\0"]}),
        json!({"User": "\0"}),
        json!({"WorkingDir": "/\0"}),
        json!({"Cmd": "sh"}),
    ] {
        assert!(ImageConfig::decode(with(config.clone()).as_bytes()).is_err(), "{config}");
    }
    assert!(ImageConfig::decode(br#"{"rootfs":{"type":"other"}}"#).is_err());
    let fewer =
        image(OCI_MANIFEST, OCI_CONFIG, &[layer_of("application/vnd.oci.image.layer.v1.tar")]);
    let Ok(Manifest::Image(manifest)) = decode(&fewer, None) else { panic!("no image") };
    let config = ImageConfig::decode(with(json!(null)).as_bytes()).expect("valid");
    assert!(config.matches(&manifest, &Platform::host()).is_err());
}

#[test]
fn platforms_are_read_and_written() {
    for text in ["linux/amd64", "linux/arm/v7"] {
        assert_eq!(text.parse::<Platform>().expect("valid").to_string(), text);
    }
    for bad in ["", "linux", "linux/", "a/b/c/d", "linux/amd 64"] {
        assert!(bad.parse::<Platform>().is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_json_panics(text in r#"\{("(schemaVersion|mediaType|layers|manifests|config|digest)":(2|"x"|\[\]|\{\}),?){0,6}\}"#) {
        let _ = Manifest::decode(text.as_bytes(), None);
        let _ = ImageConfig::decode(text.as_bytes());
    }
}
