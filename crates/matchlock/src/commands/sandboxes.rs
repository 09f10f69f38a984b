//! The commands for sandboxes that are there, whoever made them.

mod config;
mod end;
mod remove;
mod show;

use matchlock_core::{SandboxRecord, SandboxStatus};
use serde::Serialize;

use crate::error::CliError;

pub(crate) use self::end::{end_one, kill, stop, wait};
pub(crate) use self::remove::{gc, prune, rm};
pub(crate) use self::show::{get, inspect, list};

/// A sandbox with `list --json`, and the beginning of what `get` says of it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: Option<&'a str>,
    pid: u32,
    status: SandboxStatus,
    image: &'a str,
    created_at: &'a str,
}

impl<'a> From<&'a SandboxRecord> for Listed<'a> {
    fn from(record: &'a SandboxRecord) -> Self {
        Self {
            id: record.id.as_str(),
            name: record.name.as_deref(),
            pid: record.pid,
            status: record.status,
            image: &record.image,
            created_at: &record.created_at,
        }
    }
}

/// The one that the arguments name, or none.
fn at_most_one(given: &[String]) -> Result<Option<&str>, CliError> {
    match given {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        more => Err(CliError::new(format!("accepts at most 1 arg(s), received {}", more.len()))),
    }
}

/// What lives.
pub(in crate::commands) fn runs(record: &SandboxRecord) -> bool {
    record.status == SandboxStatus::Running
}

#[cfg(test)]
pub(super) mod samples {
    pub(in crate::commands) use super::end::samples::{killed, waited};
    pub(in crate::commands) use super::remove::samples::{collected, removed};
    pub(in crate::commands) use super::show::samples::{inspected, listed};
}
