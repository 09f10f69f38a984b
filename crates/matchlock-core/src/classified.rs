//! What every error says beside its text, and how a chain of errors is shown.

use std::error::Error;
use std::path::PathBuf;

pub use matchlock_api::ErrorKind;

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
            // Only read, from a newer version.
            K::Unknown => false,
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
