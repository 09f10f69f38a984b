//! The steps of a life, written in their order by threads that may block.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::stage::Stage;
use super::{EndRecord, StateError, StateRoot, json, ledger, now};
use crate::error::CoreError;
use crate::id::SandboxId;
use crate::launcher::beside;
use crate::phase::Phase;
use crate::prepared::Origin;

/// What runs machines.
const BACKEND: &str = "qemu";

/// Ends that are remembered of sandboxes whose rows have gone.
const ENDINGS: i64 = 1000;

/// Steps that are remembered of each sandbox.
const STEPS: i64 = 1000;

/// Writes down the life of one sandbox.
#[derive(Debug)]
pub(crate) struct Journal(Arc<Pages>);

#[derive(Debug)]
struct Pages {
    state: StateRoot,
    id: SandboxId,
    /// Nothing is written before it is set.
    entered: Arc<AtomicBool>,
    /// The row stays when the sandbox has ended.
    recorded: bool,
    waiting: Mutex<VecDeque<Stage>>,
    /// Held by who writes, so that the order is that of the queue.
    pen: Mutex<()>,
}

impl Journal {
    pub(crate) fn new(state: StateRoot, origin: &Origin, recorded: bool) -> Self {
        let (waiting, pen) = Default::default();
        let Origin { id, entered, .. } = origin.clone();
        Self(Arc::new(Pages { state, id, entered, recorded, waiting, pen }))
    }

    /// Has a step written. Returns at once.
    pub(crate) fn note(&self, from: Phase, to: Phase) {
        let Some(stage) = Stage::of_step(from, to) else { return };
        lock(&self.0.waiting).push_back(stage);
        let pages = Arc::clone(&self.0);
        drop(spawn_blocking(move || pages.write()));
    }

    /// Writes the end, after all that was noted.
    ///
    /// # Errors
    /// [`CoreError::State`]: the next sweep takes the sandbox for crashed once this process has ended.
    pub(crate) async fn conclude(&self, ending: EndRecord) -> Result<(), CoreError> {
        let pages = Arc::clone(&self.0);
        beside(move || {
            pages.write();
            if !pages.entered.load(Ordering::Acquire) {
                return Ok(());
            }
            Ok(pages.state.conclude(&pages.id, pages.recorded, &ending)?)
        })
        .await
    }
}

impl Pages {
    fn write(&self) {
        let _pen = lock(&self.pen);
        loop {
            let Some(stage) = lock(&self.waiting).pop_front() else { return };
            if !self.entered.load(Ordering::Acquire) {
                continue;
            }
            // A step that is lost is a gap in the history, which no decision stands on.
            let _ = self.state.advance(&self.id, stage);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateRoot {
    pub(super) fn advance(&self, id: &SandboxId, stage: Stage) -> Result<(), StateError> {
        self.write(|transaction| append(self, transaction, id, stage, None))
    }

    /// Writes the end of a sandbox of this process: nothing of it is left but, perhaps, its row.
    pub(super) fn conclude(
        &self,
        id: &SandboxId,
        recorded: bool,
        ending: &EndRecord,
    ) -> Result<(), StateError> {
        let ended = json(ending)?;
        self.write(|transaction| {
            let row =
                "UPDATE vms SET status = 'stopped', pid = 0, owner_json = 'null', updated_at = ?2,
                ending_json = ?3 WHERE id = ?1 AND status = 'running' AND pid = ?4";
            let own = std::process::id();
            if transaction.execute(row, params![id.as_str(), now(), ended, own])? == 0 {
                // It never came into the database, or somebody has taken us for dead.
                return Ok(());
            }
            transaction.execute(
                "INSERT INTO endings (vm_id, json) VALUES (?1, ?2)",
                params![id.as_str(), ended],
            )?;
            let oldest = transaction.last_insert_rowid().saturating_sub(ENDINGS);
            transaction.execute("DELETE FROM endings WHERE number <= ?1", [oldest])?;
            let left = !ledger::passing(transaction, id)?.is_empty();
            if !recorded && !left {
                transaction.execute("DELETE FROM vms WHERE id = ?1", [id.as_str()])?;
                return Ok(());
            }
            append(self, transaction, id, Stage::Cleaning, None)?;
            let last = if left { Stage::CleanupFailed } else { Stage::Cleaned };
            append(self, transaction, id, last, ending.error.as_deref())
        })
    }
}

/// Adds a step to the history, unless it may not follow the last one, or there is no such sandbox.
pub(super) fn append(
    state: &StateRoot,
    transaction: &Transaction<'_>,
    id: &SandboxId,
    stage: Stage,
    error: Option<&str>,
) -> Result<(), StateError> {
    append_with(state, transaction, id, stage, error, &Value::Object(serde_json::Map::new()))
}

/// The same with what was given back.
pub(super) fn append_with(
    state: &StateRoot,
    transaction: &Transaction<'_>,
    id: &SandboxId,
    stage: Stage,
    error: Option<&str>,
    cleanup: &Value,
) -> Result<(), StateError> {
    let last = "SELECT l.version, l.phase FROM vm_lifecycle_head AS h
        JOIN vm_lifecycle AS l ON l.vm_id = h.vm_id AND l.version = h.last_version WHERE h.vm_id = ?1";
    let last: Option<(i64, String)> = transaction
        .query_row(last, [id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let version = match last {
        None if stage == Stage::Creating => 1,
        None => return Ok(()),
        Some((version, word)) => {
            let last = Stage::of_word(&word).ok_or(StateError::Entry("a phase"))?;
            if !last.may_become(stage) {
                return Ok(());
            }
            version + 1
        }
    };
    let resources = json(&ledger::summary(state, transaction, id)?)?;
    let (word, cleanup) = (stage.as_str(), json(cleanup)?);
    transaction.execute(
        "INSERT INTO vm_lifecycle VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![id.as_str(), version, BACKEND, word, now(), error, resources, cleanup],
    )?;
    transaction.execute(
        "INSERT INTO vm_lifecycle_head VALUES (?1, ?2)
         ON CONFLICT (vm_id) DO UPDATE SET last_version = ?2",
        params![id.as_str(), version],
    )?;
    let forget = "DELETE FROM vm_lifecycle WHERE vm_id = ?1 AND version <= ?2";
    transaction.execute(forget, params![id.as_str(), version - STEPS])?;
    Ok(())
}
