//! A kept sandbox comes to life again.

use rusqlite::{OptionalExtension, params};

use super::ledger::{self, Kind};
use super::process::ProcessRecord;
use super::register::{StateDir, check_name};
use super::stage::Stage;
use super::{SandboxStatus, StateError, StateRoot, journal, json, now};
use crate::id::SandboxId;
use crate::spec::SandboxSpec;

impl StateRoot {
    /// Makes a kept sandbox one of this process, with its directory and its disk. Of several who want that
    /// at once one has it.
    pub(crate) fn resume(
        &self,
        id: &SandboxId,
        spec: &SandboxSpec,
    ) -> Result<StateDir, StateError> {
        let owner = ProcessRecord::own()?;
        self.mark_crashed()?;
        if self.record(id)?.status == SandboxStatus::Running {
            return Err(StateError::Running(id.clone()));
        }
        // Two monitors would write to one disk.
        if let Some(error) = self.release(id)?.failed {
            return Err(error);
        }
        let (config, owner_json, now) = (json(spec)?, json(&owner)?, now());
        self.write(|transaction| {
            let query = "SELECT status FROM vms WHERE id = ?1";
            let status: Option<String> =
                transaction.query_row(query, [id.as_str()], |row| row.get(0)).optional()?;
            match status.as_deref() {
                None => return Err(StateError::NotFound(id.to_string())),
                Some("running") => return Err(StateError::Running(id.clone())),
                Some(_) if !ledger::is_kept(transaction, id)? => {
                    return Err(StateError::NotKept(id.clone()));
                }
                Some(_) => {}
            }
            if let Some(name) = &spec.name {
                check_name(transaction, name.as_str())?;
            }
            transaction.execute(
                "UPDATE vms SET status = 'running', pid = ?2, owner_json = ?3, config_json = ?4,
                   updated_at = ?5, started_at = ?5, starts = starts + 1, ending_json = NULL
                 WHERE id = ?1",
                params![id.as_str(), owner.pid, owner_json, config, now],
            )?;
            ledger::enter(transaction, id, Kind::Monitor)?;
            journal::append(self, transaction, id, Stage::Created, None)
        })?;
        Ok(StateDir::kept(self, id))
    }
}
