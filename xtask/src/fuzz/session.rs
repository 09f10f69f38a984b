//! One target under libFuzzer.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::directory;
use crate::run;
use crate::workspace::Workspace;

/// Seconds that one input may take: no target has work for a tenth of that.
const TIMEOUT: u32 = 20;

/// MiB that a target may hold: one that is led to hold more is broken, for all have bounds.
const MEMORY: u32 = 1024;

/// Bytes of an input at most. Longer ones cover nothing else, and take the fuzzer's time.
const MAX_LEN: u32 = 64 * 1024;

/// Lines of the fuzzer's log that are shown when a target broke.
const LINES_SHOWN: usize = 25;

/// A target, its program and its directories.
#[derive(Debug)]
pub(super) struct Session<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
    target: &'a str,
}

/// What a search did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Figures {
    /// Inputs that were tried.
    runs: u64,
    seconds: u64,
    /// Edges between blocks of code that some input went along.
    edges: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, seconds, edges } = self;
        write!(f, "{runs} inputs in {seconds} s, {edges} edges of code covered, none broke it")
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(workspace: &'a Workspace, programs: &Path, target: &'a str) -> Self {
        Self { workspace, program: programs.join(target), target }
    }

    pub(super) fn target(&self) -> &str {
        self.target
    }

    /// The inputs that are in the repository.
    pub(super) fn committed(&self) -> PathBuf {
        self.workspace.path("fuzz/corpus").join(self.target)
    }

    /// The inputs that the fuzzer found, from call to call.
    pub(super) fn working(&self) -> PathBuf {
        directory(self.workspace).join("corpus").join(self.target)
    }

    fn artifacts(&self) -> PathBuf {
        directory(self.workspace).join("artifacts").join(self.target)
    }

    fn log(&self) -> PathBuf {
        directory(self.workspace).join("log").join(format!("{}.log", self.target))
    }

    /// Searches for so many minutes.
    pub(super) fn search(&self, minutes: u32) -> Result<Figures> {
        println!("fuzz: {} for {minutes} min", self.target);
        for directory in [self.working(), self.artifacts()] {
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let limit = format!("-max_total_time={}", minutes.saturating_mul(60));
        let log = self.fuzzer(&limit, &[self.working(), self.committed()])?;
        figures(&log).with_context(|| format!("no figures in {}", self.log().display()))
    }

    /// Copies the smallest inputs that together cover what all inputs cover into a directory.
    pub(super) fn minimise(&self, into: &Path) -> Result<()> {
        let directories = [into.to_owned(), self.working(), self.committed()];
        self.fuzzer("-merge=1", &directories).map(drop)
    }

    /// Calls the target's program, and returns what it wrote.
    fn fuzzer(&self, option: &str, directories: &[PathBuf]) -> Result<String> {
        let path = self.log();
        fs::create_dir_all(path.parent().context("a log has a directory")?)?;
        let log = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut command = Command::new(&self.program);
        command.arg(option).args([
            format!("-timeout={TIMEOUT}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-max_len={MAX_LEN}"),
            format!("-artifact_prefix={}/", self.artifacts().display()),
        ]);
        // Both streams: a panic of the target is on the second, and so are the fuzzer's lines.
        command.args(directories).stdout(log.try_clone()?).stderr(log);
        let status =
            command.status().with_context(|| format!("cannot run {}", run::display(&command)))?;
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        if !status.success() {
            let lines: Vec<_> = text.lines().collect();
            let end = lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or(&lines);
            let again = format!("cargo run --manifest-path fuzz/Cargo.toml --bin {}", self.target);
            bail!(
                "the fuzzer ended with {status}; its log is {}\n{}\nto see it without the fuzzer: \
                 {again} -- {}/FILE",
                path.display(),
                end.join("\n"),
                self.artifacts().display(),
            );
        }
        Ok(text)
    }
}

/// Reads the last lines of libFuzzer's log.
fn figures(log: &str) -> Option<Figures> {
    let done = log.lines().rev().find_map(|line| line.strip_prefix("Done "))?;
    let mut words = done.split_whitespace();
    let runs = words.next()?.parse().ok()?;
    let seconds = words.nth(2)?.parse().ok()?;
    let edges = log.lines().rev().find_map(|line| {
        let (_, after) = line.split_once(" cov: ")?;
        after.split_whitespace().next()?.parse().ok()
    })?;
    Some(Figures { runs, seconds, edges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_log_are_read() {
        let log = "#1\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                   #900\tDONE   cov: 812 ft: 99 corp: 120/9Kb lim: 4096 exec/s: 15 rss: 60Mb\n\
                   Done 900 runs in 61 second(s)\n\
                   stat::number_of_executed_units: 900\n";
        assert_eq!(figures(log), Some(Figures { runs: 900, seconds: 61, edges: 812 }));
        assert_eq!(figures("panicked at somewhere"), None);
    }
}
