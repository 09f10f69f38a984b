//! `cargo xtask schema`: the JSON Schema of JSON-RPC, and the reference page that is made of it.

mod reference;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::workspace::Workspace;

const SCHEMA: &str = "docs/reference/json-rpc.schema.json";
const REFERENCE: &str = "docs/reference/json-rpc.md";

/// Writes both files.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    for (file, text) in files()? {
        let path = workspace.path(file);
        let directory = path.parent().context("the file has no directory")?;
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {file}"))?;
        println!("{file}");
    }
    Ok(())
}

/// Names the files that are not what [`run`] would write.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let is_stale = |(file, text): &(&str, String)| {
        fs::read_to_string(root.join(file)).ok().as_ref() != Some(text)
    };
    let stale = files()?.into_iter().filter(is_stale);
    Ok(stale.map(|(file, _)| format!("{file}: is stale; run `cargo xtask schema`")).collect())
}

fn files() -> Result<[(&'static str, String); 2]> {
    let schema: Value = matchlock_api::schema::document();
    let json = serde_json::to_string_pretty(&schema).context("the schema is no JSON")?;
    Ok([(SCHEMA, json + "\n"), (REFERENCE, reference::page(&schema)?)])
}
