//! `cargo xtask bench images`: pulling against `skopeo copy`, the size of the store, the start from
//! an image against that from the host's directories, reading an image's files against ext4.

mod pull;
mod read;
mod size;
mod start;
mod table;

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use matchlock_testkit::TestImage;
use serde_json::json;

use crate::bench::boot::host;
use crate::bench::deliver;
use crate::bench::matchlock::Matchlock;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{build, image, run};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pairs of a pull and a copy.
    #[arg(short = 'n', long, default_value_t = 5)]
    samples: u32,
    /// Pairs of a start from the host's directories and one from an image; 0 leaves this out.
    #[arg(long, default_value_t = 10)]
    starts: u32,
    /// Pairs of reading all files; 0 leaves this out.
    #[arg(long, default_value_t = 5)]
    reads: u32,
    /// Write the JSON to this file instead of to standard output.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Leave the choice of the accelerator to matchlock instead of demanding software emulation.
    #[arg(long)]
    any_accelerator: bool,
}

/// Measures and prints.
pub(super) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    setup::ensure(&[Need::Qemu, Need::DockerRegistry, Need::Skopeo])?;
    image::make(workspace)?;
    let binary = match &args.binary {
        Some(binary) => fs::canonicalize(binary).context("there is no such binary")?,
        None => build::run(workspace)?,
    };
    let files = tempfile::Builder::new().prefix("matchlock-bench").tempdir()?;
    let matchlock = Matchlock::new(binary, args.any_accelerator);
    let pull = pull::measure(&matchlock, files.path(), args.samples)?;
    let resident = matchlock.at_home(files.path().join("resident"));
    fs::create_dir(files.path().join("resident"))?;
    let start = match args.starts {
        0 => None,
        starts => {
            import(&resident, TestImage::Debian)?;
            Some(start::measure(&resident, TestImage::Debian.name(), starts)?)
        }
    };
    let read = match args.reads {
        0 => None,
        reads => {
            import(&resident, TestImage::TenLayers)?;
            Some(read::measure(&resident, TestImage::TenLayers.name(), reads)?)
        }
    };
    let report = json!({
        "benchmark": "images",
        "host": host(),
        "pull": pull,
        "start": start,
        "read": read,
    });
    table::print(&report);
    deliver(&report, args.json.as_deref())
}

/// Stores an image under its name.
fn import(matchlock: &Matchlock, image: TestImage) -> Result<()> {
    let archive = image.path();
    let archive =
        File::open(&archive).with_context(|| format!("cannot open {}", archive.display()))?;
    let mut import = matchlock.command(&["image", "import", image.name()]);
    // Not with `run::output`, which has an empty input.
    let output = import.stdin(archive).output().context("cannot run matchlock")?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed: {}",
        run::display(&import),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
