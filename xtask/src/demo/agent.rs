//! The agent in its sandbox.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::outside::{API, Outside};
use crate::run::unaffected;
use crate::workspace::Workspace;

/// What the agent audits.
pub(super) const INPUT: &str = "Cargo.lock";
/// The environment variable of the key.
pub(super) const SECRET: &str = "API_KEY";

const SCRIPT: &str = "examples/demo/agent.py";

/// A run that has ended well.
#[derive(Debug)]
pub(super) struct Run {
    /// What the agent printed.
    pub(super) output: String,
    /// The account of the run, the last line of standard error.
    pub(super) account: Value,
    /// How many packages there are to be found.
    pub(super) packages: u64,
}

/// Where the audit trail is kept.
pub(super) fn trail_path(directory: &Path) -> PathBuf {
    directory.join("audit.jsonl")
}

/// Runs the agent and shows what it prints.
pub(super) fn run(
    workspace: &Workspace,
    binary: &Path,
    outside: &Outside,
    directory: &Path,
) -> Result<Run> {
    let script = fs::read_to_string(workspace.path(SCRIPT))
        .with_context(|| format!("cannot read {SCRIPT}"))?;
    let lock = fs::read_to_string(workspace.path(INPUT))
        .with_context(|| format!("cannot read {INPUT}"))?;
    let packages = lock.lines().filter(|line| *line == "[[package]]").count() as u64;
    let flags = flags(outside, directory);
    print_command(outside);
    let mut command = Command::new(binary);
    command.args(["run", "--image", "host", "--json", "-i"]).args(flags);
    command.args(["--", "python3", "-c", &script]);
    unaffected(&mut command);
    command.env(SECRET, &outside.key).stdin(Stdio::from(File::open(workspace.path(INPUT))?));
    let (output, account) = watched(&mut command)?;
    Ok(Run { output, account, packages })
}

fn flags(outside: &Outside, directory: &Path) -> Vec<String> {
    let trail = trail_path(directory);
    let pairs = [
        ("--allow-host", API.to_owned()),
        ("--secret", format!("{SECRET}@{API}")),
        ("--audit-log", trail.display().to_string()),
        ("--dns-servers", outside.names.address().to_string()),
        ("--upstream-ca", outside.ca.display().to_string()),
        ("-e", format!("API_URL={}", outside.api_url())),
        ("-e", format!("EVIL_URL={}", outside.evil_url())),
    ];
    let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    pairs.chain(["--allow-private=127.0.0.1/32".to_owned()]).collect()
}

fn print_command(outside: &Outside) {
    println!("  $ export {SECRET}={}…", outside.key.get(..8).unwrap_or_default());
    println!("  $ matchlock run --image host -i --json \\");
    println!("      --allow-host {API} --secret {SECRET}@{API} --audit-log audit.jsonl \\");
    println!(
        "      --dns-servers {} --allow-private=127.0.0.1/32 --upstream-ca ca.pem \\",
        outside.names.address()
    );
    println!("      -e API_URL={} \\", outside.api_url());
    println!("      -e EVIL_URL={} \\", outside.evil_url());
    println!("      -- python3 -c \"$(cat {SCRIPT})\" < {INPUT}\n");
}

/// Shows both outputs as they come; returns the first, and the last line of the second as JSON.
fn watched(command: &mut Command) -> Result<(String, Value)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let (stdout, stderr) =
        (child.stdout.take().context("no pipe")?, child.stderr.take().context("no pipe")?);
    let shown = thread::spawn(move || show(stdout));
    let mut last = None;
    for line in BufReader::new(stderr).lines() {
        if let Some(line) = last.replace(line?) {
            eprintln!("  {line}");
        }
    }
    let output = shown.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let status = child.wait()?;
    let last = last.unwrap_or_default();
    ensure!(status.success(), "the sandbox failed ({status}): {last}");
    let account = serde_json::from_str(&last)
        .context("the last line of standard error is no account of the run")?;
    Ok((output, account))
}

fn show(stdout: impl Read) -> Result<String> {
    let mut all = String::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("  | {line}");
        all.push_str(&line);
        all.push('\n');
    }
    Ok(all)
}
