//! What can be wrong with the state, or with what is asked of it.

use std::io;
use std::path::PathBuf;

use matchlock_db::DbError;

use crate::classified::{Classified, ErrorKind, Hint};
use crate::id::SandboxId;

/// What could not be done with the sandboxes of this user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The database cannot be opened, or is not ours.
    #[error("the state of the sandboxes cannot be opened")]
    Open(#[source] DbError),
    /// SQLite.
    #[error("the state of the sandboxes ($HOME/.matchlock/state.db) cannot be used")]
    Database(#[from] rusqlite::Error),
    /// It has a value that this program has not written.
    #[error(
        "the state of the sandboxes ($HOME/.matchlock/state.db) has an entry that is not valid: {0}"
    )]
    Entry(&'static str),
    /// A file or a directory of a sandbox.
    #[error("cannot {action} {}", path.display())]
    File {
        /// A verb.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is none of that id or name.
    #[error("VM {0} not found")]
    NotFound(String),
    /// There are several that it could stand for.
    #[error("VM {wanted} could be several: {}", one_line(.found))]
    Several {
        /// What was given.
        wanted: String,
        /// What it may stand for; not all, if they are many.
        found: Vec<SandboxId>,
    },
    /// A sandbox that lives has that name.
    #[error("the name {name} is that of {id}, which is running")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        id: SandboxId,
    },
    /// It lives, and what was asked for does not go together with that.
    #[error("VM is running {0}")]
    Running(SandboxId),
    /// It has no disk that it could go on with.
    #[error("VM {0} was not kept, so it cannot be started again")]
    NotKept(SandboxId),
    /// It does not live any more.
    #[error("VM {0} is not running")]
    NotRunning(SandboxId),
    /// Its process is one of another container, where this one can do nothing with it.
    #[error("VM {0} belongs to a process of another container")]
    Elsewhere(SandboxId),
    /// Its process could not be found, signalled or waited for.
    #[error("cannot {action} the process of VM {id}")]
    Process {
        /// A verb.
        action: &'static str,
        /// Whose.
        id: SandboxId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something of it could not be given back.
    #[error("cannot give back the {kind} of VM {id}")]
    Release {
        /// What.
        kind: &'static str,
        /// Whose.
        id: SandboxId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classified for StateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open(DbError::Newer { .. } | DbError::Foreign(_)) => ErrorKind::Conflict,
            Self::Open(_) | Self::Database(_) | Self::Entry(_) => ErrorKind::Io,
            Self::File { source, .. }
            | Self::Process { source, .. }
            | Self::Release { source, .. } => ErrorKind::of_io(source),
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Several { .. } => ErrorKind::InvalidArgument,
            Self::NameTaken { .. } | Self::Running(_) | Self::NotKept(_) | Self::NotRunning(_) => {
                ErrorKind::Conflict
            }
            Self::Elsewhere(_) => ErrorKind::Unavailable,
        }
    }

    fn hint(&self) -> Option<Hint> {
        Some(match self {
            Self::Open(DbError::Newer { .. }) => return None,
            Self::File { .. } | Self::Open(DbError::File { .. }) => {
                Hint::Text("matchlock keeps its state below $HOME/.matchlock")
            }
            Self::Open(_) | Self::Database(_) | Self::Entry(_) => Hint::Text(
                "if it is damaged: end all sandboxes, move $HOME/.matchlock/state.db and the files \
                 beside it away, and start again",
            ),
            Self::NotFound(_) | Self::Several { .. } => Hint::ListSandboxes,
            Self::NameTaken { .. } => Hint::Text("choose another name, or end that sandbox"),
            Self::Running(_) => Hint::EndSandbox,
            Self::Elsewhere(_) => Hint::Text("use matchlock in that container"),
            _ => return None,
        })
    }
}

impl StateError {
    /// Wraps the cause of a failed operation on `path`.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

fn one_line(found: &[SandboxId]) -> String {
    found.iter().map(SandboxId::as_str).collect::<Vec<_>>().join(", ")
}
