//! What every error says beside its text, and how a chain of errors is shown.

use std::error::Error;
use std::path::PathBuf;

/// What the person who sees an error does next. Where that is a command or a setting, its name is known to
/// the front, which says it in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// In words that hold for every front.
    Text(&'static str),
    /// Check this machine.
    CheckHost,
    /// Verify the trail in this file, and use another file.
    CheckTrail(PathBuf),
    /// Let matchlock choose the accelerator.
    ChooseAccelerator,
    /// Let matchlock find QEMU, or name its program.
    FindQemu,
    /// Remove images that are not needed.
    FreeImages,
    /// Bring an archive in one of the forms that are read.
    ImportArchive,
    /// Install QEMU, or name one.
    InstallQemu,
    /// End the sandbox, or have it ended.
    EndSandbox,
    /// See which images are here.
    ListImages,
    /// See which sandboxes there are.
    ListSandboxes,
    /// See which volumes there are.
    ListVolumes,
    /// Use the kernel that matchlock carries.
    OwnKernel,
    /// Ask the registry for the image again.
    PullAgain,
}

/// What a program does about an error depends on its kind. The texts are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for what cannot be.
    InvalidArgument,
    /// What was named is not there.
    NotFound,
    /// Somebody else has it, or it exists already.
    Conflict,
    /// This machine, or another one, cannot do it now.
    Unavailable,
    /// A policy or a permission forbids it.
    Denied,
    /// It took too long.
    Timeout,
    /// The caller, or the end of the sandbox, came first.
    Cancelled,
    /// The guest failed, or broke its protocol.
    Guest,
    /// The virtual machine monitor failed.
    Vmm,
    /// The host's files, sockets or memory failed.
    Io,
    /// A mistake of matchlock's own.
    Internal,
}

impl ErrorKind {
    /// The kind of a failed operation of the host's.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound,
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AlreadyExists => Self::Conflict,
            std::io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Io,
        }
    }
}

/// An error that says of what kind it is, and what helps.
pub trait Classified: Error {
    /// What a program can decide by.
    fn kind(&self) -> ErrorKind;

    /// The next step for the person who sees the error, if there is a usual one.
    fn hint(&self) -> Option<Hint> {
        None
    }
}

impl<E: Classified> Classified for std::sync::Arc<E> {
    fn kind(&self) -> ErrorKind {
        E::kind(self)
    }

    fn hint(&self) -> Option<Hint> {
        E::hint(self)
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorKind as K;

    #[test]
    fn the_words_of_the_guide_are_those_of_the_kinds() {
        let kinds = [
            K::InvalidArgument,
            K::NotFound,
            K::Conflict,
            K::Unavailable,
            K::Denied,
            K::Timeout,
            K::Cancelled,
            K::Guest,
            K::Vmm,
            K::Io,
            K::Internal,
        ];
        // A new kind has its place in the list above.
        let known = |kind| match kind {
            K::InvalidArgument | K::NotFound | K::Conflict | K::Unavailable | K::Denied => true,
            K::Timeout | K::Cancelled | K::Guest | K::Vmm | K::Io | K::Internal => true,
        };
        assert!(kinds.into_iter().all(known));
        let words = kinds.map(|kind| serde_json::to_string(&kind).expect("a word"));
        let guide = include_str!("../../../docs/json.md");
        let (_, table) = guide.split_once("| `error.kind` | |\n|---|---|\n").expect("the table");
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let told: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
        assert_eq!(told, words.each_ref().map(|word| word.trim_matches('"')));
    }
}
