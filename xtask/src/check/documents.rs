//! Links between documents lead somewhere, and a promise names a test that exists.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Documents whose tables name, in the last column, what keeps each row: tests, a benchmark, or
/// the words "not yet".
const TABLES_OF_PROOFS: &[&str] = &["docs/specification.md", "docs/threat-model.md"];
/// Starts the header of a last column that this check reads.
const PROOF_COLUMN: &str = "Kept by";

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "md")) {
        let text = fs::read_to_string(root.join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let directory = root.join(file).parent().map(Path::to_owned).unwrap_or_default();
        let proofs = TABLES_OF_PROOFS.iter().any(|name| Path::new(name) == file);
        let mut in_proofs = false;
        for (number, line) in outside_code_blocks(&text) {
            let place = format!("{}:{number}", file.display());
            for link in links(line) {
                findings.extend(broken(&directory, &link).map(|why| format!("{place}: {why}")));
            }
            in_proofs = match last_cell(line) {
                Some(cell) => in_proofs || cell.starts_with(PROOF_COLUMN),
                None => false,
            };
            if proofs && in_proofs && !is_proof(line) {
                findings.push(format!("{place}: the row names neither a test nor \"not yet\""));
            }
        }
    }
    Ok(findings)
}

#[derive(Debug, PartialEq, Eq)]
struct Link<'a> {
    text: &'a str,
    target: &'a str,
}

/// Inline links, `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = Link<'_>> {
    line.match_indices("](").filter_map(|(at, _)| {
        let text = &line[line[..at].rfind('[')? + 1..at];
        let rest = &line[at + 2..];
        Some(Link { text, target: &rest[..rest.find(')')?] })
    })
}

/// Says what is wrong with a link. One whose text is `…::name` leads to a file with that test.
fn broken(directory: &Path, link: &Link<'_>) -> Option<String> {
    let path = link.target.split('#').next().unwrap_or_default();
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let file = directory.join(path);
    if !file.exists() {
        return Some(format!("the link leads to {path}, which does not exist"));
    }
    let (_, test) = link.text.trim_matches('`').rsplit_once("::")?;
    let code = fs::read_to_string(&file).unwrap_or_default();
    let defined = code.contains(&format!("fn {test}("));
    (!defined).then(|| format!("{path} has no test {test}"))
}

fn outside_code_blocks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    })
}

fn last_cell(line: &str) -> Option<&str> {
    let row = line.strip_prefix('|')?.trim_end().strip_suffix('|')?;
    row.rsplit('|').next().map(str::trim)
}

fn is_proof(line: &str) -> bool {
    let cell = last_cell(line).unwrap_or_default();
    let head = cell.starts_with(PROOF_COLUMN) || cell.starts_with("---");
    let test = links(cell).any(|link| link.text.contains("::"));
    head || test || cell.contains("cargo xtask bench") || cell.contains("not yet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repository;

    #[test]
    fn links_are_found() {
        let found: Vec<_> = links("see [a](b.md#c) and [`x::y`](z.rs)").collect();
        assert_eq!(
            found,
            [Link { text: "a", target: "b.md#c" }, Link { text: "`x::y`", target: "z.rs" }]
        );
    }

    #[test]
    fn a_link_to_a_test_needs_the_test() {
        let own = repository().join("xtask/src/check");
        let link = |text| Link { text, target: "documents.rs" };
        assert_eq!(broken(&own, &link("`documents::links_are_found`")), None);
        assert!(broken(&own, &link(concat!("`documents::", "no_such_test`"))).is_some());
        assert!(broken(&own, &Link { text: "a", target: "no-such-file.md" }).is_some());
        assert_eq!(broken(&own, &Link { text: "a", target: "#anchor" }), None);
    }

    #[test]
    fn a_row_without_a_proof_is_found() {
        assert!(is_proof("| a | Kept by |"));
        assert!(is_proof("| a | [`m::t`](t.rs) |"));
        assert!(is_proof("| a | not yet |"));
        assert!(!is_proof("| a | we are careful |"));
    }
}
