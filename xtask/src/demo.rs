//! `cargo xtask demo`: from a fresh clone to an agent at work in a sandbox, without a question.
//!
//! The world outside is two web servers and a name server of the demo's own, on loopback. Each
//! thing that it tells is checked: the command fails when one is not so.

mod agent;
mod outside;
mod trail;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::agent::{Run, SECRET};
use self::outside::{API, EVIL, Outside};
use self::trail::Trail;
use crate::workspace::Workspace;
use crate::{build, setup};

const STEPS: u32 = 6;
/// A file that the agent makes in its sandbox.
const MARK: &str = "/usr/share/matchlock-demo-was-here";
/// The address that the agent tries without a name.
const ADDRESS: &str = "192.0.2.1";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Installs what is missing, builds, and shows an agent in a sandbox.
///
/// # Errors
/// When anything that the demo tells is not so.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    step(1, "install what is missing");
    setup::run()?;
    step(2, "build one static binary, with kernel and agent in it");
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::run(workspace)?,
    };
    step(3, "a small internet on loopback: two web servers with TLS, and a name server");
    let files = tempfile::tempdir().context("cannot make a temporary directory")?;
    let outside = Outside::start(files.path())?;
    outside.print();
    step(4, "an agent in a micro-VM, with the host's own python3");
    let start = Instant::now();
    let run = agent::run(workspace, &binary, &outside, files.path())?;
    let seconds = start.elapsed().as_secs_f64();
    step(5, "what was seen from the host");
    inside(&run, &outside)?;
    at_the_servers(&run, &outside)?;
    refused(&run.account)?;
    step(6, "the audit trail, what it took, and what is left");
    let trail = Trail::read(&agent::trail_path(files.path()))?;
    trail.print();
    trail.check(&outside.key)?;
    trail::verify(&binary, files.path())?;
    print_account(&run.account, seconds);
    fact(
        !Path::new(MARK).exists(),
        &format!("{MARK} is not on the host: it went away with the sandbox"),
    )?;
    println!("\nNow try your own:\n  {} run --image host -it -- sh", binary.display());
    Ok(())
}

/// The agent worked, and the key was never where it works.
fn inside(run: &Run, outside: &Outside) -> Result<()> {
    fact(run.output.contains("wrote "), "the agent wrote to /usr, in its own writable layer")?;
    let placeholder = run
        .output
        .lines()
        .find_map(|line| line.strip_prefix(&format!("${SECRET} ")))
        .map(str::trim)
        .with_context(|| format!("the agent did not print ${SECRET}"))?;
    fact(
        placeholder.starts_with("SANDBOX_SECRET_") && !run.output.contains(&outside.key),
        &format!(
            "the VM had a placeholder in ${SECRET}, the key occurs in nothing that it printed"
        ),
    )
}

/// What the servers received.
fn at_the_servers(run: &Run, outside: &Outside) -> Result<()> {
    let requests = outside.api.requests();
    ensure!(requests.len() == 1, "{API} received {} requests, not 1", requests.len());
    let request = outside.api.last();
    let given = request.header("authorization").unwrap_or_default();
    fact(
        given == format!("Bearer {}", outside.key),
        &format!(
            "{API} received {} {} with Authorization: {}",
            request.method,
            request.target,
            masked(given)
        ),
    )?;
    let report: Value =
        serde_json::from_slice(&request.body).context("the report that arrived is no JSON")?;
    fact(
        report["packages"] == run.packages,
        &format!("and a report about the {} packages of {}", report["packages"], agent::INPUT),
    )?;
    fact(
        outside.evil.connections() == 0,
        &format!("{EVIL} was there, and nobody connected to it"),
    )?;
    let asked = outside.names.received();
    fact(
        asked.iter().all(|query| query.name == API),
        &format!("the name server was asked for {API} only"),
    )
}

/// What the sandbox says it refused, with the flags that would have allowed it.
fn refused(account: &Value) -> Result<()> {
    let all = account["refused"].as_array().context("the account has no refusals")?;
    for host in [EVIL, ADDRESS] {
        let refusal = all.iter().find(|refusal| refusal["host"] == host);
        let refusal = refusal.with_context(|| format!("no refusal of {host} in the account"))?;
        let flag = refusal["allow_with"].as_str().context("a refusal without its flag")?;
        let port = refusal["port"].as_u64().map_or_else(String::new, |port| format!(":{port}"));
        fact(
            flag.contains(&format!("--allow-host {host}")),
            &format!("refused: {host}{port}; allowed by {flag}"),
        )?;
    }
    Ok(())
}

fn step(number: u32, what: &str) {
    println!("\n== {number}/{STEPS} {what}");
}

/// Tells a fact that has to be so.
fn fact(holds: bool, what: &str) -> Result<()> {
    ensure!(holds, "this is not so: {what}");
    println!("  ok  {what}");
    Ok(())
}

/// All but the ends of a secret in a header's value.
fn masked(value: &str) -> String {
    let (scheme, secret) = value.rsplit_once(' ').unwrap_or(("", value));
    let start: String = secret.chars().take(8).collect();
    let end = secret.char_indices().rev().nth(3).map_or("", |(at, _)| &secret[at..]);
    format!("{scheme} {start}…{end}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_secret_keeps_its_ends_only() {
        assert_eq!(masked("Bearer sk-demo-0123456789abcdef"), "Bearer sk-demo-…cdef");
    }

    #[test]
    fn a_fact_that_is_not_so_is_an_error() {
        assert!(fact(true, "so").is_ok());
        assert!(fact(false, "not so").is_err());
    }
}
