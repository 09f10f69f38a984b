//! Builds with a store of their own and a runner that interprets scripts.

mod cache;
mod copies;
mod lab;
mod runs;

use lab::Lab;
use serde_json::json;

#[test]
fn an_image_is_built_and_stored_under_its_name() {
    let mut lab = Lab::new();
    lab.put("app.py", "print()");
    let built = lab.build(
        "FROM base\nENV B=2 A=1\nWORKDIR /app\nCOPY app.py .\nRUN write /made x\nUSER app\n\
         LABEL a=b\nEXPOSE 80\nENTRYPOINT [\"python\"]\nVOLUME /data\nSTOPSIGNAL SIGINT\n",
    );
    let found = lab.store.find_tag("result").expect("look").expect("found");
    assert_eq!(found.digest, built.image.digest);
    assert_eq!(built.image.layers.len(), 4);
    assert_eq!(lab.file(&built, "/app/app.py"), "644 0:0 print()");
    assert_eq!(lab.file(&built, "/app"), "755 0:0 /");
    assert_eq!(lab.file(&built, "/made"), "600 3:0 x");
    assert_eq!(lab.file(&built, "/name"), "644 0:0 base");
    let config = lab.config(&built);
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin", "FROM_BASE=1", "B=2", "A=1"]));
    assert_eq!(config["config"]["WorkingDir"], "/app");
    assert_eq!(config["config"]["Entrypoint"], json!(["python"]));
    assert!(config["config"].get("Cmd").is_none(), "it belonged to another entry point");
    assert_eq!(config["config"]["ExposedPorts"], json!({ "80/tcp": {} }));
    assert_eq!(config["created"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(config["history"].as_array().expect("a list").len(), 10);
    assert_eq!(config["history"][2]["created_by"], "COPY app.py .");
    assert_eq!(config["history"][4]["empty_layer"], true);
    assert_eq!(built.image.config.user.as_deref(), Some("app"));
}

#[test]
fn the_history_has_all_of_an_instruction() {
    let mut lab = Lab::new();
    let long = format!("RUN say {}", "x".repeat(300));
    let built = lab.build(&format!("FROM base\n{long}\n"));
    assert_eq!(lab.config(&built)["history"][0]["created_by"], long);
    assert!(lab.events[2].len() < 150, "on a screen it is short");
}

#[test]
fn events_tell_what_happens() {
    let mut lab = Lab::new();
    lab.args = vec![("UNUSED", "1")];
    lab.build("FROM base AS one\nRUN say hello\nFROM one\nCMD x\n");
    assert_eq!(
        lab.events,
        [
            "warning: no ARG asks for the build argument UNUSED",
            "resolving base",
            "one [1/4] Dockerfile:1: FROM base AS one",
            "one [2/4] Dockerfile:2: RUN say hello",
            "Stderr: hello",
            "[3/4] Dockerfile:3: FROM one",
            "[4/4] Dockerfile:4: CMD x",
            "storing",
        ]
    );
}

#[test]
fn a_failed_step_names_its_line_after_its_output() {
    let mut lab = Lab::new();
    let before = lab.blobs();
    let error = lab.error("FROM base\n\nRUN \\\n  say oops; \\\n  exit 100\nRUN say never\n");
    assert_eq!(error, "Dockerfile:3: RUN say oops; exit 100: exited with status 100");
    assert_eq!(lab.events.last().map(String::as_str), Some("Stderr: oops"));
    assert!(lab.store.find_tag("result").expect("look").is_none());
    lab.store.gc().expect("collected");
    assert_eq!(lab.blobs(), before, "nothing is left of a failed build");
}

#[test]
fn errors_name_the_line() {
    let mut lab = Lab::new();
    lab.put("f", "x");
    for (text, expected) in [
        ("FROM base\nFOO", "Dockerfile:2: FOO: unknown instruction \"FOO\""),
        ("FROM missing", "Dockerfile:1: FROM missing: no image missing"),
        ("FROM Base:x:y", "Dockerfile:1: FROM Base:x:y: "),
        ("FROM base\nCOPY nothing /", "Dockerfile:2: COPY nothing /: no file \"nothing\""),
        ("FROM base\nCOPY --from=gone / /x", "Dockerfile:2: COPY --from=gone / /x: no image gone"),
        ("FROM base\nCOPY --chown=who f /", "no such user or group: \"who\""),
        (
            "FROM base\nCOPY --chmod=u+x f /",
            "--chmod=u+x, which is no octal mode, is not supported",
        ),
        ("FROM base\nCOPY f /name/x", "leads nowhere: a component of the path is not a directory"),
        ("FROM base\nCOPY f /name/", "a directory cannot replace \"/name\""),
        ("FROM base\nCOPY f f /new", "end it with a slash"),
        ("FROM base\nENV X=${Y:?needed}", "Dockerfile:2: ENV X=${Y:?needed}: Y: needed"),
        ("FROM base\nENV X='", "no closing '"),
        ("FROM base\nEXPOSE x", "not a port"),
        ("FROM base\nADD https://example.com/x /", "ADD of an address is not supported"),
        ("FROM base\nRUN nonsense", "could not be run: no such command: nonsense"),
        ("FROM base\nWORKDIR /name", "a directory cannot replace \"/name\""),
    ] {
        let error = lab.error(text);
        assert!(error.contains(expected), "{text:?}: {error}");
        assert!(error.starts_with("Dockerfile:"), "{error}");
    }
}

#[test]
fn files_that_are_missing_are_named() {
    let mut lab = Lab::new();
    lab.put(".dockerignore", "ok\n[\n");
    assert_eq!(lab.error("FROM base"), ".dockerignore:2: not a pattern: \"[\"");
    std::fs::remove_dir_all(lab.context()).expect("remove");
    assert!(lab.error("FROM base").ends_with("context\" is not a directory"));
}

#[test]
fn stages_share_files_and_only_the_target_counts() {
    let mut lab = Lab::new();
    let text = "FROM base AS one\nRUN write /one 1\nENV S=1\n\
                FROM base AS unused\nRUN exit 1\n\
                FROM one AS two\nCOPY --from=one /one /two\nRUN write /x $S\n\
                FROM scratch\nCOPY --from=two --chown=5 /two /etc/passwd /all/\nCOPY --from=base /srv /srv\n";
    let built = lab.build(text);
    let files = lab.files(&built.image);
    assert_eq!(files["/all/two"], "600 5:5 1");
    assert_eq!(files["/srv/keep"], "644 0:0 kept");
    assert_eq!(files["/srv"], "750 7:8 /");
    assert!(!files.contains_key("/name"));
    assert_eq!(lab.config(&built)["config"]["Env"].as_array().map(Vec::len), Some(1), "PATH");
    lab.target = Some("two".into());
    let built = lab.build(text);
    assert_eq!(lab.file(&built, "/two"), "600 3:0 1");
    assert!(lab.config(&built)["config"]["Env"].to_string().contains("S=1"));
}

#[test]
fn triggers_run_in_the_next_build() {
    let mut lab = Lab::new();
    lab.base("parent", &json!({ "OnBuild": ["RUN write /triggered 1", "ENV T=1"] }));
    let built = lab.build("FROM parent AS a\nONBUILD RUN write /own 2\nFROM a\nRUN say $T\n");
    let files = lab.files(&built.image);
    assert!(files.contains_key("/triggered") && files.contains_key("/own"));
    assert!(lab.config(&built)["config"].get("OnBuild").is_none());
    assert!(
        lab.events.contains(&"a [2/7] Dockerfile:1: ONBUILD RUN write /triggered 1".to_owned()),
        "{:?}",
        lab.events
    );
    lab.base("bad", &json!({ "OnBuild": ["FROM x"] }));
    let error = lab.error("FROM base\nFROM bad\n");
    assert!(
        error.starts_with("Dockerfile:2: ONBUILD FROM x: ")
            && error.contains("cannot be a trigger"),
        "{error}"
    );
}

#[test]
fn secrets_of_arguments_are_in_no_debug_output() {
    let request = crate::BuildRequest {
        dockerfile: Some("D".into()),
        dockerfile_name: "D".into(),
        context: ".".into(),
        target: None,
        args: [("TOKEN".to_owned(), "hunter2".to_owned())].into(),
        no_cache: false,
        cache_bytes: 0,
        names: Vec::new(),
        now: std::time::SystemTime::UNIX_EPOCH,
    };
    let text = format!("{request:?}");
    assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
}
