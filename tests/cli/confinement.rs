//! What programs may do in a sandbox: the flags of `run`, and who they hold for.

use matchlock_testkit::Lab;
use serde_json::{Value, json};

const STATUS: &str = "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | cut -f2
    ulimit -n; df -k --output=size /dev/shm | tail -n1 | tr -d ' '";

#[test]
fn what_run_was_told_holds_for_exec_and_is_shown() {
    let lab = Lab::new();
    let flags = [
        "-d",
        "--cap-drop=ALL",
        "--cap-add=cap_kill",
        "--cap-add",
        "NET_BIND_SERVICE",
        "--security-opt",
        "no-new-privileges:false",
        "--ulimit",
        "nofile=100:200",
        "--pids-limit=50",
        "--shm-size=16m",
        "--init",
        "--no-network",
    ];
    let started = lab.run(&flags, &["sleep", "600"]).finish().expect(0);
    let out = started.out();
    let id = out.trim();

    let seen = lab.matchlock(&["exec", id, "sh", "-c", STATUS]).finish().expect(0);
    assert_eq!(seen.out(), "0000000000000420\n0\n2\n100\n16384\n");

    let shown = lab.matchlock(&["inspect", id]).finish().expect(0);
    let shown: Value = serde_json::from_str(&shown.out()).expect("JSON");
    let config = &shown["vm"]["config"];
    assert_eq!(config["privileged"], false);
    let security = json!({
        "hardened": false, "cap_add": ["KILL", "NET_BIND_SERVICE"], "cap_drop": ["ALL"],
        "no_new_privileges": false, "seccomp": "default",
    });
    assert_eq!(config["security"], security);
    let limits = json!({"ulimits": ["nofile=100:200"], "pids": 50, "shm_size": 16 << 20});
    assert_eq!(config["limits"], limits);
    lab.matchlock(&["rm", "-f", id]).finish().expect(0);
}

#[test]
fn what_cannot_be_is_refused_before_anything_starts() {
    let lab = Lab::new();
    let cases: [(&[&str], &str); 8] = [
        (&["--cap-add=WINGS"], "--cap-add: there is no capability \"WINGS\""),
        (&["--cap-drop=CAP_ALL"], "--cap-drop: there is no capability \"CAP_ALL\""),
        (&["--security-opt=seccomp=/x.json"], "profiles in files are not supported"),
        (&["--security-opt=selinux"], "--security-opt: there is no option \"selinux\""),
        (&["--ulimit=nofile=9:8"], "--ulimit \"nofile=9:8\": the first limit must not be above"),
        (&["--pids-limit=1"], "--pids-limit must be from 2 to 4194304"),
        (&["--shm-size=0"], "--shm-size must be > 0"),
        (&["--hardened", "--privileged"], "--privileged and --hardened cannot be used together"),
    ];
    for (flags, says) in cases {
        let finished = lab.run(flags, &["true"]).finish().expect(125);
        assert!(finished.err().contains(says), "{flags:?}: {}", finished.err());
        assert_eq!(lab.leaks(), Vec::<String>::new(), "{flags:?}");
    }
    let both = ["--hardened", "--security-opt=no-new-privileges=false"];
    let finished = lab.run(&both, &["true"]).finish().expect(125);
    assert!(finished.err().contains("--hardened does not go with"), "{}", finished.err());
}
