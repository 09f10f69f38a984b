//! What the flags of `run` change of what programs may do.

use matchlock_core::{Capabilities, ConfinementSpec, Limits, SandboxSpec, ulimit};

use crate::lab::{Lab, spec};
use crate::run::{argv, python, sh};

cases![
    a_sandbox_has_the_capabilities_privileges_and_limits_that_were_asked_for,
    hardened_there_are_no_namespaces_no_debuggers_and_fewer_capabilities,
    hardened_programs_that_ask_for_nothing_work,
];

/// The same for every program of the sandbox, whoever starts it.
async fn a_sandbox_has_the_capabilities_privileges_and_limits_that_were_asked_for(lab: &Lab) {
    let set = |name: &str| name.parse::<Capabilities>().expect("a capability");
    let confinement = ConfinementSpec {
        cap_add: set("NET_ADMIN"),
        // Without them the agent could not change to another user.
        cap_drop: ["CAP_CHOWN", "setuid", "SETGID"]
            .map(set)
            .into_iter()
            .fold(Capabilities::NONE, Capabilities::union),
        no_new_privileges: Some(false),
        ..ConfinementSpec::default()
    };
    let limit = |text: &str| ulimit(text).expect("a limit");
    let limits = Limits {
        ulimits: ["nofile=1024:2048", "core=0", "nproc=-1"].map(limit).into(),
        pids: Some(40),
        shm_size: Some(8 << 20),
    };
    let wanted = SandboxSpec { confinement, limits, network: None, ..spec() };
    let sandbox = lab.own(wanted.into()).await.expect("a sandbox");
    let status = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2";
    let text = sh(status).text(&sandbox).await;
    assert_eq!(text, "00000000a804353a\n00000000a804353a\n0\n2");
    sh("ip link add dummy0 type dummy && ip link del dummy0").text(&sandbox).await;
    assert_ne!(sh("chown nobody /tmp").on(&sandbox).await.status.shell_code(), 0);
    let script =
        "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -Sp; df -k --output=size /dev/shm | tail -n1";
    for user in ["root", "nobody"] {
        let text = sh(script).user(user).text(&sandbox).await;
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines, ["1024", "2048", "0", "unlimited", "8192"], "{user}");
    }
    // A program with set-user-id gains what its file says.
    sh("cp /usr/bin/id /tmp/set-user-id; chmod 4755 /tmp/set-user-id").text(&sandbox).await;
    let text = argv(["/tmp/set-user-id", "-u"]).user("60123").text(&sandbox).await;
    assert_eq!(text, "0");
    let forks = "
import os
children = []
try:
    while len(children) < 100:
        child = os.fork()
        if child == 0:
            os.read(0, 1)
            os._exit(0)
        children.append(child)
except BlockingIOError:
    pass
print(len(children), flush=True)
os.read(0, 1)
";
    // It waits for input that does not come, and its children with it.
    let mut running = python(forks).piped().start(&sandbox).await;
    let seen = running.wait_for("\n").await;
    let forked: u32 = seen.trim().parse().expect("a number");
    assert!((30..40).contains(&forked), "{forked}");
    drop(running);
    sandbox.end().await;
}

async fn hardened_there_are_no_namespaces_no_debuggers_and_fewer_capabilities(lab: &Lab) {
    let sandbox = lab.hardened().await;
    let status = "grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2";
    assert_eq!(sh(status).text(sandbox).await, "00000000000004fb\n00000000000004fb\n1\n2");
    let refused = [
        "unshare --user true",
        "unshare --user --map-root-user true",
        "bwrap --unshare-all --ro-bind / / true",
        "strace true",
        "chroot / true",
        "mknod /tmp/hardened c 1 3",
        "ping -c1 -W1 127.0.0.1",
        "setarch --addr-no-randomize true",
        "mount -t tmpfs none /mnt",
        "echo 1 >/proc/sys/user/max_user_namespaces",
    ];
    for user in ["root", "nobody"] {
        for script in refused {
            let ended = sh(script).user(user).on(sandbox).await;
            assert_ne!(ended.status.shell_code(), 0, "{script} of {user}: {}", ended.out());
        }
        let script = "cat /proc/sys/user/max_user_namespaces";
        assert_eq!(sh(script).user(user).text(sandbox).await, "0");
    }
    let families = "
import socket
for family in socket.AF_PACKET, socket.AF_VSOCK, socket.AF_ALG:
    try:
        print(socket.socket(family, socket.SOCK_RAW))
    except OSError as error:
        print(error.errno)
";
    assert_eq!(python(families).text(sandbox).await, "1\n1\n1");
}

async fn hardened_programs_that_ask_for_nothing_work(lab: &Lab) {
    let sandbox = lab.hardened().await;
    let threads = "
import socket, subprocess, threading
seen = []
thread = threading.Thread(target=lambda: seen.append(subprocess.check_output(['echo', 'child'])))
thread.start(); thread.join()
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
print(seen, socket.gethostbyname('localhost'))
";
    let text = python(threads).user("nobody").text(sandbox).await;
    assert_eq!(text, "[b'child\\n'] 127.0.0.1");
    let script =
        "touch /tmp/owned && chown nobody /tmp/owned && setpriv --reuid 60123 --clear-groups id -u";
    assert_eq!(sh(script).text(sandbox).await, "60123");
}
