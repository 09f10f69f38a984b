//! `docs/json.md` names every field that a command writes, and no other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    allow_list, audit, build, cp, diagnose, image, logs, pull, run, sandboxes::samples, secret,
    stats, top, version, volume,
};
use crate::error::CliError;
use crate::printer::failure_object;

const PAGE: &str = include_str!("../../../../docs/json.md");

const MARK: &str = "<!-- fields: ";

/// The first cells of the table behind a mark.
fn documented(name: &str) -> BTreeSet<String> {
    let mark = format!("{MARK}{name} -->\n");
    let (_, rest) = PAGE.split_once(&mark).unwrap_or_else(|| panic!("{mark} is not in the page"));
    let rows = rest.lines().take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.split('`').nth(1).expect("a name in code").to_owned()).collect()
}

/// Paths of all values: `a.b`, and `a[].b` in arrays.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                paths(value, &at, found);
            }
        }
        Value::Array(values) => {
            values.iter().for_each(|value| paths(value, &format!("{at}[]"), found));
        }
        _ => drop(found.insert(at.to_owned())),
    }
}

#[test]
fn the_page_has_the_fields_of_every_command() {
    let error = CliError::new("message").hinted("hint");
    let samples = [
        ("error", Value::Object(failure_object(&error, 1))),
        ("run", run::report::sample()),
        ("list", samples::listed()),
        ("inspect", samples::inspected()),
        ("stop", samples::waited()),
        ("start", run::detach::sample()),
        ("kill", samples::killed()),
        ("rm", samples::removed()),
        ("gc", samples::collected()),
        ("log", logs::sample()),
        ("allow-list", allow_list::sample()),
        ("cp", cp::sample()),
        ("secret ls", secret::sample_of_ls()),
        ("secret set", secret::sample()),
        ("secret rm", secret::sample_of_rm()),
        ("stats", stats::sample()),
        ("top", top::sample()),
        ("pull", pull::sample()),
        ("build", build::sample()),
        ("image ls", image::sample_of_ls()),
        ("image import", image::sample_of_import()),
        ("image rm", image::sample_of_rm()),
        ("image gc", image::sample_of_gc()),
        ("volume create", volume::sample()),
        ("audit verify", audit::sample()),
        ("diagnose", diagnose::sample()),
        ("version", version::sample()),
    ];
    for (name, sample) in &samples {
        let mut written = BTreeSet::new();
        paths(sample, "", &mut written);
        assert_eq!(documented(name), written, "{name}: docs/json.md, and what is written");
    }
    assert_eq!(PAGE.matches(MARK).count(), samples.len(), "tables of the page");
}
