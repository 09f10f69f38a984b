//! `docs/dependencies.md` has a reason for each direct dependency, and for nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::metadata;

const DOCUMENT: &str = "docs/dependencies.md";

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut used = BTreeSet::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        used.extend(direct_dependencies(root, manifest)?);
    }
    let text = fs::read_to_string(root.join(DOCUMENT))
        .with_context(|| format!("cannot read {DOCUMENT}"))?;
    let explained = explained(&text);
    let mut findings: Vec<_> =
        used.difference(&explained).map(|name| format!("{DOCUMENT}: no line for {name}")).collect();
    findings.extend(
        explained.difference(&used).map(|name| format!("{DOCUMENT}: nothing depends on {name}")),
    );
    Ok(findings)
}

/// Packages from outside of the repository that a package in it names.
fn direct_dependencies(root: &Path, manifest: &str) -> Result<BTreeSet<String>> {
    let packages = metadata::packages(root, manifest)?;
    Ok(packages
        .iter()
        .filter_map(|package| package["dependencies"].as_array())
        .flatten()
        .filter(|dependency| dependency["source"].is_string())
        .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
        .collect())
}

/// The crates that fill a first column of the document's tables alone.
fn explained(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_crate_alone_in_its_cell_counts() {
        let text = "| `one` | why |\n| `two`, `three` | x |\n| `four` in five | x | x |\n";
        assert_eq!(explained(text), BTreeSet::from(["one".to_owned()]));
    }
}
