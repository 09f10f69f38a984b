//! `matchlock pull` into an empty store, against `skopeo copy` to an empty directory: of the same
//! image, from the same registry, in turns.
//!
//! Skopeo keeps the layers as they come and compares digests; matchlock also uncompresses them, and
//! writes the file systems.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use matchlock_testkit::TestImage;
use matchlock_testkit::docker_registry::{DockerRegistry, Options};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use super::size;
use crate::bench::matchlock::Matchlock;
use crate::bench::procfs::Process;
use crate::bench::series::{Series, round};
use crate::run;

const IMAGE: &str = "bench/ten-layers:1";
/// How often the memory of a pull is looked at; the peak is the kernel's own.
const LOOK: Duration = Duration::from_millis(2);

/// What a process took.
#[derive(Debug, Default)]
struct Cost {
    elapsed_ms: Series,
    cpu_ms: Series,
}

pub(super) fn measure(matchlock: &Matchlock, files: &Path, samples: u32) -> Result<Value> {
    let registry = DockerRegistry::start(Options::default());
    let reference = registry.push(&TestImage::TenLayers.path(), IMAGE);
    let (home, copied) = (files.join("home"), files.join("copied"));
    let matchlock = matchlock.at_home(home.clone());
    let mut pull = matchlock.command(&["pull", &reference]);
    // Nobody reads pipes here.
    pull.stdout(Stdio::null()).stderr(Stdio::null());
    let (mut pulls, mut copies) = (Cost::default(), Cost::default());
    // The first pair has the registry's files read and is not counted.
    for sample in 0..=samples {
        let (copy, pulled) = if sample == 0 {
            (&mut Cost::default(), &mut Cost::default())
        } else {
            (&mut copies, &mut pulls)
        };
        empty(&copied)?;
        copy.add(&mut registry.copy_out(IMAGE, &copied))?;
        empty(&home)?;
        pulled.add(&mut pull)?;
        if sample > 0 {
            let (pull, copy) = (pulls.elapsed_ms.last(), copies.elapsed_ms.last());
            eprintln!("bench: {sample}/{samples}: copy {copy:.0} ms, pull {pull:.0} ms");
        }
    }
    let size = size::measure(&matchlock, &home, &copied)?;
    empty(&home)?;
    let peak = peak_memory(&mut pull)?;
    Ok(json!({
        "samples": samples,
        "skopeo": skopeo_version(),
        "skopeo_ms": copies.elapsed_ms.to_json(),
        "skopeo_cpu_ms": copies.cpu_ms.to_json(),
        "pull_ms": pulls.elapsed_ms.to_json(),
        "pull_cpu_ms": pulls.cpu_ms.to_json(),
        "ratio": {
            "of_medians": round(pulls.elapsed_ms.median() / copies.elapsed_ms.median()),
            "of_pairs": pulls.elapsed_ms.over(&copies.elapsed_ms).to_json(),
        },
        "pull_peak_kib": peak,
        "size": size,
    }))
}

impl Cost {
    /// Runs a program. What its children take is not in its CPU time: the programs have none.
    fn add(&mut self, command: &mut Command) -> Result<()> {
        let start = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot run {}", run::display(command)))?;
        let pid = Pid::from_child(&child);
        // It stays a zombie, of which the times can be read.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), ended).context("cannot wait")?;
        let elapsed = start.elapsed();
        let cpu = Process(child.id()).cpu_time().context("the process is gone")?;
        let status = child.wait()?;
        ensure!(status.success(), "{} failed ({status})", run::display(command));
        self.elapsed_ms.push(elapsed.as_secs_f64() * 1e3);
        self.cpu_ms.push(cpu * 1e3);
        Ok(())
    }
}

/// Most resident memory of a run, in KiB.
fn peak_memory(command: &mut Command) -> Result<u64> {
    let mut child = command.spawn()?;
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        peak = Process(child.id()).peak_memory().unwrap_or_default().max(peak);
        thread::sleep(LOOK);
    }
    let status = child.wait()?;
    ensure!(status.success() && peak > 0, "{} failed ({status})", run::display(command));
    Ok(peak)
}

/// Makes a directory anew, empty.
fn empty(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir(directory).with_context(|| format!("cannot create {}", directory.display()))
}

fn skopeo_version() -> Option<String> {
    run::output(Command::new("skopeo").arg("--version")).ok()
}
