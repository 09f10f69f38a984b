use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

fn options() -> BuildKitOptions {
    let args = [("A", "1"), ("QUOTED", "a 'b' \"$(c)\"\nd"), ("EMPTY", "")];
    BuildKitOptions {
        target: Some("app stage".to_owned()),
        args: args.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        no_cache: true,
    }
}

/// The script with programs that write down how they were called, in a directory that is its root.
fn carried_out(options: &BuildKitOptions, buildctl: &str) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |path: &str| dir.path().join(path).display().to_string();
    fs::create_dir_all(at("workspace")).expect("made");
    let program = |name: &str, text: &str| {
        fs::write(at(name), format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(at(name), PermissionsExt::from_mode(0o755)).expect("chmod");
    };
    program("buildkitd", &format!("env >{}; exec sleep 1000", at("daemon")));
    let calls = at("calls");
    program("buildctl", &format!("[ $3 = debug ] || printf '<%s>' \"$@\" >{calls}; {buildctl}"));
    let mut script = BUILD.to_owned();
    for path in ["/tmp", "/workspace", "/run/buildkit"] {
        script = script.replace(path, &at(path.trim_start_matches('/')));
    }
    let mut command = Command::new("/bin/sh");
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    command.args(["-c", &script, "build"]).env_clear().env("PATH", path);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    for (name, value) in environment(options) {
        command.env(text(name), text(value));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = {
        let _forking = crate::testing::forking();
        command.spawn().expect("a shell")
    };
    let output = started.wait_with_output().expect("a shell");
    let calls = fs::read_to_string(&calls).unwrap_or_default();
    let calls = calls.replace(&dir.path().display().to_string(), "");
    // The daemon may not have come to write it when it was never asked.
    let daemon = fs::read_to_string(at("daemon")).unwrap_or_default();
    assert!(!daemon.contains("MATCHLOCK_"), "{daemon}");
    (output.status.code(), calls, text(output.stderr))
}

#[test]
fn buildctl_is_called_with_every_option_as_it_is() {
    let (status, calls, said) = carried_out(&options(), "exit 0");
    assert_eq!((status, said.as_str()), (Some(0), ""));
    let expected = "<--addr><unix:///run/buildkit/buildkitd.sock><build><--progress=plain>\
        <--frontend=dockerfile.v0><--local><context=/workspace/context>\
        <--local><dockerfile=/workspace/dockerfile><--opt><filename=Dockerfile>\
        <--opt><target=app stage><--opt><build-arg:A=1><--opt><build-arg:EMPTY=>\
        <--opt><build-arg:QUOTED=a 'b' \"$(c)\"\nd><--no-cache>\
        <--output><type=oci,compression=uncompressed,dest=/workspace/image.tar>";
    assert_eq!(calls, expected);
    let (status, calls, _) = carried_out(&BuildKitOptions::default(), "exit 0");
    assert_eq!(status, Some(0));
    assert!(!calls.contains("--no-cache") && !calls.contains("build-arg"), "{calls}");
}

#[test]
fn the_status_is_that_of_buildctl() {
    let failing = "[ $3 = debug ] && exit 0; echo no such stage >&2; exit 7";
    let (status, _, said) = carried_out(&options(), failing);
    assert_eq!((status, said.as_str()), (Some(7), "no such stage\n"));
}

#[test]
fn the_context_and_the_values_of_arguments_are_in_no_debug_output() {
    let shown = format!("{:?}", options());
    assert!(shown.contains("QUOTED") && !shown.contains("$(c)"), "{shown}");
}

#[tokio::test]
async fn a_guest_that_stops_reading_stops_the_writer() {
    let (pieces, incoming) = mpsc::channel(1);
    drop(incoming);
    let written = tokio::task::spawn_blocking(move || Pieces(pieces).write(b"x"));
    let error = written.await.expect("no panic").expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
