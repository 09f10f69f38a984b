//! What a sandbox holds of the host, and how each thing of it is given back without its owner.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction, params};
use rustix::process::Signal;
use serde_json::{Map, Value};

use super::process::{Here, Life, ProcessRecord, send, wait};
use super::{StateError, StateRoot, json, record};
use crate::id::SandboxId;

/// How long a killed monitor may take to be gone.
const MONITOR_END: Duration = Duration::from_secs(10);

/// Two that remove a directory at once disturb each other this often at most.
const ATTEMPTS: u32 = 16;

/// What is in the ledger. They are given back in this order: the machine before what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The virtual machine monitor: a [`ProcessRecord`], or `null` before it was started.
    Monitor,
    /// The writable layer of a sandbox that is kept, which can be started again: then this and the directory
    /// stay until it is removed. `null`, or [`DOOMED`] when its removal has begun.
    Disk,
    /// `vms/<id>` with all that is in it. Its path is not in the ledger: a row must not be able to have
    /// anything else removed.
    Directory,
}

/// Of the disk of a sandbox that is being removed.
const DOOMED: &str = "\"doomed\"";

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) kind: Kind,
    json: String,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Monitor, Self::Disk, Self::Directory];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Disk => "disk",
            Self::Directory => "directory",
        }
    }
}

/// Enters what is going to exist.
pub(super) fn enter(
    transaction: &Transaction<'_>,
    id: &SandboxId,
    kind: Kind,
) -> Result<(), StateError> {
    let insert = "INSERT INTO resources VALUES (?1, ?2, 'null', ?3)";
    transaction.execute(insert, params![id.as_str(), kind.as_str(), super::now()])?;
    Ok(())
}

/// Adds what is known since it exists.
pub(super) fn describe(
    transaction: &Transaction<'_>,
    id: &SandboxId,
    process: &ProcessRecord,
) -> Result<(), StateError> {
    let update = "UPDATE resources SET json = ?3 WHERE vm_id = ?1 AND kind = ?2";
    let kind = Kind::Monitor.as_str();
    transaction.execute(update, params![id.as_str(), kind, json(process)?])?;
    Ok(())
}

/// Takes out what is gone.
pub(super) fn leave(
    transaction: &Transaction<'_>,
    id: &SandboxId,
    kind: Kind,
) -> Result<(), StateError> {
    let delete = "DELETE FROM resources WHERE vm_id = ?1 AND kind = ?2";
    transaction.execute(delete, params![id.as_str(), kind.as_str()])?;
    Ok(())
}

/// What a sandbox holds, in the order in which it is given back.
pub(super) fn held(database: &Connection, id: &SandboxId) -> Result<Vec<Held>, StateError> {
    let mut statement = database.prepare("SELECT kind, json FROM resources WHERE vm_id = ?1")?;
    let mut rows = statement.query([id.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (word, json): (String, String) = (row.get(0)?, row.get(1)?);
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.push(Held { kind: kind.ok_or(StateError::Entry("a kind of resource"))?, json });
    }
    found.sort_by_key(|held| held.kind as u8);
    Ok(found)
}

/// The same without what stays when the sandbox has ended.
pub(super) fn passing(database: &Connection, id: &SandboxId) -> Result<Vec<Held>, StateError> {
    let mut held = held(database, id)?;
    if held.iter().any(Held::stays) {
        held.retain(|held| held.kind == Kind::Monitor);
    }
    Ok(held)
}

/// Whether a sandbox can be started again.
pub(super) fn is_kept(database: &Connection, id: &SandboxId) -> Result<bool, StateError> {
    Ok(held(database, id)?.iter().any(Held::stays))
}

/// Has nothing stay any more. A sandbox that is not kept has nothing of that kind.
pub(super) fn doom(transaction: &Transaction<'_>, id: &SandboxId) -> Result<(), StateError> {
    let update = "UPDATE resources SET json = ?3 WHERE vm_id = ?1 AND kind = ?2";
    transaction.execute(update, params![id.as_str(), Kind::Disk.as_str(), DOOMED])?;
    Ok(())
}

/// A condition of SQL: the entry `r` is not one of those that stay.
pub(super) const IS_PASSING: &str = "(r.kind = 'monitor' OR NOT EXISTS (
    SELECT 1 FROM resources AS d WHERE d.vm_id = r.vm_id AND d.kind = 'disk' AND d.json = 'null'))";

/// The same for the history.
pub(super) fn summary(
    state: &StateRoot,
    database: &Connection,
    id: &SandboxId,
) -> Result<Value, StateError> {
    let mut summary = Map::new();
    for Held { kind, json } in held(database, id)? {
        match kind {
            Kind::Directory => {
                let path = state.directory_of(id).to_string_lossy().into_owned();
                summary.insert("state_dir".to_owned(), path.into());
            }
            Kind::Disk => {
                let path = crate::disk::path(&state.directory_of(id));
                summary.insert("disk".to_owned(), path.to_string_lossy().into());
            }
            Kind::Monitor => {
                let process: Option<ProcessRecord> = record::parse(&json, "a monitor")?;
                if let Some(process) = process {
                    summary.insert("monitor_pid".to_owned(), process.pid.into());
                }
            }
        }
    }
    Ok(Value::Object(summary))
}

impl Held {
    fn stays(&self) -> bool {
        self.kind == Kind::Disk && self.json != DOOMED
    }

    /// Gives it back, if it still exists.
    pub(super) fn give_back(&self, directory: &Path) -> io::Result<()> {
        match self.kind {
            Kind::Directory => remove(directory),
            Kind::Disk => match fs::remove_file(crate::disk::path(directory)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Kind::Monitor => {
                let process: Option<ProcessRecord> = serde_json::from_str(&self.json)?;
                process.map_or(Ok(()), |process| end(&process))
            }
        }
    }
}

fn end(monitor: &ProcessRecord) -> io::Result<()> {
    match Here::read().find(monitor) {
        // One that cannot be reached from here dies with its supervisor.
        Life::Dead | Life::Elsewhere => Ok(()),
        Life::Alive(pidfd) => {
            send(&pidfd, Signal::KILL)?;
            let gone = wait(&pidfd, MONITOR_END)?;
            gone.then_some(()).ok_or_else(|| io::ErrorKind::TimedOut.into())
        }
    }
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        last = fs::remove_dir_all(directory);
        match &last {
            Ok(()) => return Ok(()),
            Err(_) if directory.symlink_metadata().is_err_and(is_missing) => return Ok(()),
            Err(_) => {}
        }
    }
    last
}

#[expect(clippy::needless_pass_by_value, reason = "for `is_err_and`")]
fn is_missing(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
