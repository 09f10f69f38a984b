//! Cargo's own description of the packages of a workspace.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run;

/// The packages of the workspace with this manifest, as `cargo metadata` describes them.
pub(super) fn packages(root: &Path, manifest: &str) -> Result<Vec<Value>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest]);
    let mut metadata: Value = serde_json::from_str(&run::output(&mut command)?)
        .context("cannot read Cargo's description of the workspace")?;
    match metadata["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => anyhow::bail!("no packages in Cargo's description of the workspace"),
    }
}
