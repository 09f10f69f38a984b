//! The Python SDK as its makers have published it, in an environment of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{run, setup};

/// The distribution and the release that the contract names.
const RELEASE: &str = "matchlock==0.2.17";

/// Installs the SDK if it is not there, and returns the interpreter that has it.
pub(super) fn python(workspace: &Workspace) -> Result<PathBuf> {
    let environment = workspace.target().join("test/python-sdk");
    let python = environment.join("bin/python");
    let has_it = |python: &PathBuf| {
        let mut asked = Command::new(python);
        asked.args(["-c", "from importlib.metadata import version; print(version('matchlock'))"]);
        run::output(&mut asked).is_ok_and(|version| RELEASE.ends_with(&format!("=={version}")))
    };
    if has_it(&python) {
        return Ok(python);
    }
    setup::ensure(&[setup::Need::Venv])?;
    // What an interrupted call has left.
    if environment.exists() {
        fs::remove_dir_all(&environment).context("cannot remove the old environment")?;
    }
    run::checked(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", RELEASE]);
    run::checked(&mut pip).with_context(|| format!("cannot install {RELEASE}"))?;
    Ok(python)
}
