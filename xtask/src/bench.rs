//! `cargo xtask bench`: measurements, as JSON on standard output and a table on standard error.
//!
//! Machines are shared and their speed changes within the hour, so what is compared is measured in
//! the same run, in turns, and the ratio is the result.

mod bare;
mod boot;
mod images;
mod live;
mod matchlock;
mod net;
mod procfs;
mod series;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, clap::Subcommand)]
enum Benchmark {
    /// Start to end of a sandbox, against a bare boot of the same kernel in the same machine.
    Boot(boot::Args),
    /// Pulling against `skopeo copy`, the store's size, the start from an image, reading its files.
    Images(images::Args),
    /// Sandboxes that run: programs, streams, lists, ends, and what many that wait take.
    Live(live::Args),
    /// Interception, against the same client direct to the same server.
    Net(net::Args),
}

/// Runs a benchmark.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    match &args.benchmark {
        Benchmark::Boot(args) => boot::run(workspace, args),
        Benchmark::Images(args) => images::run(workspace, args),
        Benchmark::Live(args) => live::run(workspace, args),
        Benchmark::Net(args) => net::run(workspace, args),
    }
}

/// Writes a report to a file, or to standard output.
fn deliver(report: &serde_json::Value, file: Option<&Path>) -> Result<()> {
    match file {
        Some(file) => fs::write(file, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", file.display())),
        None => {
            println!("{report:#}");
            Ok(())
        }
    }
}
