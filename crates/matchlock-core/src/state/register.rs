//! A sandbox comes into the database, and what it holds goes out of it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use matchlock_api::control::SOCKET;
use rusqlite::{OptionalExtension, Transaction, params};

use super::ledger::{self, Kind};
use super::process::{Here, Life, ProcessRecord};
use super::stage::Stage;
use super::{StateError, StateRoot, journal, json, now};
use crate::id::SandboxId;
use crate::spec::{ImageSpec, SandboxSpec, SecretRule};
use crate::values::SandboxName;

/// The directory of a sandbox, ours while this value lives. Dropping it removes the directory, unless the
/// sandbox is kept, and what the sandbox holds from the ledger: so it goes last.
#[derive(Debug)]
pub(crate) struct StateDir {
    state: StateRoot,
    id: SandboxId,
    path: PathBuf,
    kept: bool,
}

impl StateRoot {
    /// Registers a sandbox as one of this process, and makes its directory.
    pub(crate) fn register(
        &self,
        id: &SandboxId,
        spec: &SandboxSpec,
    ) -> Result<StateDir, StateError> {
        let owner = ProcessRecord::own()?;
        if let Err(StateError::NameTaken { .. }) = self.enter(id, spec, &owner) {
            // Its owner may be dead, and nobody has noticed.
            self.mark_crashed()?;
            self.enter(id, spec, &owner)?;
        }
        let path = self.directory_of(id);
        let directory =
            StateDir { state: self.clone(), id: id.clone(), path, kept: spec.is_kept() };
        let vms = self.0.directory.join("vms");
        matchlock_sys::private_dir(&vms).map_err(StateError::file("create", vms))?;
        let made = DirBuilder::new().mode(0o700).create(&directory.path);
        made.map_err(StateError::file("create", &directory.path))?;
        Ok(directory)
    }

    pub(super) fn enter(
        &self,
        id: &SandboxId,
        spec: &SandboxSpec,
        owner: &ProcessRecord,
    ) -> Result<(), StateError> {
        let name = spec.name.as_ref().map(SandboxName::as_str);
        let image = match &spec.image {
            ImageSpec::Host => "host",
            ImageSpec::Stored { reference, .. } => reference,
        };
        let (config, owner_json, now) = (json(spec)?, json(owner)?, now());
        self.write(|transaction| {
            if let Some(name) = name {
                check_name(transaction, name)?;
            }
            transaction.execute(
                "INSERT INTO vms (id, pid, status, image, config_json, created_at, updated_at, name,
                   owner_json) VALUES (?1, ?2, 'running', ?3, ?4, ?5, ?5, ?6, ?7)",
                params![id.as_str(), owner.pid, image, config, now, name, owner_json],
            )?;
            ledger::enter(transaction, id, Kind::Directory)?;
            ledger::enter(transaction, id, Kind::Monitor)?;
            if spec.is_kept() {
                ledger::enter(transaction, id, Kind::Disk)?;
            }
            journal::append(self, transaction, id, Stage::Creating, None)
        })
    }
}

impl StateRoot {
    /// Writes down which secrets a sandbox of this process has now.
    pub(crate) fn record_secrets(
        &self,
        id: &SandboxId,
        secrets: Vec<SecretRule>,
    ) -> Result<(), StateError> {
        self.write(|transaction| {
            let query = "SELECT config_json FROM vms WHERE id = ?1 AND pid = ?2";
            let own = params![id.as_str(), std::process::id()];
            let config: Option<String> =
                transaction.query_row(query, own, |row| row.get(0)).optional()?;
            // Somebody has taken us for dead.
            let Some(config) = config else { return Ok(()) };
            let mut spec: SandboxSpec =
                serde_json::from_str(&config).map_err(|_| StateError::Entry("a configuration"))?;
            let Some(network) = &mut spec.network else { return Ok(()) };
            network.secrets = secrets;
            transaction.execute(
                "UPDATE vms SET config_json = ?2, updated_at = ?3 WHERE id = ?1",
                params![id.as_str(), json(&spec)?, now()],
            )?;
            Ok(())
        })
    }
}

/// Refuses the name of a sandbox that lives.
pub(super) fn check_name(transaction: &Transaction<'_>, name: &str) -> Result<(), StateError> {
    let query = "SELECT id FROM vms WHERE name = ?1 AND status = 'running'";
    let holder: Option<String> =
        transaction.query_row(query, [name], |row| row.get(0)).optional()?;
    let Some(holder) = holder else { return Ok(()) };
    let id = holder.parse().map_err(|_| StateError::Entry("an id"))?;
    Err(StateError::NameTaken { name: name.to_owned(), id })
}

impl StateDir {
    /// That of a kept sandbox, which is there.
    pub(super) fn kept(state: &StateRoot, id: &SandboxId) -> Self {
        let (state, path) = (state.clone(), state.directory_of(id));
        Self { state, id: id.clone(), path, kept: true }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The database, and the sandbox's id in it.
    pub(crate) fn entry(&self) -> (StateRoot, SandboxId) {
        (self.state.clone(), self.id.clone())
    }

    /// Records the monitor, so that it can be ended should it outlive us.
    pub(crate) fn record_monitor(&self, pid: u32) -> Result<(), StateError> {
        // One that has ended already needs no record.
        let Ok(process) = Here::read().record(pid) else { return Ok(()) };
        self.state.write(|transaction| ledger::describe(transaction, &self.id, &process))
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.kept {
            let _ = std::fs::remove_file(self.path.join(SOCKET));
            let monitor = Kind::Monitor;
            let _ = self.state.write(|transaction| ledger::leave(transaction, &self.id, monitor));
            return;
        }
        if ledger::remove(&self.path).is_ok() {
            // What is not taken out now is taken out by a sweep, which finds nothing to give back.
            let _ = self.state.write(|transaction| {
                Kind::ALL.iter().try_for_each(|kind| ledger::leave(transaction, &self.id, *kind))
            });
        }
    }
}

/// The owner of a row that says it is running.
pub(super) fn is_dead(here: &Here, owner: Option<&ProcessRecord>) -> bool {
    owner.is_none_or(|owner| matches!(here.find(owner), Life::Dead))
}
