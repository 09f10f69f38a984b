//! Who cleans up after the dead.

use rusqlite::{OptionalExtension, params};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use super::process::{Here, Life, send, wait};
use super::register::is_dead;
use super::stage::Stage;
use super::wait::OWNER_END;
use super::{EndRecord, SandboxRecord, SandboxStatus, StateError, StateRoot, journal, ledger, now};
use crate::id::SandboxId;

/// What a sweep found and took back.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Ids of sandboxes whose supervisor had died without cleaning up.
    pub removed: Vec<String>,
}

/// What was taken back of one sandbox.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Released {
    /// What it was, sorted.
    pub cleaned: Vec<&'static str>,
    /// What could not be taken back; it is tried again by the next sweep.
    pub failed: Option<StateError>,
}

impl StateRoot {
    /// Takes back what supervisors left that no longer live.
    ///
    /// # Errors
    /// [`StateError`] when the database cannot be used. What cannot be taken back is left for the next
    /// sweep.
    pub fn sweep(&self) -> Result<Swept, StateError> {
        self.mark_crashed()?;
        let mut swept = Swept::default();
        for id in self.holders()? {
            if self.release(&id)?.failed.is_none() {
                swept.removed.push(id.to_string());
            }
        }
        Ok(swept)
    }

    /// Marks sandboxes whose process is dead as crashed.
    pub(super) fn mark_crashed(&self) -> Result<(), StateError> {
        let here = Here::read();
        let running = self.select("WHERE status = 'running'", [])?.into_iter();
        for dead in running.filter(|record| is_dead(&here, record.owner.as_ref())) {
            self.crash(&dead)?;
        }
        Ok(())
    }

    /// Marks one as crashed if it is still what it was.
    fn crash(&self, seen: &SandboxRecord) -> Result<(), StateError> {
        let owner = super::json(&seen.owner)?;
        let ending = super::json(&EndRecord::crashed())?;
        self.write(|transaction| {
            let row =
                "UPDATE vms SET status = 'crashed', pid = 0, owner_json = 'null', updated_at = ?3,
                ending_json = ?4 WHERE id = ?1 AND status = 'running' AND owner_json = ?2";
            let id = &seen.id;
            let taken = transaction.execute(row, params![id.as_str(), owner, now(), ending])?;
            if taken > 0 && ledger::passing(transaction, id)?.is_empty() {
                // It had given everything back, and could not say so.
                journal::append(self, transaction, id, Stage::Cleaning, None)?;
                journal::append(self, transaction, id, Stage::Cleaned, None)?;
            }
            Ok(())
        })
    }

    /// Sandboxes that have ended, and hold something that does not stay with them.
    fn holders(&self) -> Result<Vec<SandboxId>, StateError> {
        self.read(|database| {
            let query = format!(
                "SELECT DISTINCT id FROM vms JOIN resources AS r ON r.vm_id = id
                 WHERE status IN ('stopped', 'crashed') AND {} ORDER BY id",
                ledger::IS_PASSING
            );
            let mut statement = database.prepare(&query)?;
            let mut rows = statement.query([])?;
            let mut ids = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                ids.push(id.parse().map_err(|_| StateError::Entry("an id"))?);
            }
            Ok(ids)
        })
    }

    /// Takes back what a sandbox holds that has ended, but for what stays: each thing is out of the ledger
    /// when it is gone.
    pub(super) fn release(&self, id: &SandboxId) -> Result<Released, StateError> {
        let held = self.read(|database| ledger::passing(database, id))?;
        let mut released = Released::default();
        if held.is_empty() {
            return Ok(released);
        }
        self.advance(id, Stage::Cleaning)?;
        let (directory, mut cleanup) = (self.directory_of(id), Map::new());
        for held in &held {
            let kind = held.kind.as_str();
            match held.give_back(&directory) {
                Ok(()) => {
                    self.write(|transaction| ledger::leave(transaction, id, held.kind))?;
                    cleanup.insert(kind.into(), json!({"status": "ok", "updated_at": now()}));
                    released.cleaned.push(kind);
                }
                Err(source) => {
                    let error = source.to_string();
                    let step = json!({"status": "error", "error": error, "updated_at": now()});
                    cleanup.insert(kind.into(), step);
                    released.failed = Some(StateError::Release { kind, id: id.clone(), source });
                    // What uses it still lives.
                    break;
                }
            }
        }
        released.cleaned.sort_unstable();
        self.write(|transaction| {
            let (stage, error) = match &released.failed {
                Some(error) => (Stage::CleanupFailed, Some(error.to_string())),
                None => (Stage::Cleaned, None),
            };
            let cleanup = Value::Object(cleanup);
            journal::append_with(self, transaction, id, stage, error.as_deref(), &cleanup)
        })?;
        Ok(released)
    }

    /// Ends a sandbox without asking it, if it runs: its process is killed. If that is one of another
    /// container, it is only taken for dead.
    ///
    /// # Errors
    /// [`StateError::Process`], or the database.
    pub fn kill_owner(&self, sandbox: &SandboxRecord) -> Result<(), StateError> {
        let Some(owner) = sandbox.owner.as_ref() else { return Ok(()) };
        let id = &sandbox.id;
        match Here::read().find(owner) {
            Life::Dead | Life::Elsewhere => {}
            Life::Alive(pidfd) => {
                let failed =
                    |action| move |source| StateError::Process { action, id: id.clone(), source };
                send(&pidfd, Signal::KILL).map_err(failed("kill"))?;
                if !wait(&pidfd, OWNER_END).map_err(failed("wait for"))? {
                    return Err(failed("end")(std::io::ErrorKind::TimedOut.into()));
                }
            }
        }
        self.crash(sandbox)
    }

    /// Takes back what a sandbox holds that does not run. One that is kept can still be started again.
    ///
    /// # Errors
    /// [`StateError::Running`], or the database.
    pub fn collect(&self, id: &SandboxId) -> Result<Released, StateError> {
        self.mark_crashed()?;
        if self.record(id)?.status == SandboxStatus::Running {
            return Err(StateError::Running(id.clone()));
        }
        self.release(id)
    }

    /// Forgets a sandbox that does not run, after what it holds was taken back.
    ///
    /// # Errors
    /// [`StateError::Running`], [`StateError::NotFound`], [`StateError::Release`], or the database; it is not forgotten
    /// then.
    pub fn remove(&self, id: &SandboxId) -> Result<(), StateError> {
        self.mark_crashed()?;
        self.write(|transaction| {
            let query = "SELECT status FROM vms WHERE id = ?1";
            let status: Option<String> =
                transaction.query_row(query, [id.as_str()], |row| row.get(0)).optional()?;
            match status.as_deref() {
                None => Err(StateError::NotFound(id.to_string())),
                Some("running") => Err(StateError::Running(id.clone())),
                // From here on nobody starts it again.
                Some(_) => ledger::doom(transaction, id),
            }
        })?;
        if let Some(error) = self.release(id)?.failed {
            return Err(error);
        }
        let delete = "DELETE FROM vms WHERE id = ?1 AND status <> 'running'";
        let gone = self.write(|transaction| Ok(transaction.execute(delete, [id.as_str()])?))?;
        if gone == 0 { Err(StateError::NotFound(id.to_string())) } else { Ok(()) }
    }
}
