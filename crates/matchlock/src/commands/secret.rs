//! `matchlock secret`: secrets of a sandbox that runs. No value is ever an argument or a result.

use std::io::{IsTerminal, Read};

use matchlock_core::api::NoParams;
use matchlock_core::control::{
    SecretInfo, SecretNameParams, SecretSetParams, SecretValue, control_method,
};
use serde::Serialize;
use zeroize::Zeroizing;

use super::enter::{Running, describe};
use crate::cli::{PlainArgs, SecretArgs, SecretCommand, exactly};
use crate::environment::Environment;
use crate::error::CliError;
use crate::event_loop::block_on;
use crate::printer::Printer;

/// The longest value on standard input, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// The column of the table that gives way on a narrow terminal.
const HOSTS: usize = 1;

/// The JSON object of `secret set`: docs/json.md.
#[derive(Debug, Serialize)]
struct Set<'a> {
    id: &'a str,
    name: &'a str,
    hosts: &'a [String],
    placeholder: &'a str,
}

/// The JSON object of `secret rm`.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    id: &'a str,
    removed: &'a str,
}

pub(crate) fn run(
    args: &SecretArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    match &args.command {
        SecretCommand::Ls(args) => list(args, environment, printer),
        SecretCommand::Set(args) => set(args, environment, printer),
        SecretCommand::Rm(args) => remove(args, environment, printer),
    }
}

fn list(args: &PlainArgs, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    block_on(async {
        let sandbox = Running::find(wanted, environment).await?;
        let asked = sandbox.connect().await?.call::<control_method::SecretList>(NoParams {}).await;
        let found = asked.map_err(|error| describe(&error))?.secrets;
        let rows = found.iter().map(|secret| {
            [secret.name.clone(), secret.hosts.join(","), secret.placeholder.clone()]
        });
        printer.fitted_table(["NAME", "HOSTS", "PLACEHOLDER"], rows.collect(), HOSTS);
        printer.json(&found)?;
        Ok(0)
    })
}

fn set(args: &PlainArgs, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let (wanted, secret, from_input) = match args.positionals.as_slice() {
        [wanted, secret] => (wanted, secret, false),
        [wanted, secret, dash] if dash == "-" => (wanted, secret, true),
        given => {
            let text = format!("accepts 2 or 3 arg(s), received {}", given.len());
            return Err(CliError::new(text).hinted("matchlock secret set ID NAME@HOST -"));
        }
    };
    if secret.contains('=') {
        // Nothing of it is shown: it may be the value.
        let error = CliError::new("a value in the arguments can be seen by other processes");
        return Err(error.hinted("give it in the variable NAME, or on standard input with -"));
    }
    let (name, hosts) = secret.split_once('@').unwrap_or((secret, ""));
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
    let hosts = hosts.map(str::to_owned).collect();
    let value = if from_input { from_standard_input()? } else { from_environment(name)? };
    block_on(async {
        let sandbox = Running::find(wanted, environment).await?;
        let params = SecretSetParams { name: name.to_owned(), value, hosts };
        let asked = sandbox.connect().await?.call::<control_method::SecretSet>(params).await;
        let SecretInfo { name, hosts, placeholder } = asked.map_err(|error| describe(&error))?;
        printer.result(&placeholder);
        let id = sandbox.id.as_str();
        let set = Set { id, name: &name, hosts: &hosts, placeholder: &placeholder };
        printer.json(&set)?;
        Ok(0)
    })
}

fn from_environment(name: &str) -> Result<SecretValue, CliError> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value.into()),
        Ok(_) | Err(_) => Err(CliError::new(format!(
            "the environment variable {name} is not set, empty or no text"
        ))
        .hinted("with - at the end, the value is read from standard input")),
    }
}

/// All of standard input, without the line end that `echo` makes.
fn from_standard_input() -> Result<SecretValue, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CliError::new("a value typed on a terminal would be shown there")
            .hinted("matchlock secret set ID NAME - < FILE"));
    }
    // With room for all of it: what a growing buffer leaves behind is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 1));
    let limit = u64::try_from(MAX_VALUE + 1).unwrap_or(u64::MAX);
    let read = stdin.lock().take(limit).read_to_end(&mut bytes);
    read.map_err(|error| CliError::of_io("cannot read standard input", &error))?;
    if bytes.len() > MAX_VALUE {
        return Err(CliError::new(format!("the value is longer than {} KiB", MAX_VALUE / 1024)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| CliError::new("the value is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(text.to_owned().into())
}

fn remove(args: &PlainArgs, environment: &Environment, printer: Printer) -> Result<u8, CliError> {
    let [wanted, name] = exactly(&args.positionals)?;
    block_on(async {
        let sandbox = Running::find(wanted, environment).await?;
        let params = SecretNameParams { name: name.clone() };
        let asked = sandbox.connect().await?.call::<control_method::SecretDelete>(params).await;
        asked.map_err(|error| describe(&error))?;
        printer.result(&format!("Removed {name}"));
        printer.json(&Removed { id: sandbox.id.as_str(), removed: name })?;
        Ok(0)
    })
}

#[cfg(test)]
pub(super) fn sample_of_ls() -> serde_json::Value {
    let secret = SecretInfo { hosts: vec![String::new()], ..SecretInfo::default() };
    serde_json::json!([secret])
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let set = Set { id: "", name: "", hosts: &[String::new()], placeholder: "" };
    serde_json::to_value(set).expect("JSON")
}

#[cfg(test)]
pub(super) fn sample_of_rm() -> serde_json::Value {
    serde_json::to_value(Removed { id: "", removed: "" }).expect("JSON")
}
