//! `cargo xtask fuzz`: runs every fuzz target for a short time.
//!
//! The targets are plain functions in the library of `fuzz/`, so an ordinary test can run them too,
//! over the committed inputs and mutations of them. That is what `cargo xtask test` does, for it
//! needs no nightly toolchain; this command fuzzes for real where `cargo-fuzz` is installed.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::run;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Only these targets; all when none is named.
    targets: Vec<String>,
}

/// Fuzzes, or runs the targets as tests where there is no fuzzer.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if let Err(reason) = fuzzer() {
        println!("fuzz: {reason:#}");
        println!("fuzz: running the targets as ordinary tests instead; for the fuzzer:");
        println!("  rustup toolchain install nightly && cargo install --locked cargo-fuzz");
        return run::checked(&mut smoke_test(workspace));
    }
    let known = targets(workspace)?;
    for target in &args.targets {
        ensure!(known.contains(target), "no fuzz target {target}; there are {}", known.join(", "));
    }
    let chosen = if args.targets.is_empty() { &known } else { &args.targets };
    for target in chosen {
        println!("fuzz: {target} for {} s", args.seconds);
        let limit = format!("-max_total_time={}", args.seconds);
        let mut cargo = nightly_fuzz();
        cargo.current_dir(workspace.root());
        run::checked(cargo.args(["run", target, "--", &limit]))?;
    }
    Ok(())
}

/// The call of Cargo that runs the targets as tests. It shares the target directory and so the
/// dependencies that are already built.
pub(crate) fn smoke_test(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--no-fail-fast", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    cargo.arg(workspace.target());
    cargo
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let list = nightly_fuzz().current_dir(workspace.root()).arg("list").output()?;
    Ok(String::from_utf8_lossy(&list.stdout).lines().map(str::to_owned).collect())
}

fn nightly_fuzz() -> Command {
    // By way of rustup, for the `cargo` that runs us belongs to the pinned toolchain.
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]).env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn fuzzer() -> Result<()> {
    run::find_program("cargo-fuzz").context("cargo-fuzz is not installed")?;
    run::output(Command::new("rustup").args(["run", "nightly", "cargo", "--version"]))
        .context("there is no nightly toolchain")
        .map(drop)
}
