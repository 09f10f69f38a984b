//! `build --builder buildkit`, with programs in BuildKit's place that check how they are called: BuildKit
//! itself is in no package that the tests may rely on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use matchlock_testkit::image_archive::{Format, ImageArchive, LayerTar, Packing};
use matchlock_testkit::{Invocation, Lab, PATIENCE};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::images::{bytes, with_shell};
use crate::stock::{Stock, run};

cases![buildkit_gets_the_context_and_gives_the_image, a_buildkit_that_does_not_start_is_told];

/// In an argument of the build: it must be seen by nobody but BuildKit.
const CANARY: &str = "canary-7f31 'quoted' $(x)";

const BUILDKITD: &str = r#"#!/bin/sh
echo "the daemon's own words"
[ "$*" = "--root /var/lib/buildkit --addr unix:///run/buildkit/buildkitd.sock \
--containerd-worker=false --oci-worker=true --oci-worker-snapshotter=native --oci-worker-net=host" ] \
    || { echo "called with $*"; exit 1; }
[ "$(id -u) $HOME" = "0 /root" ] || { echo "not as root"; exit 1; }
trap 'echo whole >/var/lib/buildkit/stopped; exit 0' TERM
: >/run/buildkit/ready
while :; do sleep 0.1; done
"#;

const BUILDCTL: &str = r#"#!/bin/sh
[ "$1 $2" = "--addr unix:///run/buildkit/buildkitd.sock" ] || exit 2
shift 2
[ "$*" != "debug workers" ] || { [ -e /run/buildkit/ready ]; exit; }
cd /var/lib/buildkit
echo "cache $(stat -f -c %T .) before $(cat stopped) $(cat builds | wc -l)" 2>/dev/null
rm -f stopped
echo build >>builds
for argument; do echo "<$argument>" >&2; done
cd /workspace
for file in $(find context dockerfile | sort); do echo "$(stat -c '%a %u' $file) $file" >&2; done
cat dockerfile/Dockerfile context/src/main >&2
case "$*" in *target=broken*) echo "ERROR: no such stage" >&2; exit 9 ;; esac
mv /result.tar image.tar
"#;

/// What stands for BuildKit's image. It gives an image that says `by buildkit`.
fn stand_in(buildkitd: &str) -> Vec<u8> {
    let base = with_shell(json!({}));
    let made = LayerTar::new().file("made", 0o644, b"by buildkit\n").finish();
    let result = ImageArchive::new([base.layers(), &[made]].concat())
        .config(json!({ "Cmd": ["cat", "/made"], "Env": ["PATH=/bin"] }));
    let programs = ["find", "mkdir", "mv", "rm", "sleep", "sort", "tail", "tar", "wc"];
    let layer = programs
        .iter()
        .fold(LayerTar::new(), |layer, name| layer.symlink(&format!("bin/{name}"), "busybox"))
        .file("bin/buildkitd", 0o755, buildkitd.as_bytes())
        .file("bin/buildctl", 0o755, BUILDCTL.as_bytes())
        .file("result.tar", 0o644, &bytes(&result, Format::Oci, Packing::Plain))
        .finish();
    // As the real one, it is made for a user without privileges.
    let config =
        json!({ "User": "app", "Env": ["PATH=/bin", "HOME=/home/app"], "WorkingDir": "/none" });
    let image = ImageArchive::new([base.layers(), &[layer]].concat()).config(config);
    bytes(&image, Format::Docker, Packing::Plain)
}

fn lab_with(buildkitd: &str) -> Lab {
    let lab = Lab::new();
    let import = lab.matchlock(&["image", "import", "buildkit:1"]);
    import.finish_with(stand_in(buildkitd)).expect(0);
    let context = lab.home().join("context");
    fs::create_dir_all(context.join("src")).expect("mkdir");
    for (path, text) in [
        ("Dockerfile", "FROM scratch # the Dockerfile\n"),
        ("src/main", "of the context\n"),
        ("secret", "hidden"),
        (".dockerignore", "secret\nDockerfile\n"),
    ] {
        fs::write(context.join(path), text).expect("write");
    }
    lab
}

fn build(lab: &Lab, flags: &[&str]) -> Invocation {
    let context = lab.home().join("context");
    let mut args = vec!["build", "--builder", "buildkit=buildkit:1", "-t", "made:1"];
    args.extend(["--build-disk", "512", "--build-memory", "512"]);
    args.extend(flags);
    args.push(context.to_str().expect("UTF-8"));
    lab.matchlock(&args)
}

