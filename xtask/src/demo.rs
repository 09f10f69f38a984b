//! `cargo xtask demo`: from a fresh clone to a sandbox at work, without a question.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::workspace::Workspace;
use crate::{build, setup};

const SCRIPT: &str = "examples/demo/audit_lock.py";
const INPUT: &str = "Cargo.lock";
/// A file that the script makes in its sandbox.
const MARK: &str = "/usr/share/matchlock-demo-was-here";

/// Installs what is missing, builds, and runs the host's Python in a sandbox.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    step(1, "install what is missing");
    setup::run()?;
    step(2, "build one static binary, with kernel and agent in it");
    let binary = build::run(workspace)?;
    step(3, "run the host's own python3 in a micro-VM");
    println!("  $ matchlock run --image host -i -- python3 -c \"$(cat {SCRIPT})\" < {INPUT}\n");
    let start = Instant::now();
    let account = sandbox(workspace, &binary)?;
    let seconds = start.elapsed().as_secs_f64();
    step(4, "what it took, and what is left");
    print_account(&account, seconds);
    ensure!(!Path::new(MARK).exists(), "{MARK} is on the host: the writable layer leaked");
    println!("  {MARK} is not on the host: it went away with the sandbox");
    println!("\nNow try your own:\n  {} run --image host -it -- sh", binary.display());
    Ok(())
}

fn step(number: u32, what: &str) {
    println!("\n== {number}/4 {what}");
}

/// Runs the script; returns the account of the run, the last line of standard error.
fn sandbox(workspace: &Workspace, binary: &Path) -> Result<Value> {
    let script = fs::read_to_string(workspace.path(SCRIPT))
        .with_context(|| format!("cannot read {SCRIPT}"))?;
    let input =
        File::open(workspace.path(INPUT)).with_context(|| format!("cannot read {INPUT}"))?;
    let mut child = Command::new(binary)
        .args(["run", "--image", "host", "--json", "-i", "--", "python3", "-c", &script])
        .stdin(Stdio::from(input))
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let mut last = None;
    for line in BufReader::new(child.stderr.take().context("no pipe")?).lines() {
        if let Some(line) = last.replace(line?) {
            eprintln!("{line}");
        }
    }
    let status = child.wait()?;
    let last = last.unwrap_or_default();
    ensure!(status.success(), "the sandbox failed ({status}): {last}");
    serde_json::from_str(&last).context("the last line of standard error is no account of the run")
}

fn print_account(account: &Value, seconds: f64) {
    println!("  {:<18} {seconds:.2} s, on {}", "whole run", accelerator(account));
    for (name, value) in account["phases_ms"].as_object().into_iter().flatten() {
        let milliseconds = value.as_f64().unwrap_or_default();
        println!("    {:<16} {milliseconds:>7.0} ms", name.replace('_', " "));
    }
}

fn accelerator(account: &Value) -> String {
    let field = &account["accelerator"];
    let name = field.as_str().or_else(|| field["accelerator"].as_str());
    match name {
        Some("tcg") => "software emulation (TCG)".to_owned(),
        Some("kvm") => "hardware virtualisation (KVM)".to_owned(),
        _ => field.to_string(),
    }
}
