//! Which crate of the repository may know of which, and which has no asynchronous runtime.
//!
//! `docs/architecture.md` draws the arrows; here they are checked against the manifests. What a crate
//! may do besides is in the `clippy.toml` that is nearest to its manifest.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::metadata;

/// Each crate with those of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("matchlock", &["matchlock-core"]),
    (
        "matchlock-core",
        &[
            "matchlock-api",
            "matchlock-build",
            "matchlock-db",
            "matchlock-fs",
            "matchlock-image",
            "matchlock-intercept",
            "matchlock-net",
            "matchlock-policy",
            "matchlock-proto",
            "matchlock-sys",
            "matchlock-tar",
            "matchlock-text",
            "matchlock-vmm",
            "matchlock-wire",
        ],
    ),
    ("matchlock-api", &["matchlock-wire"]),
    ("matchlock-build", &["matchlock-image", "matchlock-text"]),
    (
        "matchlock-image",
        &["matchlock-db", "matchlock-policy", "matchlock-sys", "matchlock-tar", "matchlock-text"],
    ),
    ("matchlock-net", &["matchlock-intercept", "matchlock-policy", "matchlock-text"]),
    ("matchlock-intercept", &["matchlock-policy", "matchlock-text"]),
    ("matchlock-policy", &["matchlock-text"]),
    ("matchlock-fs", &["matchlock-text"]),
    ("matchlock-vmm", &["matchlock-sys", "matchlock-text"]),
    ("matchlock-db", &["matchlock-sys"]),
    ("matchlock-proto", &["matchlock-wire"]),
    ("matchlock-sys", &[]),
    ("matchlock-tar", &["matchlock-text"]),
    ("matchlock-text", &[]),
    ("matchlock-wire", &[]),
    ("matchlock-agent", &["matchlock-proto", "matchlock-tar", "matchlock-text"]),
    ("matchlock-testkit", &[]),
    ("matchlock-e2e", &["matchlock-testkit"]),
    ("xtask", &["matchlock-api", "matchlock-net", "matchlock-policy", "matchlock-testkit"]),
    (
        "matchlock-fuzz",
        &[
            "matchlock-api",
            "matchlock-build",
            "matchlock-fs",
            "matchlock-image",
            "matchlock-intercept",
            "matchlock-net",
            "matchlock-policy",
            "matchlock-proto",
            "matchlock-tar",
            "matchlock-vmm",
        ],
    ),
];

/// Tests of each crate may use this one, and crates that are not shipped.
const TESTKIT: &str = "matchlock-testkit";

/// Tests may name these beside what their crate may depend on: the end-to-end tests ask core, make
/// images, and hold what passes unread against real servers.
const TESTS: &[(&str, &[&str])] =
    &[("matchlock-e2e", &["matchlock-core", "matchlock-image", "matchlock-intercept"])];

/// Crates in which nothing waits for the world: they have no asynchronous runtime.
const WITHOUT_RUNTIME: &[&str] = &[
    "matchlock-agent",
    "matchlock-build",
    "matchlock-db",
    "matchlock-fs",
    "matchlock-intercept",
    "matchlock-policy",
    "matchlock-proto",
    "matchlock-sys",
    "matchlock-tar",
    "matchlock-text",
    "matchlock-vmm",
];

/// What such a runtime, or a client of the network, comes as.
const RUNTIMES: &[&str] = &["tokio", "tokio-rustls", "hyper", "hyper-util", "h2", "rustls"];

pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        for package in metadata::packages(root, manifest)? {
            findings.extend(wrong_arrows(&package)?);
        }
    }
    Ok(findings)
}

/// What is wrong with one package of `cargo metadata`.
fn wrong_arrows(package: &Value) -> Result<Vec<String>> {
    let name = package["name"].as_str().context("a package without a name")?;
    let Some(allowed) = row(ARROWS, name) else {
        return Ok(vec![format!("{name}: no row in xtask/src/check/arrows.rs")]);
    };
    let mut findings = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let on = dependency["name"].as_str().context("a dependency without a name")?;
        let test = dependency["kind"] == "dev";
        let ours = dependency["source"].is_null();
        let for_tests = on == TESTKIT || row(TESTS, name).unwrap_or_default().contains(&on);
        if ours && !allowed.contains(&on) && !(test && for_tests) {
            findings.push(format!("{name}: must not depend on {on}"));
        }
        if !test && WITHOUT_RUNTIME.contains(&name) && RUNTIMES.contains(&on) {
            findings.push(format!("{name}: must not depend on {on}: it has no runtime"));
        }
    }
    Ok(findings)
}

fn row(table: &[(&str, &'static [&'static str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(crate_, _)| *crate_ == name).map(|(_, allowed)| *allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let dependencies = dependencies.iter().map(|(on, kind)| {
            let source = (!on.starts_with("matchlock")).then_some("registry");
            json!({ "name": on, "kind": kind, "source": source })
        });
        let package = json!({ "name": name, "dependencies": dependencies.collect::<Vec<_>>() });
        wrong_arrows(&package).expect("a package")
    }

    #[test]
    fn a_forbidden_edge_is_found() {
        let none = Vec::<String>::new();
        assert_eq!(findings("matchlock-net", &[("matchlock-policy", None)]), none);
        let up = findings("matchlock-policy", &[("matchlock-net", None)]);
        assert_eq!(up, ["matchlock-policy: must not depend on matchlock-net"]);
        assert_eq!(findings("matchlock", &[("matchlock-vmm", None)]).len(), 1, "past core");
        assert_eq!(findings("matchlock-fs", &[("matchlock-vmm", Some("dev"))]).len(), 1, "a test");
        assert_eq!(findings("matchlock-fs", &[("matchlock-proto", Some("build"))]).len(), 1);
    }

    #[test]
    fn only_tests_use_the_test_kit() {
        assert_eq!(findings("matchlock-net", &[(TESTKIT, None)]).len(), 1);
        assert!(findings("matchlock-net", &[(TESTKIT, Some("dev"))]).is_empty());
        assert!(findings("matchlock-e2e", &[("matchlock-core", Some("dev"))]).is_empty());
    }

    #[test]
    fn a_crate_that_is_pure_has_no_runtime() {
        assert_eq!(findings("matchlock-policy", &[("tokio", None)]).len(), 1);
        assert!(findings("matchlock-build", &[("tokio", Some("dev"))]).is_empty());
        assert!(findings("matchlock-net", &[("tokio", None)]).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(findings("matchlock-new", &[]).len(), 1);
    }
}
