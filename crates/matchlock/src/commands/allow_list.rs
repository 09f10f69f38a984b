//! `matchlock allow-list`: what a sandbox that runs may reach.

use matchlock_core::api::{HostsParams, NoParams, method};
use matchlock_core::control::control_method;
use serde::Serialize;

use super::enter::{Running, describe};
use crate::cli::{AllowListArgs, AllowListCommand, PlainArgs, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop::block_on;
use crate::printer::Printer;

/// The JSON object of these commands: docs/json.md.
#[derive(Debug, Serialize)]
struct Changed {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<String>>,
    allowed_hosts: Vec<String>,
}

pub(crate) fn run(
    args: &AllowListArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    match &args.command {
        AllowListCommand::Add(args) => change(args, true, environment, printer),
        AllowListCommand::Delete(args) => change(args, false, environment, printer),
        AllowListCommand::Ls(args) => list(args, environment, printer),
    }
}

fn change(
    args: &PlainArgs,
    add: bool,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let Some((wanted, texts)) = args.positionals.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        let given = args.positionals.len();
        let text = format!("requires at least 2 arg(s), only received {given}");
        return Err(CliError::new(text).hinted("matchlock allow-list add ID api.openai.com"));
    };
    let hosts = hosts(texts);
    if hosts.is_empty() {
        return Err(CliError::new(
            "invalid allow-list host: expected one or more hosts (comma-separated)",
        ));
    }
    block_on(async {
        let sandbox = Running::find(wanted, environment).await?;
        let (connection, params) = (sandbox.connect().await?, HostsParams { hosts: Some(hosts) });
        let (added, removed, allowed_hosts) = if add {
            let result = connection.call::<method::AllowListAdd>(params).await;
            let result = result.map_err(|error| describe(&error))?;
            (Some(result.added.unwrap_or_default()), None, result.allowed_hosts)
        } else {
            let result = connection.call::<method::AllowListDelete>(params).await;
            let result = result.map_err(|error| describe(&error))?;
            (None, Some(result.removed.unwrap_or_default()), result.allowed_hosts)
        };
        let (id, allowed_hosts) = (sandbox.id.to_string(), allowed_hosts.unwrap_or_default());
        let changed = Changed { id, added, removed, allowed_hosts };
        for line in changed.lines() {
            printer.result(&line);
        }
        printer.json(&changed).map(|()| 0)
    })
}

fn list(args: &PlainArgs, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let [wanted] = exactly::<1>(&args.positionals)?;
    block_on(async {
        let sandbox = Running::find(wanted, environment).await?;
        let connection = sandbox.connect().await?;
        let listed = connection.call::<control_method::AllowList>(NoParams {}).await;
        let allowed_hosts = listed.map_err(|error| describe(&error))?.allowed_hosts;
        for host in &allowed_hosts {
            printer.result(host);
        }
        let id = sandbox.id.to_string();
        printer.json(&Changed { id, added: None, removed: None, allowed_hosts }).map(|()| 0)
    })
}

/// Hosts out of words that may have several, each once.
fn hosts(words: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for host in words.iter().flat_map(|word| word.split(',')).map(str::trim) {
        if !host.is_empty() && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    hosts
}

impl Changed {
    /// The contract's lines: section 1.13.
    fn lines(&self) -> Vec<String> {
        let id = &self.id;
        let change = match (&self.added, &self.removed) {
            (Some(added), _) if added.is_empty() => {
                format!("No new hosts were added to {id}")
            }
            (Some(added), _) => format!("Added to {id}: {}", added.join(",")),
            (_, Some(removed)) if !removed.is_empty() => {
                format!("Removed from {id}: {}", removed.join(","))
            }
            _ => format!("No hosts were removed from {id}"),
        };
        let now = match self.allowed_hosts.as_slice() {
            // The contract has "all hosts allowed" here; with us, an empty list allows none.
            [] => "Current allow-list: (empty: no host allowed)".to_owned(),
            hosts => format!("Current allow-list: {}", hosts.join(",")),
        };
        vec![change, now]
    }
}

/// One of each field.
#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let one = || vec!["example.com".to_owned()];
    let (id, added, removed) = ("vm-00000000".to_owned(), Some(one()), Some(one()));
    let changed = Changed { id, added, removed, allowed_hosts: one() };
    serde_json::to_value(changed).expect("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_separated_trimmed_and_there_once() {
        let words = [" a.example , b.example".to_owned(), "a.example".to_owned(), ",".to_owned()];
        assert_eq!(hosts(&words), ["a.example", "b.example"]);
    }

    #[test]
    fn lines_are_those_of_the_contract() {
        let changed = |added: Option<&[&str]>, removed: Option<&[&str]>, now: &[&str]| {
            let own = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
            let id = "vm-00000000".to_owned();
            let (added, removed) = (added.map(own), removed.map(own));
            Changed { id, added, removed, allowed_hosts: own(now) }.lines()
        };
        let lines = changed(Some(&["a", "b"]), None, &["a", "b"]);
        assert_eq!(lines, ["Added to vm-00000000: a,b", "Current allow-list: a,b"]);
        let lines = changed(Some(&[]), None, &["a"]);
        assert_eq!(lines[0], "No new hosts were added to vm-00000000");
        let lines = changed(None, Some(&["a"]), &[]);
        assert_eq!(lines[0], "Removed from vm-00000000: a");
        assert_eq!(changed(None, Some(&[]), &[])[0], "No hosts were removed from vm-00000000");
    }
}
