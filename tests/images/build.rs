//! Images from Dockerfiles: built with real guests, then run.

use std::fs;
use std::path::Path;

use matchlock_testkit::{Invocation, Lab, PATIENCE, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::stock::{Stock, blobs, run};

cases![
    a_dockerfile_becomes_an_image_that_runs,
    a_failing_step_shows_its_output_and_its_line,
    an_interrupted_build_leaves_nothing,
];

/// A directory with these files.
fn context(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        fs::write(path, text).expect("write");
    }
    directory
}

fn build(lab: &Lab, flags: &[&str], context: &Path) -> Invocation {
    let mut args = vec!["build", "-t", "built:1"];
    args.extend(flags);
    args.push(context.to_str().expect("UTF-8"));
    lab.matchlock(&args)
}

const STAGES: &str = r#"FROM debian:local AS tools
ARG GREETING=none
ENV WHO=world
WORKDIR /made/deep
RUN echo "$GREETING $WHO $(id -un) $PWD" > out; echo said-so; echo complained >&2
FROM debian:local
COPY . /src
COPY --from=tools /made/deep/out /out
RUN <<EOF
    echo app:x:1000:1000::/home/app:/bin/sh >> /etc/passwd
    echo app:x:1000: >> /etc/group
    chown app:app /src
    cp /usr/bin/id /opt/as-root && chmod 4755 /opt/as-root
    mkdir /opt/new && mv /src/moved /opt/new/moved
    rm -r /etc/skel /src/deleted
    mkdir /etc/skel && echo new > /etc/skel/one
EOF
USER app
WORKDIR /src
RUN test $(/opt/as-root -u) = 0 && id -un > made && pwd >> made && ln -s made link
ENV GREETED=yes
ENTRYPOINT ["sh", "-c", "cat /out link; echo \"$0 $GREETED $(id -gn) $PWD\""]
CMD ["default"]
"#;

fn a_dockerfile_becomes_an_image_that_runs(stock: &Stock) {
    let lab = stock.lab();
    let directory = context(&[
        ("Dockerfile", STAGES),
        (".dockerignore", "Dockerfile\n**/*.log\n!keep.log\n"),
        ("kept", "kept"),
        ("moved", "moved"),
        ("deleted", "deleted"),
        ("sub/ignored.log", "ignored"),
        ("sub/keep.txt", "kept"),
        ("keep.log", "kept"),
    ]);
    let trails = tempfile::tempdir().expect("a directory");
    let trail = trails.path().join("audit.jsonl");
    let audit = format!("--audit-log={}", trail.display());
    let flags = ["--build-arg", "GREETING=hello", &audit, "--build-memory=256", "--build-cpus=1"];
    let built = build(&lab, &flags, directory.path()).finish().expect(0);
    let (out, err) = (built.out(), built.err());
    let size = out.strip_prefix("Successfully built and tagged built:1\nLayers: 7\nSize: ");
    assert!(size.is_some_and(|size| size.ends_with(" MB\n")), "{out}");
    for line in ["[tools 4/", "said-so", "complained", "COPY . /src"] {
        assert!(err.contains(line), "{line} in {err}");
    }
    assert!(!err.contains("CACHED"), "{err}");

    let ran = run(&lab, "built:1", &["--no-network"], &[]).finish().expect(0);
    let expected = "hello world root /made/deep\napp\n/src\ndefault yes app /src\n";
    assert_eq!(ran.out(), expected);
    let script = "find /src /opt /etc/skel -type f -o -type l | sort; cat /opt/new/moved; \
                  stat -c ' %U %a' /src; ls -d /made 2>/dev/null; ls -A / | grep -c matchlock";
    let flags = ["--no-network", "--entrypoint", "sh"];
    let looked = run(&lab, "built:1", &flags, &["-c", script]).finish();
    let expected = "/etc/skel/one\n/opt/as-root\n/opt/new/moved\n/src/.dockerignore\n/src/keep.log\n/src/kept\n\
                    /src/link\n/src/made\n/src/sub/keep.txt\nmoved app 755\n0\n";
    assert_eq!(looked.out(), expected, "{}", looked.err());

    // Everything comes from the cache: no sandbox writes a trail.
    fs::remove_file(&trail).expect("sandboxes have written it");
    let flags = ["--json", "--build-arg=GREETING=hello", &audit];
    let again = build(&lab, &flags, directory.path()).finish().expect(0);
    let report: Value = serde_json::from_str(&again.out()).expect("JSON");
    assert_eq!((&report["layers"], &report["cached"]), (&7.into(), &6.into()), "{report}");
    assert!(!trail.exists(), "{}", again.err());
}

fn a_failing_step_shows_its_output_and_its_line(stock: &Stock) {
    let lab = stock.lab();
    let before = (blobs(&lab), lab.matchlock(&["image", "ls"]).finish().expect(0).out());
    let script = "echo before; curl -sS http://registry.example/; echo curl says $?; exit 7";
    let file = format!("FROM debian:local AS one\n\nRUN {script}\nFROM one\nRUN true\n");
    let directory = context(&[("Dockerfile.other", &file)]);
    let dockerfile = directory.path().join("Dockerfile.other");
    let dockerfile = dockerfile.to_str().expect("UTF-8");
    let failed = build(&lab, &["-f", dockerfile, "--target", "one"], directory.path()).finish();
    let err = failed.err();
    assert_eq!((failed.code(), failed.out().as_str()), (1, ""), "{err}");
    assert!(err.contains("\nbefore\n") && err.contains("\ncurl says 6\n"), "{err}");
    let refused = "refused: registry.example (--allow-host registry.example)";
    assert!(err.contains(refused), "{err}");
    let error = err.lines().find(|line| line.starts_with("Error: ")).unwrap_or_default();
    assert!(error.starts_with(&format!("Error: {dockerfile}:3: RUN echo before;")), "{err}");
    assert!(error.ends_with(": exited with status 7"), "{err}");
    let after = (blobs(&lab), lab.matchlock(&["image", "ls"]).finish().expect(0).out());
    assert_eq!(after, before, "nothing is stored");
}

fn an_interrupted_build_leaves_nothing(stock: &Stock) {
    let lab = stock.lab();
    let before = blobs(&lab);
    let directory = context(&[("Dockerfile", "FROM debian:local\nRUN echo up; sleep 6000\n")]);
    let trail = directory.path().join("audit.jsonl");
    let audit = format!("--audit-log={}", trail.display());
    let running = build(&lab, &[&audit], directory.path()).spawn();
    wait_until("the step runs", PATIENCE, || {
        fs::read_to_string(&trail).ok().filter(|trail| trail.contains("sleep 6000"))
    });
    running.signal(Signal::INT);
    let finished = running.finish(PATIENCE);
    assert_eq!((finished.code(), finished.out().as_str()), (130, ""), "{}", finished.err());
    assert_eq!(lab.leaks(), [""; 0]);
    assert_eq!(blobs(&lab), before);
    let gc = lab.matchlock(&["image", "gc"]).finish().expect(0);
    assert_eq!(gc.out(), "Removed 0 unreferenced blobs\n");
}
