//! Checks of what no compiler reads: documents, arrows between crates, and text that must not be in
//! the repository.
//!
//! They are tests of this package, so `cargo test` runs them, and `cargo xtask lint` does too.

mod arrows;
mod dependencies;
mod documents;
mod metadata;
mod text;
mod time;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{run, schema};

/// Runs every check.
///
/// # Errors
/// With everything that is wrong, one finding a line.
pub(crate) fn all(root: &Path) -> Result<()> {
    let files = tracked_files(root)?;
    let mut findings = text::check(root, &files)?;
    findings.extend(documents::check(root, &files)?);
    findings.extend(dependencies::check(root)?);
    findings.extend(arrows::check(root)?);
    findings.extend(time::check(root, &files)?);
    findings.extend(schema::check(root)?);
    if !findings.is_empty() {
        bail!("{} findings:\n  {}", findings.len(), findings.join("\n  "));
    }
    Ok(())
}

/// Files that are in the repository or would be with the next `git add`, relative to its root.
fn tracked_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let list = run::output(&mut git).context("cannot list the files of the repository")?;
    let mut files: Vec<_> = list.split('\0').filter(|name| !name.is_empty()).collect();
    files.sort_unstable();
    files.dedup();
    Ok(files.into_iter().map(PathBuf::from).filter(|file| root.join(file).is_file()).collect())
}

#[cfg(test)]
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_has_no_findings() -> Result<()> {
        all(repository())
    }
}
