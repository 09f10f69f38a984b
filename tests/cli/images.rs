//! `pull`, `image` and `build` as far as they need no machine and no registry.

use std::fs;

use matchlock_testkit::registry::{Auth, FakeRegistry};
use matchlock_testkit::{Finished, Invocation, Lab};
use serde_json::Value;

use crate::archives::{docker_archive, image};

/// Runs it and checks the error: what is on the line, and that the hint has this in it.
#[track_caller]
fn assert_error(invocation: Invocation, says: &str, hint: &str) -> Finished {
    let shown = format!("{:?}", invocation.arguments());
    let is_run = invocation.arguments().first().is_some_and(|word| word == "run");
    let finished = invocation.finish();
    assert_eq!(finished.code(), if is_run { 125 } else { 1 }, "{shown}: {}", finished.err());
    let err = finished.err();
    let error = err.lines().find_map(|line| line.strip_prefix("Error: "));
    assert!(error.is_some_and(|error| error.starts_with(says)), "{shown}: {err}");
    let hinted = err.lines().find_map(|line| line.strip_prefix("  hint: ")).unwrap_or_default();
    assert!(hinted.contains(hint) && hint.is_empty() == hinted.is_empty(), "{shown}: {err}");
    finished
}

fn import(lab: &Lab, tag: &str) -> Finished {
    let config = r#"{"Cmd":["/greet"],"Env":["A=1"]}"#;
    let archive = docker_archive("saved:1", config);
    lab.matchlock(&["image", "import", tag]).piped().finish_with(archive)
}

