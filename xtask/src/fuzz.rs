//! `cargo xtask fuzz`: searches for inputs that break a decoder, guided by the coverage of its code.
//!
//! The targets are plain functions in the library of `fuzz/`. `cargo xtask test` runs them as an
//! ordinary test over the inputs in `fuzz/corpus` and mutations of those. This command builds them
//! with libFuzzer, by `cargo-fuzz` and the pinned toolchain: what cargo-fuzz wants of a nightly
//! compiler is instrumentation, which a stable one has behind `RUSTC_BOOTSTRAP`.
//!
//! A fuzzer works on a corpus of its own in the target directory, which grows from call to call.
//! `--keep` brings the smallest inputs that cover the same code into the repository.

mod kept;
mod session;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::run;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes for each target; as many targets run at once as there are processors.
    #[arg(long, default_value_t = 1)]
    minutes: u32,
    /// Bring the smallest inputs that cover the same code into `fuzz/corpus`.
    #[arg(long)]
    keep: bool,
    /// Only these targets; all when none is named.
    targets: Vec<String>,
}

/// Fuzzes.
///
/// # Errors
/// When a target broke; the message says which, and with what input.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let known = targets(workspace)?;
    for target in &args.targets {
        ensure!(known.contains(target), "no fuzz target {target}; there are {}", known.join(", "));
    }
    let chosen = if args.targets.is_empty() { known } else { args.targets.clone() };
    let programs = build(workspace)?;
    let queue = Mutex::new(chosen.into_iter());
    let broken = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(target) = locked(&queue).next() else { return };
                    let session = Session::new(workspace, &programs, &target);
                    if let Err(error) = fuzz(&session, args) {
                        eprintln!("fuzz: {target}: {error:#}");
                        locked(&broken).push(target);
                    }
                }
            });
        }
    });
    let broken = locked(&broken);
    ensure!(broken.is_empty(), "{} did not hold", broken.join(", "));
    Ok(())
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fuzz(session: &Session<'_>, args: &Args) -> Result<()> {
    let figures = session.search(args.minutes)?;
    println!("fuzz: {}: {figures}", session.target());
    if args.keep {
        let kept = kept::renew(session)?;
        println!("fuzz: {}: {kept}", session.target());
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

/// The names of the targets, in the order of the alphabet.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.path("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in directory.read_dir().context("cannot list the fuzz targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets with instrumentation, and says where their programs are.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    setup::ensure(&[Need::CxxCompiler])?;
    let cargo_fuzz = cargo_fuzz(workspace)?;
    let target = directory(workspace).join("build");
    // The targets are safe code, which panics where other languages would overrun: an address
    // sanitizer would only slow them down.
    let mut build = workspace.cargo_as(cargo_fuzz);
    build.args(["fuzz", "build", "--sanitizer", "none", "--target", setup::GNU, "--target-dir"]);
    build.arg(&target).env("RUSTC_BOOTSTRAP", "1");
    run::checked(&mut build)?;
    Ok(target.join(setup::GNU).join("release"))
}

/// The program of cargo-fuzz, installed for this repository alone where there is none.
fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(program) = run::find_program("cargo-fuzz") {
        return Ok(program);
    }
    let tools = directory(workspace).join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.exists() {
        println!("fuzz: installing cargo-fuzz");
        let mut cargo = workspace.cargo();
        cargo.args(["install", "--locked", "--quiet", "cargo-fuzz", "--root"]).arg(&tools);
        run::checked(&mut cargo)?;
    }
    Ok(program)
}

/// Everything of the fuzzers that is not in the repository.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("fuzz")
}

/// The files of a directory with their lengths in bytes, the shortest first.
fn files(directory: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    let entries = directory.read_dir();
    for entry in entries.with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    files.sort();
    Ok(files)
}
