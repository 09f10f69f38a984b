//! Signals to the owner of a sandbox, and waiting for its end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::process::{Here, Life, send, wait};
use super::{EndRecord, SandboxRecord, SandboxStatus, StateError, StateRoot};
use crate::id::SandboxId;

/// How long a killed owner may take to be gone.
pub(super) const OWNER_END: Duration = Duration::from_secs(10);

/// How often the row is looked at while its owner lives: that may have other sandboxes, and live on.
const LOOK: Duration = Duration::from_millis(100);

impl StateRoot {
    /// Sends a signal to the process that owns a sandbox, which takes it as a wish for its end.
    ///
    /// # Errors
    /// [`StateError::NotRunning`], [`StateError::Elsewhere`] or [`StateError::Process`].
    pub fn signal(&self, sandbox: &SandboxRecord, signal: i32) -> Result<(), StateError> {
        let id = || sandbox.id.clone();
        let failed = |source| StateError::Process { action: "signal", id: id(), source };
        let owner = sandbox.owner.as_ref().ok_or_else(|| StateError::NotRunning(id()))?;
        let named = Signal::from_named_raw(signal);
        let signal = named.ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        match Here::read().find(owner) {
            Life::Alive(pidfd) => send(&pidfd, signal).map_err(failed),
            Life::Elsewhere => Err(StateError::Elsewhere(id())),
            Life::Dead => Err(StateError::NotRunning(id())),
        }
    }

    /// Waits until a sandbox has ended, for so long at most; `None`: it runs. One that has ended has ended
    /// as its row says, or as is remembered if it has none any more, or was started again meanwhile.
    ///
    /// # Errors
    /// [`StateError::NotFound`] when nothing is known of such a sandbox, or the database.
    pub fn wait(
        &self,
        id: &SandboxId,
        limit: Option<Duration>,
    ) -> Result<Option<EndRecord>, StateError> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut starts = None;
        loop {
            let record = match self.record(id) {
                Ok(record) => record,
                Err(StateError::NotFound(wanted)) => {
                    let known = self.ending(id)?;
                    return known.map(Some).ok_or(StateError::NotFound(wanted));
                }
                Err(error) => return Err(error),
            };
            if record.status != SandboxStatus::Running {
                return Ok(record.ending);
            }
            if *starts.get_or_insert(record.starts) != record.starts {
                return Ok(Some(self.ending(id)?.unwrap_or_else(EndRecord::crashed)));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let look = left.unwrap_or(LOOK).min(LOOK);
            match record.owner.as_ref().map(|owner| Here::read().find(owner)) {
                Some(Life::Alive(pidfd)) => {
                    let failed =
                        |source| StateError::Process { action: "wait for", id: id.clone(), source };
                    wait(&pidfd, look).map_err(failed)?;
                }
                Some(Life::Elsewhere) => std::thread::sleep(look),
                Some(Life::Dead) | None => self.mark_crashed()?,
            }
        }
    }
}