/// Names of the files that an image store has for content.
fn blobs(lab: &Lab) -> Vec<String> {
    let store = lab.home().join(".cache/matchlock/images");
    let entries = ["blobs", "ingest"].map(|dir| fs::read_dir(store.join(dir)));
    let names = entries.into_iter().flatten().flatten().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn an_empty_store_has_a_heading_and_an_empty_list() {
    let lab = Lab::new();
    for ls in ["ls", "list"] {
        let table = lab.matchlock(&["image", ls]).finish().expect(0);
        assert_eq!((table.out(), table.err()), ("TAG  SOURCE  SIZE  CREATED\n".into(), "".into()));
        assert_eq!(lab.matchlock(&["image", ls, "--json"]).finish().expect(0).out(), "[]\n");
    }
    let gc = lab.matchlock(&["image", "gc"]).finish().expect(0);
    assert_eq!((gc.out(), gc.err()), ("Removed 0 unreferenced blobs\n".into(), "".into()));
    let gc = lab.matchlock(&["image", "gc", "--json"]).finish().expect(0);
    assert_eq!(gc.out(), "{\"bytes\":0,\"removed\":0}\n");
    for rm in ["rm", "remove"] {
        let says = "image not found: \"nothing:1\"";
        assert_error(lab.matchlock(&["image", rm, "nothing:1"]), says, "image ls");
    }
}

#[test]
fn an_import_is_listed_tagged_and_removed() {
    let lab = Lab::new();
    let imported = import(&lab, "mine:1").expect(0);
    assert_eq!(imported.err(), "Importing mine:1 from stdin...\n");
    let out = imported.out();
    let size = out.strip_prefix("Imported: mine:1\nLayers: 1\nSize: ").expect("three lines");
    assert!(size.ends_with(" MB\n"), "{out}");

    let table = lab.matchlock(&["image", "ls"]).finish().expect(0).out();
    let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    let [tag, source, _, "MB", date, time] = row[..] else { panic!("{table}") };
    assert_eq!((tag, source), ("mine:1", "import"));
    assert_eq!((date.len(), time.len()), (10, 8), "{table}");

    // A name of something that is here needs no registry, whatever its spelling.
    let pulled = lab.matchlock(&["pull", "-t", "other", "docker.io/library/mine:1"]).finish();
    let out = pulled.expect(0).out();
    let lines: Vec<&str> = out.lines().collect();
    let [pulling, tagged, digest, size] = lines[..] else { panic!("{out}") };
    assert_eq!(pulling, "Pulling docker.io/library/mine:1...");
    assert_eq!(tagged, "Tagged: other");
    assert!(digest.starts_with("Digest: sha256:") && size.starts_with("Size: "), "{out}");

    let json = lab.matchlock(&["image", "ls", "--json"]).finish().expect(0).out();
    let list: Value = serde_json::from_str(&json).expect("JSON");
    let images = list.as_array().expect("a list");
    let tags: Vec<_> = images.iter().map(|image| [&image["tag"], &image["source"]]).collect();
    assert_eq!(tags, [["mine:1", "import"], ["other", "tag"]]);
    assert_eq!(images[0]["digest"], images[1]["digest"], "one image under two names");
    let stored = blobs(&lab);

    let removed = lab.matchlock(&["image", "rm", "mine:1"]).finish().expect(0);
    assert_eq!(removed.out(), "Removed mine:1\n");
    assert_eq!(blobs(&lab), stored, "the other name needs them");
    let removed = lab.matchlock(&["image", "rm", "--json", "other:latest"]).finish().expect(0);
    assert_eq!(removed.out(), "{\"removed\":\"other:latest\"}\n");
    assert_eq!(blobs(&lab), Vec::<String>::new());
}

#[test]
fn json_is_all_that_an_import_and_a_pull_print() {
    let lab = Lab::new();
    let archive = docker_archive("saved:1", "{}");
    let imported = lab.matchlock(&["image", "import", "--json", "mine"]).piped();
    let imported = imported.finish_with(archive).expect(0);
    assert_eq!(imported.err(), "");
    let image: Value = serde_json::from_str(&imported.out()).expect("JSON");
    assert_eq!((&image["tag"], &image["layers"]), (&"mine".into(), &1.into()));
    let pulled = lab.matchlock(&["pull", "--json", "mine"]).finish().expect(0);
    assert_eq!(pulled.err(), "");
    let pulled: Value = serde_json::from_str(&pulled.out()).expect("JSON");
    assert_eq!((&pulled["image"], &pulled["fresh"]), (&"mine".into(), &false.into()));
    assert_eq!(pulled["digest"], image["digest"]);
    assert_eq!(pulled["bytes"], image["bytes"]);
    // `build` of something that is no directory prepares an image.
    let built = lab.matchlock(&["build", "--json", "mine"]).finish().expect(0);
    assert_eq!(serde_json::from_str::<Value>(&built.out()).expect("JSON"), pulled);
}

#[test]
fn what_is_no_archive_is_refused_and_nothing_is_stored() {
    let lab = Lab::new();
    let whole = docker_archive("saved:1", "{}");
    let middle = whole.len() / 2;
    let mut changed = whole.clone();
    let at = whole.windows(5).position(|window| window == b"hello").expect("the layer's content");
    changed[at] = b'j';
    let cases = [
        ("nothing", Vec::new()),
        ("a text", b"not an archive at all\n".repeat(100)),
        ("half of it", whole[..middle].to_vec()),
        ("broken gzip", [&[0x1f, 0x8b, 8, 0][..], &[0xa5; 600]].concat()),
        ("another layer", changed),
    ];
    for (what, bytes) in cases {
        let finished = lab.matchlock(&["image", "import", "mine"]).piped().finish_with(bytes);
        let err = finished.err();
        assert_eq!(finished.code(), 1, "{what}: {err}");
        assert_eq!(finished.out(), "", "{what}");
        let mut lines = err.lines();
        assert_eq!(lines.next(), Some("Importing mine from stdin..."), "{what}: {err}");
        let error = lines.next().unwrap_or_default();
        assert!(error.starts_with("Error: importing image: "), "{what}: {err}");
        assert_eq!(blobs(&lab), Vec::<String>::new(), "{what}");
        let list = lab.matchlock(&["image", "ls", "--json"]).finish().expect(0);
        assert_eq!(list.out(), "[]\n", "{what}");
    }
}

#[test]
fn arguments_of_images() {
    let lab = Lab::new();
    let cases: [(&[&str], &str, &str); 14] = [
        (&["pull"], "accepts 1 arg(s), received 0", "--help"),
        (&["pull", "a", "b"], "accepts 1 arg(s), received 2", "--help"),
        (&["pull", "-t", "host", "a"], "invalid tag \"host\"", ""),
        (&["pull", "-t", "a b", "a"], "invalid tag \"a b\"", ""),
        (&["image", "ls", "a"], "accepts 0 arg(s), received 1", "--help"),
        (&["image", "rm"], "accepts 1 arg(s), received 0", "--help"),
        (&["image", "import"], "accepts 1 arg(s), received 0", "--help"),
        (&["image", "import", "host"], "invalid tag \"host\"", ""),
        (&["image", "frobnicate"], "unknown command \"frobnicate\"", "--help"),
        (&["build"], "accepts 1 arg(s), received 0", "--help"),
        (&["build", "."], "-t/--tag is required when building from a Dockerfile", "-t TAG"),
        (&["build", "-f", "F", "x"], "-t/--tag is required when building", "-t TAG"),
        (&["build", "-t", "a", "/no/where"], "build context \"/no/where\" is not a directory", ""),
        (&["build", "-t", "a", "/proc"], "Dockerfile not found: /proc/Dockerfile", "-f"),
    ];
    for (args, says, hint) in cases {
        let finished = assert_error(lab.matchlock(args), says, hint);
        assert_eq!(finished.out(), "", "{args:?}");
    }
    for command in ["image", "volume"] {
        let help = lab.matchlock(&[command]).finish();
        assert!(help.out().contains("Usage: matchlock"), "{command}: {}", help.out());
        assert_eq!(help.code(), 0, "{command}");
    }
}

#[test]
fn names_that_are_no_references_get_nowhere() {
    let lab = Lab::new();
    for name in ["Upper/Case", "a//b", "a:b:c", "a@sha256:12", "-", "\x1b[2J", ""] {
        let says = format!("building rootfs: invalid image reference {name:?}: ");
        let pulled = assert_error(lab.matchlock(&["pull", "--", name]), &says, "REPOSITORY");
        assert!(!pulled.err().contains('\x1b'));
        if !name.is_empty() {
            let flag = format!("--image={name}");
            assert_error(lab.matchlock(&["run", &flag, "--", "true"]), &says, "REPOSITORY");
        }
    }
    assert!(blobs(&lab).is_empty());
}

#[test]
fn a_registry_that_is_not_there() {
    let lab = Lab::new();
    // Bound and not listening: nobody else can have it, and nobody answers.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    );
    let socket = socket.expect("socket");
    let any = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
    rustix::net::bind(&socket, &any).expect("bind");
    let address = rustix::net::getsockname(&socket).expect("name");
    let address = std::net::SocketAddrV4::try_from(address).expect("IPv4");
    let image = format!("{address}/some/image:1");
    let says = format!("building rootfs: cannot connect to {address}: ");
    let pulled = assert_error(lab.matchlock(&["pull", &image]), &says, "need no network");
    assert_eq!(pulled.out(), format!("Pulling {image}...\n"));
    let run = lab.matchlock(&["run", "--image", &image, "--", "true"]);
    assert_eq!(assert_error(run, &says, "need no network").out(), "");
    // By the environment too, and `--pull` goes past what is here.
    let run = lab.matchlock(&["run", "--", "true"]).env("MATCHLOCK_RUN_IMAGE", &image);
    assert_error(run, &says, "need no network");
    import(&lab, &image).expect(0);
    lab.matchlock(&["pull", &image]).finish().expect(0);
    assert_error(lab.matchlock(&["pull", "--force", &image]), &says, "need no network");
    let run = lab.matchlock(&["run", "--pull", "--image", &image, "--", "true"]);
    assert_error(run, &says, "need no network");
}

#[test]
fn settings_of_registries_that_cannot_be_read_are_named() {
    let lab = Lab::new();
    let file = lab.home().join(".matchlock/registries.json");
    fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
    fs::write(&file, "{").expect("write");
    let says = format!("building rootfs: the settings in {} cannot be used: ", file.display());
    assert_error(lab.matchlock(&["pull", "registry.example/a"]), &says, "");
    // What is here needs no settings.
    import(&lab, "registry.example/a").expect(0);
    lab.matchlock(&["pull", "registry.example/a"]).finish().expect(0);
}

#[test]
fn what_can_be_checked_without_the_image_is_checked_before_it_is_fetched() {
    let lab = Lab::new();
    let run = |flags: &[&str]| {
        let image = ["run", "--image", "registry.invalid/a"];
        let args: Vec<&str> = image.iter().chain(flags).chain(&["--", "true"]).copied().collect();
        lab.matchlock(&args)
    };
    let cases: [(&[&str], &str, &str); 6] = [
        (&["--mtu", "0"], "--mtu must be > 0", "1500"),
        (&["--disk", "x"], "invalid disk mount \"x\": ", ""),
        (&["--disk", "@none:/d"], "invalid disk mount \"@none:/d\": named volume not found", "ls"),
        (&["--secret", "A=b"], "invalid secret ", ""),
        (&["-e", "=x"], "invalid environment variable: ", "KEY"),
        (&["-p", "0"], "invalid port-forward specification: ", ""),
    ];
    for (flags, says, hint) in cases {
        assert_error(run(flags), says, hint);
    }
    assert!(!lab.home().join(".cache/matchlock/images").exists(), "the store was not opened");
}

#[test]
fn a_registry_that_says_nothing_is_given_up_in_time() {
    let lab = Lab::new();
    // Connections are made by the kernel, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let image = format!("{}/a", silent.local_addr().expect("bound"));
    let says = "building rootfs: the image did not come within 0.5 s";
    let pull = lab.matchlock(&["pull", "--timeout", "500ms", &image]);
    assert_error(pull, says, "--timeout");
    let run = ["run", "--image", &image, "--pull-timeout", "500ms", "true"];
    assert_error(lab.matchlock(&run), says, "--pull-timeout");
}

#[test]
fn an_image_that_says_nothing_needs_a_command() {
    let lab = Lab::new();
    let archive = docker_archive("saved:1", "{}");
    lab.matchlock(&["image", "import", "bare"]).piped().finish_with(archive).expect(0);
    let says = "command required (or use --rm=false to start without a command)";
    assert_error(lab.matchlock(&["run", "--image", "bare"]), says, "COMMAND");
    let cleared = docker_archive("saved:1", r#"{"Entrypoint":["/entry"]}"#);
    lab.matchlock(&["image", "import", "entry"]).piped().finish_with(cleared).expect(0);
    let run = lab.matchlock(&["run", "--image", "entry", "--entrypoint", ""]);
    assert_error(run, says, "COMMAND");
}

/// An image of one layer at a registry: its name, and the digest of its manifest.
fn publish(registry: &FakeRegistry) -> (String, String) {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let (layer, config) = image("{}");
    let [layer_digest, config_digest] =
        [&layer[..], config.as_bytes()].map(|bytes| registry.put_blob(bytes));
    let descriptor = |kind: &str, digest: &str, size: usize| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("config.v1+json", &config_digest, config.len()),
        "layers": [descriptor("layer.v1.tar", &layer_digest, layer.len())],
    });
    let digest = registry.put_manifest("team/app", "1", MANIFEST, manifest.to_string().as_bytes());
    let name = format!("{}/team/app:1", registry.address());
    (name, digest)
}

