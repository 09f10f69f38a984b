//! What a user of the same machine reaches of somebody's sandbox: nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use matchlock_testkit::{Lab, PATIENCE, Running, binary, skip};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{processes, sandboxes, sh};

const OWNER: u32 = 65_534;
const OTHER: u32 = 65_533;

/// Of the distribution: one in somebody's home cannot be started by others.
const PYTHON: &str = "/usr/bin/python3";

/// A sandbox of [`OWNER`], and all that could be reached of it.
struct Sandbox {
    lab: Lab,
    running: Running,
    directory: PathBuf,
    monitor: u32,
}

fn as_user(user: u32) -> Vec<String> {
    let id = user.to_string();
    let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"];
    words.map(str::to_owned).into()
}

fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

impl Sandbox {
    fn start() -> Self {
        let lab = Lab::new();
        let copy = lab.home().join("matchlock");
        fs::copy(binary(), &copy).expect("copy");
        open_to_all(&copy, 0o755);
        // Not the home of a user keeps others out, who may have opened it.
        open_to_all(lab.home(), 0o755);
        chown(lab.home(), Some(OWNER), Some(OWNER)).expect("chown");
        let user = as_user(OWNER);
        let user: Vec<&str> = user.iter().map(String::as_str).collect();
        let mut running =
            sh(&lab, &[], "echo up; exec sleep 600").program(&copy).under(&user).spawn();
        running.wait_for("up", PATIENCE);
        let monitor = processes(&lab).into_iter().find(|line| line.contains("qemu"));
        let monitor = monitor.expect("the monitor")["process ".len()..].to_owned();
        let monitor = monitor.split(':').next().expect("an id").parse().expect("a number");
        let directory = lab.home().join(".matchlock/vms").join(&sandboxes(&lab)[0]);
        Self { lab, running, directory, monitor }
    }

    /// What a user gets with each attempt, as an error number.
    fn attempts(&self, user: u32) -> BTreeMap<String, i32> {
        let state = self.lab.home().join(".matchlock");
        let vms = state.join("vms");
        let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let entries = |path: &Path| fs::read_dir(path).expect("a directory").flatten();
        let below = entries(&state).chain(entries(&self.directory)).map(|entry| entry.path());
        let directory = File::open(&self.directory).expect("a directory");
        fcntl_setfd(&directory, FdFlags::empty()).expect("inherited");
        let json = br#"{"jsonrpc":"2.0","id":1,"method":"no_such_method"}"#;
        let length = u32::try_from(json.len()).expect("short").to_be_bytes();
        let call: Vec<u8> = [&[0x40][..], &length, json].concat();
        let given = json!({
            "socket": self.directory.join("control.sock"),
            "directory": directory.as_raw_fd(),
            "call": call.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "files": below.filter(is_file).collect::<Vec<_>>(),
            "directories": [&state, &vms, &self.directory],
            "processes": { "supervisor": self.running.pid(), "monitor": self.monitor },
        });
        let words = as_user(user);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([PYTHON, "-I", "-c", include_str!("other_users.py")]);
        let said = command.arg(given.to_string()).output().expect("started");
        serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    fn end(self) {
        self.running.signal(Signal::INT);
        self.running.finish(PATIENCE).expect(128 + 2);
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("only root can be two users");
    }
    root
}

#[test]
fn a_user_of_another_id_reaches_nothing_of_a_sandbox() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::start();
    let (owner, other) = (sandbox.attempts(OWNER), sandbox.attempts(OTHER));
    assert!(other.keys().any(|attempt| attempt.ends_with("state.db")), "{other:?}");
    for (attempt, &errno) in &other {
        let refused = [Errno::ACCESS, Errno::PERM].map(Errno::raw_os_error).contains(&errno);
        assert!(refused, "{attempt}: {errno} of {other:?}");
    }
    // The same attempts are good for something: their owner gets there.
    for (attempt, &errno) in &owner {
        let closed = attempt.starts_with("supervisor") && !attempt.ends_with("signal");
        let traces = attempt == "monitor: trace";
        assert!(closed || traces || errno == 0, "{attempt}: {errno} of {owner:?}");
    }
    sandbox.end();
}

#[test]
fn nobody_looks_into_the_memory_of_a_supervisor_also_not_its_own_user() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::start();
    let owner = sandbox.attempts(OWNER);
    for what in ["mem", "environ", "maps", "fd", "trace"] {
        let errno = owner[&format!("supervisor: {what}")];
        let refused = [Errno::ACCESS, Errno::PERM].map(Errno::raw_os_error).contains(&errno);
        assert!(refused, "{what}: {errno} of {owner:?}");
    }
    assert_eq!(owner["supervisor: signal"], 0, "it is the same user's: {owner:?}");
    sandbox.end();
}

/// The permissions of files are not all that there is between users.
#[test]
fn the_control_socket_asks_who_calls() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::start();
    let vms = sandbox.directory.parent().expect("a directory").to_owned();
    for directory in [vms.parent().expect("a directory"), &vms, &sandbox.directory] {
        open_to_all(directory, 0o755);
    }
    open_to_all(&sandbox.directory.join("control.sock"), 0o666);
    let other = sandbox.attempts(OTHER);
    for attempt in ["connect", "connect through a descriptor"] {
        assert_eq!(other[attempt], Errno::CONNRESET.raw_os_error(), "{other:?}");
    }
    assert_eq!(sandbox.attempts(OWNER)["connect"], 0);
    sandbox.end();
}
