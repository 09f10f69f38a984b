//! `matchlock version`.

use serde::Serialize;

use crate::error::CliError;
use crate::printer::Printer;

/// With `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Version {
    version: &'static str,
    commit: &'static str,
    built: &'static str,
}

/// This build's.
pub(super) const VERSION: Version = Version {
    version: env!("CARGO_PKG_VERSION"),
    commit: env!("MATCHLOCK_COMMIT"),
    built: env!("MATCHLOCK_BUILT"),
};

/// Prints the version, the commit and the build date.
pub(crate) fn run(printer: Printer) -> Result<u8, CliError> {
    let Version { version, commit, built } = VERSION;
    printer.result(&format!("matchlock {version} (commit: {commit}, built: {built})"));
    printer.json(&VERSION)?;
    Ok(0)
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::to_value(VERSION).expect("JSON")
}
