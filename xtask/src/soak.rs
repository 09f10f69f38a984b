//! `cargo xtask soak`: what has to hold however often, many times.
//!
//! The cases are those of `tests/cli/soak.rs`, of which `cargo xtask test` runs a few rounds.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{build, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds of killed processes; ten times as many programs, and five times as many cancelled ones.
    #[arg(short = 'n', long, default_value_t = 100)]
    rounds: u32,
    /// Try this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Only the cases whose name has this in it.
    filter: Option<String>,
}

/// Builds and runs the cases, one after the other.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(&[Need::Qemu])?;
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().context("no such binary")?,
        None => build::for_tests(workspace)?,
    };
    let filter = format!("soak::{}", args.filter.as_deref().unwrap_or_default());
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--package", "matchlock-e2e", "--test", "cli", "--", &filter]);
    cargo.args(["--test-threads", "1"]);
    cargo.env("MATCHLOCK_BIN", binary).env("MATCHLOCK_SOAK_ROUNDS", args.rounds.to_string());
    run::checked(&mut cargo)
}