#[track_caller]
fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line:?} is not in {text}");
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).expect("stat").len()
}

fn buildkit_gets_the_context_and_gives_the_image(_: &Stock) {
    let lab = lab_with(BUILDKITD);
    let audit = lab.home().join("audit.jsonl");
    let argument = format!("TOKEN={CANARY}");
    let flags = ["--build-arg", &argument, "--target", "app", "--no-cache", "--build-cache-size"];
    let audited = ["64", "--audit-log", audit.to_str().expect("UTF-8")];
    let first = build(&lab, &[&flags[..], &audited].concat()).finish().expect(0);
    let out = first.out();
    let size = out.strip_prefix("Successfully built and tagged made:1\nLayers: 2\nSize: ");
    assert!(size.is_some_and(|size| size.ends_with(" MB\n")), "{out}");
    let argument = format!("<build-arg:TOKEN={CANARY}>");
    assert_has(
        &first.err(),
        &[
            "cache ext2/ext3 before  0",
            "<--frontend=dockerfile.v0>",
            "<context=/workspace/context>",
            "<target=app>",
            &argument,
            "<--no-cache>",
            "<type=oci,compression=uncompressed,dest=/workspace/image.tar>",
            "644 0 dockerfile/Dockerfile",
            "644 0 context/src/main",
            "FROM scratch # the Dockerfile",
            "of the context",
        ],
    );
    let err = first.err();
    assert!(!err.contains("context/secret") && !err.contains("context/Dockerfile"), "{err}");
    assert!(!err.contains("the daemon's own words"), "{err}");
    let trail = fs::read_to_string(&audit).expect("read");
    assert!(trail.contains("buildctl") && !trail.contains("canary-7f31"), "{trail}");
    assert_eq!(run(&lab, "made:1", &[], &[]).finish().expect(0).out(), "by buildkit\n");

    // The next one waits for whoever has the cache, which it finds as it was left.
    let cache = lab.home().join(".cache/matchlock/buildkit/cache.ext4");
    assert_eq!(
        (length(&cache), fs::metadata(&cache).expect("stat").mode() & 0o777),
        (64 << 20, 0o600)
    );
    let other = fs::File::open(&cache).expect("open");
    flock(&other, FlockOperation::NonBlockingLockExclusive).expect("nobody has it any more");
    let failing = ["--target", "broken", "--build-cache-size", "96"];
    let joined = ["sh", "-c", "exec \"$@\" 2>&1", "sh"];
    let mut second = build(&lab, &failing).under(&joined).spawn();
    second.wait_for("waiting for another build", PATIENCE);
    drop(other);
    let second = second.finish(PATIENCE).expect(1);
    assert_has(
        &second.out(),
        &[
            "cache ext2/ext3 before whole 1",
            "ERROR: no such stage",
            "Error: BuildKit has failed with status 9",
        ],
    );
    assert!(!second.out().contains("Successfully"), "{}", second.out());
    let list = lab.matchlock(&["image", "ls", "--json"]).finish().expect(0).out();
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let tags: Vec<_> = list.as_array().expect("a list").iter().map(|image| &image["tag"]).collect();
    assert_eq!(tags, ["buildkit:1", "made:1"], "as before");

    // It has grown, and is not made smaller; what was written after a failed build is there.
    assert_eq!(length(&cache), 96 << 20);
    let third = build(&lab, &["--build-cache-size", "64", "--json"]).finish().expect(0);
    assert_has(&third.err(), &["cache ext2/ext3 before whole 2"]);
    assert_eq!(length(&cache), 96 << 20);
    let report: Value = serde_json::from_str(&third.out()).expect("JSON");
    assert_eq!((&report["tag"], &report["layers"]), (&json!("made:1"), &json!(2)));
}

fn a_buildkit_that_does_not_start_is_told(_: &Stock) {
    let lab = lab_with("#!/bin/sh\necho its last words; exit 1\n");
    let finished = build(&lab, &["--build-cache-size", "64"]).finish().expect(1);
    let lines = [
        "its last words",
        "buildkitd has not started",
        "Error: BuildKit has failed with status 125",
    ];
    assert_has(&finished.err(), &lines);
    assert!(
        finished.err().contains("\n  hint: --builder buildkit=IMAGE needs"),
        "{}",
        finished.err()
    );
}
