//! What the host remembers of its sandboxes: `$HOME/.matchlock/state.db`, and the directories `vms/<id>`.
//!
//! Every process of this user reads and writes the database; there is no daemon. A row of `vms` is a
//! sandbox, a row of `resources` is something of the host that it holds: that row is there before the
//! thing exists, and goes after it. Whoever comes next takes back what a killed process has left
//! ([`StateRoot::sweep`]).
//!
//! ```text
//!                registration                     the owner's end
//!   (nothing) ──────────────────► running ──────────────────────────► stopped, or no row
//!                                  ▲ │      its process is dead          ▲ │
//!                                  │ └──────────────────► crashed        │ │ rm, prune
//!                                  │                         └───────────┼─┴──► (nothing)
//!                                  │    (the row stays until then)       │
//!                                  └── start, of one that is kept ───────┴ Lifetime::recorded
//! ```
//! A status is changed by comparing: it is only *crashed* if it is still *running* by that very owner,
//! which is a process id, a start time, a boot and a namespace. So two sweeps at once are as one, and a
//! sweep that dies in the middle is gone on with by the next: each of its steps can be done twice.
//!
//! `vm_lifecycle` has the history, in the words of contract 6.3, one row for each step:
//!
//! ```text
//!   creating ──► starting ──► running ──► stopping
//!      │  │       ▲ │  │         │           │
//!      │  └───────┼─┼──┴─────────┴─────┬─────┘
//!      ▼          │ ▼                  ▼
//!   create_failed │ start_failed ──► cleaning ──► cleaned ──► created (again) ──► as creating
//!      │                              ▲  │
//!      └──────────────────────────────┤  ▼
//!                                   cleanup_failed
//! ```
//! [`crate::Phase`] is what the living have; `Stage::of_step` says which word is written for which step.
//! Words that the drawing does not allow after the last one are not written. No step waits for the disk:
//! the database is whole after a loss of power, but its last words may be missing.

mod error;
mod journal;
mod ledger;
mod process;
mod record;
mod register;
mod resolve;
mod resume;
mod schema;
mod stage;
mod sweep;
#[cfg(test)]
mod tests;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use matchlock_text::rfc3339;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use error::StateError;
pub(crate) use journal::Journal;
pub use record::{EndRecord, LifecycleRecord, SandboxRecord, SandboxStatus};
pub(crate) use register::StateDir;
pub use sweep::{Released, Swept};

use crate::id::SandboxId;

/// The sandboxes of a user. Copies share one connection to the database, which is opened when it is
/// first needed.
#[derive(Debug, Clone)]
pub struct StateRoot(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    database: Mutex<Option<Connection>>,
}

impl StateRoot {
    /// State below `home`/.matchlock.
    #[must_use]
    pub fn in_home(home: &Path) -> Self {
        let directory = home.join(".matchlock");
        Self(Arc::new(Shared { directory, database: Mutex::default() }))
    }

    /// The directory of a sandbox.
    #[must_use]
    pub fn directory_of(&self, id: &SandboxId) -> PathBuf {
        self.0.directory.join("vms").join(id.as_str())
    }

    /// Reads.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.connected(|connection| work(connection))
    }

    /// Reads and writes, all of it or nothing. Nobody else writes meanwhile.
    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.connected(|connection| {
            let immediate = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
    }

    fn connected<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let mut database = self.0.database.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *database {
            Some(connection) => work(connection),
            none => work(none.insert(self.open()?)),
        }
    }

    fn open(&self) -> Result<Connection, StateError> {
        let directory = &self.0.directory;
        matchlock_sys::private_dir(directory).map_err(StateError::file("create", directory))?;
        let path = directory.join("state.db");
        let connection = schema::SCHEMA.open(&path).map_err(StateError::Open)?;
        // A step of a sandbox must not wait for the disk, and neither must the end of a process.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    }
}

/// The time, as the database has it.
fn now() -> String {
    rfc3339(SystemTime::now())
}

/// A value that is written into the database.
fn json(value: &impl serde::Serialize) -> Result<String, StateError> {
    serde_json::to_string(value).map_err(|_| StateError::Entry("a value that cannot be written"))
}
