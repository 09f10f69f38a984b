//! From what a user types to a sandbox.

use super::{SandboxRecord, SandboxStatus, StateError, StateRoot};
use crate::id::SandboxId;

/// Most sandboxes that an error names.
const SHOWN: usize = 5;

impl StateRoot {
    /// The sandbox that is meant by an id, the beginning of one, or a name.
    ///
    /// # Errors
    /// [`StateError::NotFound`] or [`StateError::Several`].
    pub fn find(&self, wanted: &str) -> Result<SandboxRecord, StateError> {
        self.mark_crashed()?;
        let records = self.records()?;
        let found = resolve(wanted, &records)?.clone();
        Ok(found)
    }
}

/// An id counts before a name, a name of a living one before others, a name before the beginning of an id.
/// That may be without `vm-`.
pub(super) fn resolve<'a>(
    wanted: &str,
    records: &'a [SandboxRecord],
) -> Result<&'a SandboxRecord, StateError> {
    let is = |record: &&SandboxRecord| record.id.as_str() == wanted;
    let named = |record: &&SandboxRecord| record.name.as_deref() == Some(wanted);
    let lives = |record: &&SandboxRecord| record.status == SandboxStatus::Running;
    let begins = |record: &&SandboxRecord| {
        let id = record.id.as_str();
        !wanted.is_empty()
            && (id.starts_with(wanted) || id[SandboxId::PREFIX.len()..].starts_with(wanted))
    };
    let all = || records.iter();
    if let Some(record) = all().find(is).or_else(|| all().filter(lives).find(named)) {
        return Ok(record);
    }
    let names: Vec<_> = all().filter(named).collect();
    let found = if names.is_empty() { all().filter(begins).collect() } else { names };
    match *found {
        [] => Err(StateError::NotFound(wanted.to_owned())),
        [record] => Ok(record),
        _ => {
            let found = found.iter().take(SHOWN).map(|record| record.id.clone()).collect();
            Err(StateError::Several { wanted: wanted.to_owned(), found })
        }
    }
}
