//! KVM for real, one level down: a sandbox with a kernel that has `KVM_AMD` runs on emulated SVM and so
//! has a working `/dev/kvm`; in it, this same binary must find that out by itself and use it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use matchlock_testkit::{Lab, binary, repository};
use serde_json::Value;

/// Two boots emulated below an emulated processor, on a machine that runs other tests beside them.
const PATIENCE: Duration = Duration::from_secs(900);

/// What the outer sandbox runs: it installs the binary from its standard input, diagnoses, runs an
/// inner sandbox on the accelerator of its choice, and one more, which must remember the proof.
const SCRIPT: &str = r#"
set -e
cat > /tmp/matchlock
chmod +x /tmp/matchlock
export HOME=/tmp/home
mkdir -p $HOME
ls -l /dev/kvm >&2
echo "diagnosis $(/tmp/matchlock diagnose --json)"
/tmp/matchlock run --image host --cpus 1 --memory 128 --disk-size 64 --json -- \
    sh -c 'echo "inner $(uname -n) $(cat /sys/hypervisor/type 2>/dev/null)"; grep -c kvm-clock \
    /sys/devices/system/clocksource/clocksource0/available_clocksource' 2> /tmp/first
echo "first $(tail -n 1 /tmp/first)"
grep -c 'software emulation' /tmp/first || true
ls $HOME/.cache/matchlock
echo left:
ls -A $HOME/.matchlock/vms
"#;

#[test]
fn an_emulated_processor_with_svm_gives_a_kvm_that_is_proven_and_used() {
    let lab = Lab::new();
    let kernel = repository().join("guest/kernel/testing/vmlinux-kvm-x86_64.zst");
    assert!(kernel.is_file(), "{} is missing: run `cargo xtask kernel`", kernel.display());
    let flags = ["-i", "--cpus", "1", "--memory", "1024", "--disk-size", "1024", "--timeout", "0"];
    let run = lab.run(&flags, &["sh", "-c", SCRIPT]).env("MATCHLOCK_KERNEL", &kernel);
    let outer = run.stdin(open(&binary())).spawn().finish(PATIENCE).expect(0);
    let said = outer.out();
    let shown = || format!("stdout: {said}\nstderr: {}", outer.err());

    let diagnosis = json_after("diagnosis ", &said);
    assert_eq!(diagnosis["accelerator"]["accelerator"], "kvm", "{}", shown());
    assert_eq!(diagnosis["ok"], true, "{}", shown());

    let first = json_after("first ", &said);
    assert_eq!(first["accelerator"]["accelerator"], "kvm", "{}", shown());
    assert_eq!(first["accelerator"]["reason"], "a guest has booted on it", "{}", shown());
    assert_eq!(first["exit_code"], 0, "{}", shown());

    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("inner vm-")), "{}", shown());
    // The inner guest sees the paravirtual clock that only KVM offers.
    assert!(lines.contains(&"1"), "{}", shown());
    assert!(lines.contains(&"0"), "no notice of emulation: {}", shown());
    assert!(lines.contains(&"kvm-proof.json"), "the proof is remembered: {}", shown());
    // `ls -A` shows no sandbox.
    assert_eq!(lines.last(), Some(&"left:"), "{}", shown());
}

fn open(path: &Path) -> Stdio {
    std::fs::File::open(path).expect("the binary").into()
}

#[track_caller]
fn json_after(prefix: &str, text: &str) -> Value {
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    let line = line.unwrap_or_else(|| panic!("no line {prefix:?} in {text}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
