//! What several topics need.

use std::fs;
use std::process::Command;

use matchlock_testkit::{Invocation, Lab, PATIENCE, Running, binary};

/// `sh -c SCRIPT` in a sandbox.
pub(crate) fn sh(lab: &Lab, flags: &[&str], script: &str) -> Invocation {
    lab.run(flags, &["sh", "-c", script])
}

/// What is below `vms`: one directory for each sandbox.
pub(crate) fn sandboxes(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.home().join(".matchlock/vms")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("vm-"))
        .collect()
}

/// Waits until the monitor of a sandbox was started; its agent does not answer yet.
pub(crate) fn wait_for_monitor(lab: &Lab, running: &mut Running) {
    running.wait_until("a monitor", PATIENCE, || {
        // QEMU is also asked for its version; only a machine has a name.
        let is_machine = |line: &String| line.contains("qemu") && line.contains("vm-");
        processes(lab).iter().any(is_machine).then_some(())
    });
}

/// Processes of the sandboxes of this lab, as the leak check finds them.
pub(crate) fn processes(lab: &Lab) -> Vec<String> {
    lab.leaks().into_iter().filter(|line| line.starts_with("process ")).collect()
}

/// The number in a text like `MemTotal:   12 kB`.
pub(crate) fn number(text: &str) -> u64 {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in {text:?}"))
}

/// What Bash offers for the last of these words, with our script.
pub(crate) fn completions(lab: &Lab, words: &[&str]) -> Vec<String> {
    let script = lab.matchlock(&["completion", "bash"]).finish().expect(0).out();
    let last = words.len() - 1;
    let ask = format!(
        "{script}\nCOMP_WORDS=(\"$@\")\nCOMP_CWORD={last}\nCOMP_TYPE=63\n\
         _clap_complete_matchlock matchlock \"${{COMP_WORDS[{last}]}}\" x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let programs = binary().parent().expect("a directory").to_owned();
    let path = std::env::var("PATH").expect("text");
    let asked = Command::new("bash")
        .args(["--norc", "-c", &ask, "bash"])
        .args(words)
        .env("HOME", lab.home())
        .env("PATH", format!("{}:{path}", programs.display()))
        .output()
        .expect("bash");
    let said = String::from_utf8(asked.stdout).expect("text");
    // They are apart by vertical tabs.
    said.split(['\u{b}', '\n'])
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}
