//! `version`, `diagnose`, `completion` and help: no sandbox is needed.

use std::fs;
use std::process::Command;

use matchlock_testkit::Lab;
use serde_json::Value;

use crate::support::completions;

#[test]
fn the_version_is_one_line_in_both_forms() {
    let lab = Lab::new();
    let version = env!("CARGO_PKG_VERSION");
    let flag = lab.matchlock(&["--version"]).finish().expect(0);
    assert_eq!(flag.out(), format!("matchlock version {version}\n"));
    let command = lab.matchlock(&["version"]).finish().expect(0).out();
    let rest = command.strip_prefix(&format!("matchlock {version} (commit: ")).expect("a version");
    let json = lab.matchlock(&["version", "--json"]).finish().expect(0).out();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["version"], version);
    let (commit, built) = rest.split_once(", built: ").expect("two facts");
    assert!(!commit.is_empty() && !commit.contains(' '), "{command}");
    assert!(built.ends_with(")\n") && built.len() > 2, "{command}");
}

#[test]
fn help_is_on_standard_output_and_names_the_flags() {
    let lab = Lab::new();
    let root = lab.matchlock(&["--help"]).finish().expect(0);
    let of_sandboxes = ["list", "get", "inspect", "stop", "kill", "wait", "rm", "prune", "gc"];
    let others = ["run", "build", "pull", "audit", "diagnose", "version", "completion"];
    for word in of_sandboxes.iter().chain(&others) {
        assert!(root.out().contains(&format!("\n  {word} ")), "{word} in {}", root.out());
    }
    let run = lab.matchlock(&["run", "--help"]).finish().expect(0);
    let machine = ["--image", "--cpus", "--memory", "--timeout", "--disk-size", "--rm", "--user"];
    let network = ["--allow-host", "--add-host", "--secret", "--publish", "--address", "--mtu"];
    let more = ["--dns-servers", "--no-network", "--allow-private", "--audit-log"];
    for flag in machine.iter().chain(&network).chain(&more) {
        assert!(run.out().contains(flag), "{flag} in {}", run.out());
    }
    for finished in [root, run] {
        assert_eq!(finished.err(), "");
    }
}

#[test]
fn a_diagnosis_has_a_sign_for_each_check() {
    let lab = Lab::new();
    let finished = lab.matchlock(&["diagnose"]).finish().expect(0);
    let out = finished.out();
    for line in out.lines().filter(|line| !line.starts_with("  fix: ")) {
        let (sign, check) = line.split_once(' ').expect("a sign");
        assert!(["✓", "⚠"].contains(&sign), "{line}");
        assert!(check.split_once(": ").is_some_and(|(name, _)| !name.contains(' ')), "{line}");
    }
    for check in ["✓ qemu: ", "✓ kernel: ", "⚠ accelerator: ", "✓ state: "] {
        assert!(out.contains(check), "{check} in {out}");
    }
}

#[test]
fn a_diagnosis_in_json_is_one_object_with_every_check() {
    let lab = Lab::new();
    // What this machine really has, unlike everywhere else in these tests.
    let finished = lab.matchlock(&["diagnose", "--json"]).env_remove("MATCHLOCK_ACCEL").finish();
    let out = finished.expect(0).out();
    assert_eq!(out.lines().count(), 1, "{out}");
    let diagnosis: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(diagnosis["ok"], true, "{out}");
    let checks = diagnosis["checks"].as_array().expect("an array");
    assert!(checks.len() >= 5, "{out}");
    for check in checks {
        assert!(check["name"].is_string() && check["message"].is_string(), "{check}");
        let status = check["status"].as_str().expect("a status");
        assert!(["pass", "warn"].contains(&status), "{check}");
    }
    let accelerator = &diagnosis["accelerator"];
    let name = accelerator["accelerator"].as_str().expect("a name");
    assert!(["kvm", "tcg"].contains(&name), "{out}");
    assert!(accelerator["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{out}");
    let paravirtual = ["kvm_intel", "kvm_amd"]
        .iter()
        .all(|module| !fs::exists(format!("/sys/module/{module}")).expect("stat"))
        && fs::exists("/sys/module/kvm_pvm").expect("stat");
    if paravirtual {
        let reason = accelerator["reason"].as_str().unwrap_or_default();
        assert!(name == "tcg" && reason.contains("paravirtual"), "{out}");
    }
}

#[test]
fn a_diagnosis_that_fails_says_what_to_do() {
    let lab = Lab::new();
    for json in [false, true] {
        let args: &[&str] = if json { &["diagnose", "--json"] } else { &["diagnose"] };
        let finished = lab.matchlock(args).env("PATH", lab.home()).finish().expect(1);
        assert_eq!(finished.err(), "diagnose failed: one or more checks failed\n");
        let out = finished.out();
        if json {
            let diagnosis: Value = serde_json::from_str(&out).expect("JSON");
            assert_eq!(diagnosis["ok"], false);
            let failed = &diagnosis["checks"][0];
            assert_eq!(failed["status"], "fail", "{failed}");
            assert!(failed["fix"].as_str().is_some_and(|fix| fix.contains("qemu-system-x86")));
            assert_eq!(diagnosis["error"]["kind"], "unavailable", "{out}");
        } else {
            assert!(out.contains("✗ qemu: ") && out.contains("  fix: "), "{out}");
        }
    }
}

#[test]
fn completion_scripts_are_scripts() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = lab.matchlock(&["completion", shell]).finish().expect(0).out();
        assert!(script.contains("MATCHLOCK_COMPLETE"), "{shell} asks the binary: {script}");
    }
    assert!(completions(&lab, &["matchlock", "dia"]).contains(&"diagnose".to_owned()));
    let flags = completions(&lab, &["matchlock", "run", "--grace"]);
    assert_eq!(flags, ["--graceful-shutdown"]);
    assert!(completions(&lab, &["matchlock", "exec", ""]).iter().all(|word| word.starts_with('-')));
    let file = lab.home().join("completion.bash");
    let script = lab.matchlock(&["completion", "bash"]).finish().expect(0).stdout;
    fs::write(&file, script).expect("write");
    let parsed = Command::new("bash").arg("-n").arg(&file).status().expect("bash");
    assert!(parsed.success());
}