#[test]
fn what_is_missing_of_an_image_is_fetched_again_or_told() {
    let lab = Lab::new();
    let registry = FakeRegistry::plain();
    let (name, digest) = publish(&registry);
    let damage = || {
        for blob in blobs(&lab) {
            let blob = lab.home().join(".cache/matchlock/images/blobs").join(blob);
            fs::remove_file(blob).expect("remove");
        }
    };
    lab.matchlock(&["pull", &name]).finish().expect(0);
    damage();
    let pulled = lab.matchlock(&["pull", &name]).finish().expect(0);
    assert!(pulled.out().contains(&format!("\nDigest: {digest}\n")), "{}", pulled.out());
    assert_eq!(blobs(&lab).len(), 2, "a layer and an index");

    import(&lab, "mine:1").expect(0);
    damage();
    let says = "building rootfs: files of the image are missing or damaged";
    assert_error(lab.matchlock(&["pull", "mine:1"]), says, "pull --force");
    assert_error(lab.matchlock(&["run", "--image", "mine:1"]), says, "pull --force");
}

#[test]
fn an_image_is_fetched_once_and_then_needs_no_network() {
    let lab = Lab::new();
    let registry = FakeRegistry::plain();
    let (name, digest) = publish(&registry);

    // A run says what it has fetched; this image has nothing to run.
    let run = lab.matchlock(&["run", "--image", &name]).finish().expect(125);
    let err = run.err();
    let built = err.lines().next().unwrap_or_default();
    assert!(built.starts_with(&format!("Built rootfs from {name} (")), "{err}");
    assert!(err.contains("Error: command required"), "{err}");

    let asked = registry.requests().len();
    let pulled = lab.matchlock(&["pull", &name]).finish().expect(0);
    assert!(pulled.out().contains(&format!("\nDigest: {digest}\n")), "{}", pulled.out());
    assert_eq!(pulled.err(), "", "no bars in a pipe");
    let run = lab.matchlock(&["run", "--image", &name]).finish().expect(125);
    assert!(!run.err().contains("Built"), "{}", run.err());
    assert_eq!(registry.requests().len(), asked, "it was here");

    lab.matchlock(&["pull", "--force", &name]).finish().expect(0);
    assert!(registry.requests().len() > asked, "the registry was asked again");
    let blobs = |target: &String| target.contains("/blobs/");
    assert_eq!(registry.targets().iter().filter(|target| blobs(target)).count(), 2 + 1, "config");

    let other = format!("{}/team/app:2", registry.address());
    assert_error(lab.matchlock(&["pull", &other]), "building rootfs: ", "check the name");
    registry.require(Auth::Basic { user: "u".into(), password: "p".into() });
    let denied = lab.matchlock(&["pull", "--force", &name]).finish().expect(1);
    assert!(denied.err().contains("denied access"), "{}", denied.err());
}
