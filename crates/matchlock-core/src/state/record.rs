//! What the database says of sandboxes.

use std::fmt;

use rusqlite::{OptionalExtension, Params, Row};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::process::ProcessRecord;
use super::{StateError, StateRoot};
use crate::id::SandboxId;
use crate::phase::EndCause;

/// Most bytes of a message that is kept: what a monitor says at its death is foreign text.
const MAX_MESSAGE: usize = 2048;

/// Whether a sandbox lives, and how it ended if not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxStatus {
    /// Its process lives; it may be starting or ending.
    Running,
    /// It has ended in order.
    Stopped,
    /// Its process was killed, or the machine was.
    Crashed,
}

/// One sandbox.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SandboxRecord {
    /// Its id.
    pub id: SandboxId,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// The process that owns it; 0: none does any more.
    pub pid: u32,
    /// Whether it lives.
    pub status: SandboxStatus,
    /// The image as it was named.
    pub image: String,
    /// When it was registered: RFC 3339, UTC.
    pub created_at: String,
    /// When its status last changed.
    pub updated_at: String,
    /// How often it was started.
    pub starts: u32,
    /// When it was started last: RFC 3339, UTC.
    pub started_at: String,
    /// Its [`crate::SandboxSpec`] as JSON: one that another version of matchlock wrote may have other keys.
    pub config: Value,
    /// How it ended; `None` as long as it runs.
    pub ending: Option<EndRecord>,
    pub(super) owner: Option<ProcessRecord>,
}

/// The end of a sandbox, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EndRecord {
    /// Why: a word of the audit trail, or `crashed`.
    pub cause: String,
    /// The status of its command, or the one that stands for the cause.
    pub exit_code: u8,
    /// What went wrong, if something did.
    #[serde(default)]
    pub error: Option<String>,
    /// When: RFC 3339, UTC.
    pub at: String,
}

/// One step in the life of a sandbox: contract 6.3.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct LifecycleRecord {
    /// Counts from 1.
    pub version: i64,
    /// Whose step it is.
    pub vm_id: SandboxId,
    /// What ran the machine.
    pub backend: String,
    /// The word of the step.
    pub phase: String,
    /// When: RFC 3339, UTC.
    pub updated_at: String,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What the sandbox held then.
    pub resources: Value,
    /// What was given back, and how that went.
    pub cleanup: Value,
}

impl SandboxStatus {
    /// The word of the database, and of lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
        }
    }

    fn of_word(word: &str) -> Result<Self, StateError> {
        let all = [Self::Running, Self::Stopped, Self::Crashed];
        let found = all.into_iter().find(|status| status.as_str() == word);
        found.ok_or(StateError::Entry("a status"))
    }
}

impl fmt::Display for SandboxStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl EndRecord {
    /// Of a sandbox that has ended now. Without a status of a command there is that of the cause, as a
    /// shell has it.
    pub(crate) fn new(cause: &EndCause, status: Option<u8>, error: Option<String>) -> Self {
        let of_cause = match cause {
            EndCause::CommandEnded | EndCause::Stopped => 0,
            EndCause::Signal(number) => 128u8.saturating_add(*number),
            EndCause::Killed | EndCause::Abandoned => 128 + 9,
            EndCause::Deadline => 124,
            EndCause::OutputClosed => 128 + 13,
            EndCause::CommandLost
            | EndCause::AuditLost
            | EndCause::GuestGone
            | EndCause::MonitorDied(_)
            | EndCause::StartFailed => 125,
        };
        let said = match cause {
            EndCause::MonitorDied(said) if !said.is_empty() => Some(said.clone()),
            _ => None,
        };
        let error = error.or(said).map(shortened);
        let exit_code = status.unwrap_or(of_cause);
        Self { cause: cause.word().to_owned(), exit_code, error, at: super::now() }
    }

    /// Of one whose owner is dead.
    pub(super) fn crashed() -> Self {
        let error = "the process that owned it was killed".to_owned();
        let at = super::now();
        Self { cause: "crashed".to_owned(), exit_code: 128 + 9, error: Some(error), at }
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_MESSAGE));
    text
}

