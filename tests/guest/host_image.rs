//! Hostile things in a served directory of the host: a fixture below `/opt`, removed with the test.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use matchlock_core::SandboxHandle;
use matchlock_testkit::skip;
use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use tempfile::TempDir;

use crate::lab::Lab;
use crate::run::argv;

cases![
    symbolic_links_are_resolved_in_the_guest_and_nowhere_else,
    what_others_may_not_read_is_unreadable_for_root_of_the_guest_too,
    pipes_sockets_and_devices_are_absent_and_nothing_hangs,
    names_and_contents_arrive_byte_for_byte,
];

const SECRET: &str = "the secret of the host";

/// A directory that the image serves; `None` where nobody may make one, as a user without rights.
pub(crate) fn served() -> Option<TempDir> {
    match tempfile::Builder::new().prefix("matchlock-test-").tempdir_in("/opt") {
        Ok(directory) => {
            fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("its owner");
            Some(directory)
        }
        Err(error) => {
            skip(format_args!("no directory in /opt: {error}"));
            None
        }
    }
}

/// Standard output and error of `cat` in the guest.
async fn cat(sandbox: &SandboxHandle, path: &Path) -> (String, String) {
    let ended = argv(["cat", path.to_str().expect("UTF-8")]).on(sandbox).await;
    (ended.out(), ended.err())
}

async fn symbolic_links_are_resolved_in_the_guest_and_nowhere_else(lab: &Lab) {
    let Some(served) = served() else { return };
    // Outside of what is served, and readable for everybody.
    let outside = lab.home().join("outside");
    fs::create_dir_all(&outside).expect("mkdir");
    fs::write(outside.join("secret"), SECRET).expect("write");
    for directory in [lab.home(), &outside] {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("chmod");
    }
    let inside = served.path();
    let relative = Path::new("../..").join(outside.strip_prefix("/").expect("absolute"));
    let links = [
        ("absolute", outside.join("secret")),
        ("relative", relative.join("secret")),
        ("too-far-up", Path::new("../../../../../../..").join(&relative).join("secret")),
        ("chain", inside.join("relative")),
        ("by-descriptor", Path::new("/proc/self/cwd").join("secret")),
        ("loop", inside.join("loop")),
        ("of-root", "/root/.bashrc".into()),
        ("shadow", "/etc/shadow".into()),
    ];
    for (name, target) in &links {
        symlink(target, inside.join(name)).expect("symlink");
    }
    symlink("/", inside.join("slash")).expect("symlink");
    symlink(&outside, inside.join("directory")).expect("symlink");
    let sandbox = lab.plain().await;
    let through = inside.join("slash").join(outside.strip_prefix("/").expect("absolute"));
    let paths = links.iter().map(|(name, _)| inside.join(name));
    let more = [through.join("secret"), inside.join("directory/secret")];
    for path in paths.chain(more) {
        let (out, err) = cat(sandbox, &path).await;
        assert_eq!(out, "", "{}", path.display());
        let is_expected = err.contains("No such file")
            || err.contains("Too many levels") && path.ends_with("loop");
        assert!(is_expected, "{}: {err}", path.display());
    }
    let hostname = cat(sandbox, &inside.join("slash/etc/hostname")).await.0;
    assert_eq!(hostname.trim(), crate::lab::HOSTNAME, "the root of the guest");
    // A link that the guest makes itself is its own too.
    let made = Path::new("/tmp/link-of-guest");
    let target = outside.join("secret");
    argv(
        [Path::new("ln"), Path::new("-sfn"), &target, made]
            .map(|word| word.to_str().expect("UTF-8")),
    )
    .text(sandbox)
    .await;
    assert!(cat(sandbox, made).await.1.contains("No such file"));
}

async fn what_others_may_not_read_is_unreadable_for_root_of_the_guest_too(lab: &Lab) {
    let Some(served) = served() else { return };
    let private = served.path().join("private");
    let (unlisted, closed) = (served.path().join("unlisted"), served.path().join("closed"));
    fs::write(&private, SECRET).expect("write");
    fs::hard_link(&private, served.path().join("second-name")).expect("link");
    for directory in [&unlisted, &closed] {
        fs::create_dir(directory).expect("mkdir");
        fs::write(directory.join("open"), SECRET).expect("write");
    }
    for (path, mode) in [(&private, 0o640), (&unlisted, 0o711), (&closed, 0o700)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
    }
    for sandbox in [lab.plain().await, lab.privileged().await] {
        for path in [private.clone(), served.path().join("second-name"), closed.join("open")] {
            let (out, err) = cat(sandbox, &path).await;
            assert_eq!(out, "", "{}", path.display());
            assert!(err.contains("Permission denied"), "{}: {err}", path.display());
        }
        for directory in [&unlisted, &closed] {
            let path = directory.to_str().expect("UTF-8");
            let ended = argv(["ls", path]).on(sandbox).await;
            assert!(ended.err().contains("Permission denied"), "{path}: {ended:?}");
        }
        assert_eq!(cat(sandbox, &unlisted.join("open")).await.0, SECRET, "as on the host");
    }
    assert_eq!(fs::read(&private).expect("its owner"), SECRET.as_bytes());
}

async fn pipes_sockets_and_devices_are_absent_and_nothing_hangs(lab: &Lab) {
    let Some(served) = served() else { return };
    let inside = served.path();
    let mode = Mode::from_raw_mode(0o666);
    mkfifoat(CWD, inside.join("pipe"), mode).expect("mkfifo");
    let _socket = UnixListener::bind(inside.join("socket")).expect("bind");
    // /dev/zero; a container's root may be forbidden to make one.
    let zero = rustix::fs::makedev(1, 5);
    let made = mknodat(CWD, inside.join("device"), FileType::CharacterDevice, mode, zero);
    fs::write(inside.join("file"), "content").expect("write");
    let sandbox = lab.plain().await;
    let listed = argv(["ls", "-A", inside.to_str().expect("UTF-8")]).text(sandbox).await;
    assert_eq!(listed, "file", "device made: {made:?}");
    for name in ["pipe", "socket", "device"] {
        let (out, err) = cat(sandbox, &inside.join(name)).await;
        assert_eq!(out, "", "{name}");
        assert!(err.contains("No such file"), "{name}: {err}");
    }
}

async fn names_and_contents_arrive_byte_for_byte(lab: &Lab) {
    let Some(served) = served() else { return };
    let names = ["a b", "new\nline", "ü☃", "-rf", "'quoted\"", "\\back", "*"];
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    for name in names {
        fs::write(served.path().join(name), &content).expect("write");
    }
    let sandbox = lab.plain().await;
    let directory = served.path().to_str().expect("UTF-8");
    for name in names {
        let ended = argv(["cat", "--", name]).dir(directory).on(sandbox).await;
        assert!(ended.stdout == content, "{name:?}: {}", ended.err());
    }
}
