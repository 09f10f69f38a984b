//! The limit of open files of this process, on which everything that a sandbox has open on the host draws.

use rustix::process::{Resource, getrlimit};

use crate::error::CoreError;

/// Fewest open files with which a sandbox of one image can start. A guest that finds no more gets errors of
/// its own, which say nothing of the host.
const NEEDED: u64 = 128;

/// Checks the limit before anything is opened.
///
/// # Errors
/// [`CoreError::OpenFiles`].
pub(crate) fn check() -> Result<(), CoreError> {
    judge(getrlimit(Resource::Nofile).current)
}

fn judge(limit: Option<u64>) -> Result<(), CoreError> {
    match limit {
        Some(limit) if limit < NEEDED => Err(CoreError::OpenFiles { limit, needed: NEEDED }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classified::{Classified, Hint};

    /// Issue 9: the error was the guest's, "No file descriptors available".
    #[test]
    fn too_few_open_files_are_told_with_what_raises_the_limit() {
        let error = judge(Some(64)).expect_err("too few");
        let says = "this process may have 64 files open, and a sandbox needs 128";
        assert_eq!(error.to_string(), says);
        assert!(matches!(error.hint(), Some(Hint::Text(text)) if text.contains("ulimit -n")));
        judge(Some(NEEDED)).expect("enough");
        judge(None).expect("no limit");
    }
}
