//! A program that tries to get out, in the jail of a machine and outside of it.

#![expect(clippy::disallowed_types, reason = "a port to which no monitor may connect")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use matchlock_sys::{BoundChild, landlock_version, spawn_bound, spawn_jailed};
use rustix::io::Errno;

use super::*;

const NEEDS: Needs = Needs { kvm: false, inherited: 0, largest_file: 1 << 20 };

/// Of the first Landlock that keeps signals in.
const WITH_SIGNALS: u32 = 6;

/// The interpreter itself: what is in `PATH` may be a script that looks for it.
fn python() -> PathBuf {
    let mut asked = Command::new("python3");
    asked.args(["-c", "import sys; print(sys.executable, end='')"]);
    let path = asked.output().expect("python3").stdout;
    PathBuf::from(String::from_utf8(path).expect("a path"))
}

fn read_all(mut child: BoundChild) -> String {
    let mut said = String::new();
    child.child().stdout.take().expect("a pipe").read_to_string(&mut said).expect("text");
    child.child().wait().expect("an end");
    said
}

/// What a monitor that was taken over finds, and the result of each attempt.
fn attempts(jailed: bool) -> BTreeMap<String, i32> {
    let home = tempfile::tempdir().expect("a directory");
    let file = |name: &str| {
        let path = home.path().join(name);
        fs::write(&path, "secret").expect("written");
        path
    };
    let (key, removable, own) = (file("id_ed25519"), file("removable"), file("own"));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let unix = home.path().join("socket");
    let _unix = UnixListener::bind(&unix).expect("a socket");
    let mut victim = Command::new("sleep").arg("600").spawn().expect("a process");
    let given = serde_json::json!({
        "key": key, "removable": removable, "own": own, "unix": unix, "victim": victim.id(),
        "tcp": ["127.0.0.1", tcp.local_addr().expect("an address").port()],
    });
    let python = python();
    let mut command = Command::new(&python);
    command.args(["-I", "-c", include_str!("attempts.py"), &given.to_string()]);
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped());
    let child = if jailed {
        spawn_jailed(command, Vec::new(), jail(&python, NEEDS).expect("a jail"))
    } else {
        spawn_bound(command, Vec::new())
    };
    let said = read_all(child.expect("started"));
    victim.kill().expect("killed");
    victim.wait().expect("an end");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn what_a_monitor_has_no_use_for_is_refused_in_the_jail_and_only_there() {
    let (free, jailed) = (attempts(false), attempts(true));
    let by_filter = [
        ("connect by TCP", Errno::PERM),
        ("connect to a path", Errno::PERM),
        ("netlink", Errno::PERM),
        ("a pair of datagrams", Errno::PERM),
        ("trace", Errno::PERM),
        ("unshare a user namespace", Errno::PERM),
        ("clone into a user namespace", Errno::PERM),
        ("io_uring", Errno::PERM),
        ("userfaultfd", Errno::PERM),
        ("keyctl", Errno::PERM),
    ];
    let by_landlock = [
        ("read a key", Errno::ACCESS),
        ("list a home", Errno::ACCESS),
        ("write a file", Errno::ACCESS),
        ("remove a file", Errno::ACCESS),
        ("read memory", Errno::ACCESS),
        ("read an environment", Errno::ACCESS),
        ("run a program", Errno::ACCESS),
    ];
    let landlock = landlock_version().unwrap_or(0);
    let by_landlock = by_landlock.iter().filter(|_| landlock > 0);
    let signals = [("signal", Errno::PERM)];
    let signals = signals.iter().filter(|_| landlock >= WITH_SIGNALS);
    for &(attempt, errno) in by_filter.iter().chain(by_landlock).chain(signals) {
        assert_eq!(jailed.get(attempt), Some(&errno.raw_os_error()), "{attempt}: {jailed:?}");
    }
    // What a host may refuse to anybody: tracing, namespaces, and calls of kernels that lack them.
    let by_host =
        ["trace", "unshare a user namespace", "clone into a user namespace", "userfaultfd"];
    for (attempt, &errno) in &free {
        match attempt.as_str() {
            // It gets as far as its arguments, which are none.
            "io_uring" => assert_ne!(errno, Errno::PERM.raw_os_error()),
            "use a capability" => assert_eq!(errno == 0, rustix::process::geteuid().is_root()),
            host if by_host.contains(&host) => {}
            _ => assert_eq!(errno, 0, "{attempt}: {free:?}"),
        }
    }
    for attempt in ["clone", "a pair of streams"] {
        assert_eq!(jailed.get(attempt), Some(&0), "{attempt} is what QEMU needs: {jailed:?}");
    }
    assert_ne!(jailed.get("use a capability"), Some(&0), "{jailed:?}");
}

/// The fields of `/proc/self/status` and the limits of a program in the jail.
fn seen_inside() -> String {
    let python = python();
    let mut command = Command::new(&python);
    let script = "import resource as r\n\
                  print([r.getrlimit(l) for l in (r.RLIMIT_CORE, r.RLIMIT_MEMLOCK, r.RLIMIT_FSIZE)])";
    command.args(["-I", "-c", script]).stdout(Stdio::piped()).stdin(Stdio::null());
    let child = spawn_jailed(command, Vec::new(), jail(&python, NEEDS).expect("a jail"));
    read_all(child.expect("started"))
}

#[test]
fn limits_are_hard() {
    let file_size = NEEDS.largest_file;
    assert_eq!(seen_inside(), format!("[(0, 0), (0, 0), ({file_size}, {file_size})]\n"));
}

#[test]
fn a_device_of_kvm_is_for_machines_that_use_it() {
    let has = |kvm| {
        let permits = permits(Path::new("/usr/bin/qemu"), Needs { kvm, ..NEEDS });
        permits.devices.contains(&PathBuf::from(KVM))
    };
    assert!(has(true));
    assert!(!has(false));
}

#[test]
fn a_program_brings_what_was_installed_with_it_and_nothing_around_it() {
    let home = tempfile::tempdir().expect("a directory");
    let bin = home.path().join("opt/qemu/bin");
    fs::create_dir_all(&bin).expect("made");
    let program = bin.join("qemu");
    fs::write(&program, "\x7fELF").expect("written");
    let installed = permits(&program, NEEDS).read;
    assert!(installed.contains(&home.path().join("opt/qemu/share")), "{installed:?}");
    assert!(installed.contains(&program), "{installed:?}");
    assert!(!installed.contains(&PathBuf::from("/usr/bin")), "{installed:?}");

    let alone = home.path().join("qemu");
    fs::write(&alone, "#!/bin/sh\n").expect("written");
    let wrapper = permits(&alone, NEEDS).read;
    assert!(wrapper.contains(&PathBuf::from("/usr/bin")), "a script runs commands: {wrapper:?}");
    assert!(!wrapper.contains(&home.path().to_owned()), "{wrapper:?}");
    assert!(File::open(&alone).is_ok(), "it can be read");
}
