//! The program under test.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::run;

/// A binary, and where and how it runs.
#[derive(Debug, Clone)]
pub(super) struct Matchlock {
    binary: PathBuf,
    any_accelerator: bool,
    home: Option<PathBuf>,
}

impl Matchlock {
    /// It demands software emulation unless any accelerator will do.
    pub(super) fn new(binary: PathBuf, any_accelerator: bool) -> Self {
        Self { binary, any_accelerator, home: None }
    }

    /// The same with another home directory, and so with a cache of its own.
    pub(super) fn at_home(&self, home: PathBuf) -> Self {
        Self { home: Some(home), ..self.clone() }
    }

    /// A call, with its output in pipes.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        run::unaffected(&mut command);
        if !self.any_accelerator {
            command.env("MATCHLOCK_ACCEL", "tcg");
        }
        if let Some(home) = &self.home {
            command.env("HOME", home).env_remove("DOCKER_CONFIG");
        }
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A sandbox of an image.
    pub(super) fn sandbox(&self, image: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&["run", "--json", "--image", image]);
        command.args(arguments);
        command
    }

    /// Runs `true` in a sandbox; returns milliseconds for the whole process, and its own account.
    pub(super) fn run_true(&self, image: &str) -> Result<(f64, Value)> {
        let mut command = self.sandbox(image, &["--", "true"]);
        let start = Instant::now();
        let output = command.output().context("cannot run matchlock")?;
        let elapsed = start.elapsed().as_secs_f64() * 1e3;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "matchlock failed ({}): {errors}", output.status);
        let last = errors.lines().last().unwrap_or_default();
        let account = serde_json::from_str(last).context("the last line is not the account")?;
        Ok((elapsed, account))
    }
}
