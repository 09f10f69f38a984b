//! What the monitor and the supervisor of a running sandbox may still do, as the kernel tells it.

use std::collections::BTreeMap;
use std::fs;

use matchlock_testkit::{Lab, PATIENCE, Running};
use rustix::process::Signal;

use crate::support::{processes, sh};

/// A sandbox whose command runs, and the process id of its monitor.
fn started(lab: &Lab) -> (Running, u32) {
    let mut running = sh(lab, &[], "echo up; exec sleep 600").spawn();
    running.wait_for("up", PATIENCE);
    let all = processes(lab);
    let monitor = all.iter().find(|line| line.contains("qemu")).expect("the monitor");
    let id = monitor["process ".len()..].split(':').next().expect("an id").to_owned();
    (running, id.parse().expect("a number"))
}

fn status(process: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// What each descriptor is, with numbers taken off.
fn descriptors(process: u32) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).expect("a process").flatten();
    let named = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind);
        Some((number, kind.to_owned()))
    });
    named.collect()
}

#[test]
fn the_monitor_has_filters_and_neither_privileges_nor_a_way_to_some() {
    let lab = Lab::new();
    let (running, monitor) = started(&lab);
    let monitor = status(monitor);
    assert_eq!(monitor["NoNewPrivs"], "1");
    assert_eq!(monitor["Seccomp"], "2", "a filter");
    // Two of ours, and one of its own.
    assert!(monitor["Seccomp_filters"].parse::<u32>().is_ok_and(|n| n >= 3), "{monitor:?}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let root = rustix::process::geteuid().is_root();
        if root || set != "CapBnd" {
            assert_eq!(monitor[set], "0000000000000000", "{set}");
        }
    }
    running.signal(Signal::INT);
    running.finish(PATIENCE).expect(128 + 2);
}

#[test]
fn the_monitor_holds_what_its_devices_need_and_no_other_descriptor() {
    let lab = Lab::new();
    // What whoever started us has left open must not get through to it.
    let secret = fs::File::create(lab.home().join("secret")).expect("a file");
    rustix::io::fcntl_setfd(&secret, rustix::io::FdFlags::empty()).expect("inherited");
    let (running, monitor) = started(&lab);
    let supervisor = descriptors(running.pid());
    assert!(supervisor.values().any(|target| target.ends_with("/secret")), "{supervisor:?}");
    let held = descriptors(monitor);
    let expected = |target: &str| {
        let memory = target.starts_with("/memfd:");
        let anonymous = target.starts_with("anon_inode") || matches!(target, "pipe" | "socket");
        // The writable layer is a file without a name.
        let layer =
            target.starts_with(&*lab.home().to_string_lossy()) && target.ends_with("(deleted)");
        memory || anonymous || layer || target == "/dev/null"
    };
    let others: Vec<_> = held.iter().filter(|(_, target)| !expected(target)).collect();
    assert!(others.is_empty(), "{others:?} of {held:?}");
    assert_eq!(held[&0], "/dev/null");
    running.signal(Signal::INT);
    running.finish(PATIENCE).expect(128 + 2);
}
