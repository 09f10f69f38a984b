//! RUN: what a command is given, mounts, here-documents.

use super::lab::Lab;

fn value<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_command_has_the_configuration_so_far() {
    let mut lab = Lab::new();
    lab.args = vec![("A", "given"), ("HTTPS_PROXY", "http://user:pw@proxy")];
    let built = lab.build(
        "ARG G=global\nFROM base\nARG A=default B=b G\nARG E=arg\nENV E=env\nUSER app:staff\nWORKDIR /srv\n\
         SHELL [\"/bin/bash\", \"-ec\"]\nRUN say 1\nRUN [\"x\", \"say 2\"]\nRUN --network=none say 3\n",
    );
    let [first, second, third] = lab.ran.as_slice() else { panic!("{:?}", lab.ran) };
    assert_eq!(first.arguments, ["/bin/bash", "-ec", "say 1"]);
    assert_eq!(second.arguments, ["x", "say 2"]);
    assert_eq!((first.user.as_deref(), first.dir.as_deref()), (Some("app:staff"), Some("/srv")));
    assert!(first.network && !third.network);
    for (name, expected) in [
        ("A", "given"),
        ("B", "b"),
        ("G", "global"),
        ("E", "env"),
        ("FROM_BASE", "1"),
        ("PATH", "/bin"),
    ] {
        assert_eq!(value(&first.env, name), Some(expected), "{name}");
    }
    assert_eq!(value(&first.env, "HTTPS_PROXY"), Some("http://user:pw@proxy"));
    assert!(
        !built.image.config.raw.contains("pw@proxy") && !built.image.config.raw.contains("given")
    );
    assert_eq!(built.image.layers.len(), 1, "nothing was written");
    let built = lab.build("FROM base\nRUN say nothing\n");
    assert_eq!(built.image.layers.len(), 1, "an empty layer is none");
    assert_eq!(lab.build("FROM base\nRUN say nothing\n").cached, 1);
}

#[test]
fn here_documents_are_scripts() {
    let mut lab = Lab::new();
    let built = lab.build("FROM base\nRUN <<EOF\nwrite /a 1\nwrite /b 2\nEOF\nRUN <<EOF\n#!/usr/bin/env python\nwrite /c 3\nEOF\n");
    let files = lab.files(&built.image);
    assert!(["/a", "/b", "/c"].iter().all(|path| files.contains_key(*path)));
    assert!(!files.contains_key("/.matchlock-script"));
    assert_eq!(lab.ran[1].arguments, ["/.matchlock-script"]);
}

#[test]
fn what_is_in_a_scratch_directory_is_not_in_the_layer() {
    let mut lab = Lab::new();
    let built = lab.build(
        "FROM base\nRUN --mount=type=cache,target=/srv --mount=type=tmpfs,target=/tmp/x/y ls /srv; \
         write /srv/cached 1; write /tmp/x/y/z 1; rm /srv/keep; write /kept ok\n",
    );
    assert!(lab.events.contains(&"Stdout: ".to_owned()), "it was empty: {:?}", lab.events);
    let files = lab.files(&built.image);
    assert_eq!(files["/srv/keep"], "644 0:0 kept");
    assert_eq!(files["/kept"], "600 3:0 ok");
    assert!(!files.contains_key("/srv/cached") && !files.contains_key("/tmp/x/y"));
    let built = lab.build("FROM base\nRUN --mount=type=cache,target=/c write /c/d 1\n");
    assert_eq!(built.image.layers.len(), 1, "nothing is left of the layer");
}

#[test]
fn bound_files_are_seen_and_not_kept() {
    let mut lab = Lab::new();
    lab.put("src/main", "code");
    let text = "FROM base AS dep\nRUN write /dep/lib l\nFROM base\nWORKDIR /w\n\
        RUN --mount=type=bind,target=. --mount=from=dep,source=/dep,target=/srv \
        --mount=source=src/main,target=/one cat /w/src/main; cat /srv/lib; cat /one; ls /srv; write /w/src/main changed; write /out $X\n";
    let built = lab.build(text);
    let output: Vec<_> =
        lab.events.iter().filter_map(|event| event.strip_prefix("Stdout: ")).collect();
    assert_eq!(output, ["code", "l", "code", "lib"]);
    let files = lab.files(&built.image);
    assert!(files.contains_key("/out") && files.contains_key("/srv/keep"));
    assert!(!files.contains_key("/w/src/main") && !files.contains_key("/one"));
    lab.build(text);
    assert!(lab.ran.is_empty(), "all of it is cached");
    lab.put("src/main", "other code");
    lab.build(text);
    assert_eq!(lab.ran.len(), 1);
    let error = lab.error("FROM base\nRUN --mount=source=nothing,target=/x say 1");
    assert!(error.starts_with("Dockerfile:2:") && error.contains("no file \"nothing\""), "{error}");
}
