//! The audit trail of the demo's sandbox.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::agent::{SECRET, trail_path};
use super::outside::{API, EVIL};
use super::{ADDRESS, fact};
use crate::run;

/// Longest text of a column.
const WIDTH: usize = 47;

/// The records of a run.
#[derive(Debug)]
pub(super) struct Trail {
    text: String,
    records: Vec<Value>,
}

impl Trail {
    /// Reads a file of records, one JSON object a line.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let records = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        Ok(Self { records: records.context("a record is no JSON")?, text })
    }

    /// A line for each record.
    pub(super) fn print(&self) {
        for record in &self.records {
            let text = |field: &str| record[field].as_str().unwrap_or_default();
            let what: String = subject(record).chars().take(WIDTH).collect();
            let time = text("time").split_once('T').map_or("", |(_, time)| time);
            let line = format!(
                "  {:>2} {:<12} {:<10} {what:<WIDTH$} {}",
                record["seq"].to_string(),
                time.get(..12).unwrap_or(time),
                text("event"),
                outcome(record)
            );
            println!("{}", line.trim_end());
        }
    }

    /// It tells everything that happened, and not the key.
    pub(super) fn check(&self, key: &str) -> Result<()> {
        let has = |wanted: &[(&str, &str)]| {
            let fits =
                |record: &Value| wanted.iter().all(|(field, value)| record[*field] == *value);
            self.records.iter().any(fits)
        };
        let request = self.records.iter().find(|record| record["event"] == "request");
        let request = request.context("no request in the trail")?;
        fact(
            request["decision"] == "allowed" && request["secrets"][0] == SECRET,
            &format!("the request to {API} is there, with {SECRET} used, by name"),
        )?;
        fact(
            has(&[("event", "dns"), ("name", EVIL), ("decision", "denied")])
                && has(&[("event", "flow_open"), ("address", ADDRESS), ("decision", "denied")]),
            &format!("{EVIL} and {ADDRESS} are there, denied, with the rule that decided"),
        )?;
        fact(!self.text.contains(key), "the key is not there")
    }
}

/// The chain of the file is whole, and a changed record breaks it.
pub(super) fn verify(binary: &Path, directory: &Path) -> Result<()> {
    let path = trail_path(directory);
    let check = |path: &Path| {
        let mut command = Command::new(binary);
        command.args(["audit", "verify"]).arg(path);
        run::output(&mut command)
    };
    let verdict = check(&path)?;
    let name = format!("{}/", directory.display());
    fact(true, &format!("matchlock audit verify: {}", verdict.replace(&name, "")))?;
    let text = fs::read_to_string(&path)?;
    let forged = directory.join("forged.jsonl");
    fs::write(&forged, text.replacen(r#""decision":"denied""#, r#""decision":"allowed""#, 1))?;
    fact(check(&forged).is_err(), "and not of a copy in which one denial was made an approval")
}

/// What a record is about.
fn subject(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    let number = |field: &str| record[field].as_u64().unwrap_or_default();
    match text("event") {
        "start" => format!("image {}", text("image")),
        "exec" => {
            let words: Vec<_> = record["argv"].as_array().into_iter().flatten().collect();
            let words = words.iter().take(2).filter_map(|word| word.as_str());
            words.chain(["…"]).collect::<Vec<_>>().join(" ")
        }
        "dns" => format!("{} {}", text("qtype"), text("name")),
        "flow_open" => {
            let host = record["host"].as_str().unwrap_or(text("address"));
            format!("{} {host}:{}", text("protocol"), number("port"))
        }
        "request" => {
            format!("{} {}://{}{}", text("method"), text("scheme"), text("host"), text("path"))
        }
        "response" => format!("request {}", record["request"]),
        "flow_close" | "flow_refused" | "upstream_failed" => format!("flow {}", record["flow"]),
        _ => String::new(),
    }
}

/// What came of it.
fn outcome(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    let secrets: Vec<_> = record["secrets"].as_array().into_iter().flatten().collect();
    let secrets: Vec<_> = secrets.iter().filter_map(|name| name.as_str()).collect();
    match (text("event"), text("decision")) {
        ("response", _) => format!("status {}", record["status"]),
        ("flow_close", _) => {
            format!("{} bytes up, {} down", record["bytes_up"], record["bytes_down"])
        }
        ("exec_end", _) => format!("status {}", record["status"]),
        ("end", _) => format!("{} denied", record["denied"]),
        (_, "") => String::new(),
        (_, decision) if secrets.is_empty() => format!("{decision}: {}", text("rule")),
        (_, decision) => {
            format!("{decision}: {}; used {}", text("rule"), secrets.join(", "))
        }
    }
}
