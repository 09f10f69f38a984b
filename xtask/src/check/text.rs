//! No file names a directory of somebody's machine or a host that is not on the list.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

/// Hosts that a URL in this repository may have: documents that the code cites, and reserved names.
/// Nothing here is fetched by a build; packages come by name from where the reader's own package
/// managers take them. The addresses are those that tests try to reach from within a sandbox, or that a
/// registry of theirs leads to. `index.docker.io` is how Docker's file of credentials names its default.
const HOSTS: &[&str] = &[
    "1.1.1.1",
    "10.0.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "8.8.8.8",
    "docs.kernel.org",
    "docs.oasis-open.org",
    "example.com",
    "example.net",
    "example.org",
    "index.docker.io",
    "json-schema.org",
    "keepachangelog.com",
    "localhost",
    "semver.org",
    "www.apache.org",
    "www.rfc-editor.org",
];

/// Directories below `/` that are on every machine and say nothing about this one.
const COMMON: &[&str] = &["home", "mnt", "opt", "root", "srv", "tmp", "usr", "var", "workspace"];

pub(super) fn check(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let paths = machine_paths(root)?;
    let mut findings = Vec::new();
    for file in files {
        // Cargo writes the name of its registry into each entry of a lock file.
        if file.file_name().is_some_and(|name| name == "Cargo.lock") {
            continue;
        }
        let content =
            fs::read(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        let Ok(text) = String::from_utf8(content) else {
            continue;
        };
        for (number, line) in (1..).zip(text.lines()) {
            let found = paths.iter().filter(|path| names_path(line, path));
            findings.extend(
                found.map(|path| format!("{}:{number}: machine path {path}", file.display())),
            );
            let hosts = url_hosts(line).filter(|host| !is_allowed(host));
            findings.extend(
                hosts.map(|host| format!("{}:{number}: URL of host {host}", file.display())),
            );
        }
    }
    Ok(findings)
}

/// Paths of this machine: the repository, the toolchain, and the directory at the top of the tree
/// that the repository is in, when it is none that every machine has.
fn machine_paths(root: &Path) -> Result<Vec<String>> {
    let root = root.canonicalize().context("cannot resolve the repository's path")?;
    let mut paths = vec![root.display().to_string()];
    let top = root.components().find_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    paths.extend(top.filter(|top| !COMMON.contains(top)).map(|top| format!("/{top}/")));
    let home = std::env::var("HOME").unwrap_or_default();
    for (variable, below_home) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let default = (!home.is_empty()).then(|| format!("{home}/{below_home}"));
        paths.extend(std::env::var(variable).ok().or(default));
    }
    Ok(paths)
}

/// Whether the path occurs, and not as the tail of a longer one.
fn names_path(line: &str, path: &str) -> bool {
    let continues = |before: &str| {
        before.ends_with(|last: char| last.is_alphanumeric() || "._-~}>*".contains(last))
    };
    line.match_indices(path).any(|(at, _)| !continues(&line[..at]))
}

fn url_hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c)));
        let host = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
        // Without a dot it is a placeholder in a text or a pattern.
        (host.contains('.')).then_some(host)
    })
}

fn is_allowed(host: &str) -> bool {
    // Reserved by RFC 2606 and RFC 6761 for examples and tests.
    let reserved = [
        ".example",
        ".example.com",
        ".example.net",
        ".example.org",
        ".invalid",
        ".localhost",
        ".test",
    ];
    let host = host.to_ascii_lowercase();
    HOSTS.contains(&&*host) || reserved.iter().any(|suffix| host.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_counts_only_from_its_root() {
        assert!(names_path("see `/elsewhere/x`", "/elsewhere/"));
        assert!(names_path("/elsewhere/x", "/elsewhere/"));
        assert!(!names_path("workdir=/upper/elsewhere/x", "/elsewhere/"));
    }

    #[test]
    fn hosts_of_urls_are_found() {
        let line = "a https://one.test/x, (git+ssh://two.test) and https://{host}/";
        assert_eq!(url_hosts(line).collect::<Vec<_>>(), ["one.test", "two.test"]);
        assert!(is_allowed("api.example.com"));
        assert!(is_allowed("API.Example.net"));
        assert!(!is_allowed("notexample.com"));
    }
}
