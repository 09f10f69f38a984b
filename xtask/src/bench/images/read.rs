//! Reading all files of an image in a guest, with nothing in the guest's page cache: from the image
//! (EROFS beneath overlayfs), against a copy of them on a volume (ext4), in turns.
//!
//! The host has both in its own page cache, so it is the guest's work that is compared.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bench::matchlock::Matchlock;
use crate::bench::series::{Series, round};
use crate::run;

const VOLUME: &str = "bench";
/// Where the volume is mounted.
const COPY: &str = "/mnt/copy";
/// Of the volume: room for the image and for ext4's own.
const MEGABYTES: &str = "1024";
/// No measurement ends with the default limit of a sandbox's time.
const TIMEOUT: &str = "1800";
const WALK: &str = include_str!("read.py");

pub(super) fn measure(matchlock: &Matchlock, image: &str, samples: u32) -> Result<Value> {
    eprintln!("bench: copying {image} to a volume");
    run::output(&mut matchlock.command(&["volume", "create", VOLUME, "--size", MEGABYTES]))?;
    run::output(&mut in_guest(matchlock, image, "", &["cp", "-ax", "/.", COPY]))?;
    eprintln!("bench: reading all files, {samples} times each");
    let pairs = samples.to_string();
    // Read-only: nothing is written back while we measure.
    let arguments = ["python3", "-c", WALK, &pairs, "/", COPY];
    let output = run::output(&mut in_guest(matchlock, image, ":ro", &arguments))?;
    let (mut erofs, mut ext4) = (Series::default(), Series::default());
    let mut read = None;
    for line in output.lines() {
        let walk: Value = serde_json::from_str(line).context("the guest says something else")?;
        let series = if walk["top"] == "/" { &mut erofs } else { &mut ext4 };
        series.push(walk["ms"].as_f64().context("no time")?);
        // Otherwise different files were read.
        let same = read.get_or_insert_with(|| (walk["files"].clone(), walk["bytes"].clone()));
        ensure!(*same == (walk["files"].clone(), walk["bytes"].clone()), "not the same: {output}");
    }
    let (files, bytes) = read.context("nothing was read")?;
    Ok(json!({
        "samples": samples,
        "files": files,
        "bytes": bytes,
        "erofs_ms": erofs.to_json(),
        "ext4_ms": ext4.to_json(),
        "ratio": {
            "of_medians": round(erofs.median() / ext4.median()),
            "of_pairs": erofs.over(&ext4).to_json(),
        },
    }))
}

/// A command in a sandbox with the volume.
fn in_guest(matchlock: &Matchlock, image: &str, options: &str, command: &[&str]) -> Command {
    let disk = format!("@{VOLUME}:{COPY}{options}");
    let arguments = ["--timeout", TIMEOUT, "--disk", &disk, "--"];
    let mut sandbox = matchlock.sandbox(image, &arguments);
    sandbox.args(command);
    sandbox
}