impl StateRoot {
    /// All sandboxes, the newest first. Those whose process is dead are marked, and what they have left is
    /// taken back; what cannot be is left to `gc`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn list(&self) -> Result<Vec<SandboxRecord>, StateError> {
        self.sweep()?;
        self.records()
    }

    /// The same without taking anything back.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn known(&self) -> Result<Vec<SandboxRecord>, StateError> {
        self.mark_crashed()?;
        self.records()
    }

    pub(super) fn records(&self) -> Result<Vec<SandboxRecord>, StateError> {
        self.select("ORDER BY created_at DESC, id", [])
    }

    /// One sandbox.
    pub(super) fn record(&self, id: &SandboxId) -> Result<SandboxRecord, StateError> {
        let found = self.select("WHERE id = ?1", [id.as_str()])?;
        found.into_iter().next().ok_or_else(|| StateError::NotFound(id.to_string()))
    }

    /// Those that a clause of SQL chooses, in its order.
    pub(super) fn select(
        &self,
        which: &str,
        params: impl Params,
    ) -> Result<Vec<SandboxRecord>, StateError> {
        let query = format!(
            "SELECT id, name, pid, status, image, created_at, updated_at, config_json, ending_json,
               owner_json, starts, coalesce(started_at, created_at) FROM vms {which}"
        );
        self.read(|database| {
            let mut statement = database.prepare(&query)?;
            let mut rows = statement.query(params)?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(record(row)?);
            }
            Ok(records)
        })
    }

    /// Its steps, the first one first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn history(&self, id: &SandboxId) -> Result<Vec<LifecycleRecord>, StateError> {
        let query =
            "SELECT version, backend, phase, updated_at, last_error, resources_json, cleanup_json
            FROM vm_lifecycle WHERE vm_id = ?1 ORDER BY version";
        self.read(|database| {
            let mut statement = database.prepare(query)?;
            let mut rows = statement.query([id.as_str()])?;
            let mut history = Vec::new();
            while let Some(row) = rows.next()? {
                history.push(LifecycleRecord {
                    version: row.get(0)?,
                    vm_id: id.clone(),
                    backend: row.get(1)?,
                    phase: row.get(2)?,
                    updated_at: row.get(3)?,
                    last_error: row.get(4)?,
                    resources: parse(&row.get::<_, String>(5)?, "resources_json")?,
                    cleanup: parse(&row.get::<_, String>(6)?, "cleanup_json")?,
                });
            }
            Ok(history)
        })
    }

    /// How the sandbox ended last that had this id, whether its row has stayed or not.
    pub(super) fn ending(&self, id: &SandboxId) -> Result<Option<EndRecord>, StateError> {
        let query = "SELECT json FROM endings WHERE vm_id = ?1 ORDER BY number DESC LIMIT 1";
        let found: Option<String> = self.read(|database| {
            Ok(database.query_row(query, [id.as_str()], |row| row.get(0)).optional()?)
        })?;
        found.map(|json| parse(&json, "an ending")).transpose()
    }
}

fn record(row: &Row<'_>) -> Result<SandboxRecord, StateError> {
    let text = |column: usize| row.get::<_, String>(column);
    let ending = row.get::<_, Option<String>>(8)?;
    Ok(SandboxRecord {
        id: text(0)?.parse().map_err(|_| StateError::Entry("an id"))?,
        name: row.get(1)?,
        pid: row.get(2)?,
        status: SandboxStatus::of_word(&text(3)?)?,
        image: text(4)?,
        created_at: text(5)?,
        updated_at: text(6)?,
        config: parse(&text(7)?, "config_json")?,
        ending: ending.map(|json| parse(&json, "ending_json")).transpose()?,
        owner: parse(&text(9)?, "owner_json")?,
        starts: row.get(10)?,
        started_at: text(11)?,
    })
}

pub(super) fn parse<T: for<'a> Deserialize<'a>>(
    json: &str,
    what: &'static str,
) -> Result<T, StateError> {
    serde_json::from_str(json).map_err(|_| StateError::Entry(what))
}
