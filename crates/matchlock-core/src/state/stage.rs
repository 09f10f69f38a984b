//! The words of contract 6.3 for the phases of a life, as the table `vm_lifecycle` has them.

use crate::phase::Phase;

/// Where a sandbox is by the database: see the drawing in [`super`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Creating,
    Starting,
    Running,
    Stopping,
    CreateFailed,
    StartFailed,
    Cleaning,
    CleanupFailed,
    Cleaned,
    /// A kept sandbox is there again.
    Created,
}

impl Stage {
    pub(crate) const ALL: [Self; 10] = [
        Self::Creating,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::CreateFailed,
        Self::StartFailed,
        Self::Cleaning,
        Self::CleanupFailed,
        Self::Cleaned,
        Self::Created,
    ];

    /// The word in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::CreateFailed => "create_failed",
            Self::StartFailed => "start_failed",
            Self::Cleaning => "cleaning",
            Self::CleanupFailed => "cleanup_failed",
            Self::Cleaned => "cleaned",
            Self::Created => "created",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }

    /// What is written when a sandbox goes from one phase to the next. Its beginning is written by its
    /// registration, and its end when nothing is left of it.
    pub(crate) fn of_step(from: Phase, to: Phase) -> Option<Self> {
        match to {
            Phase::Preparing | Phase::Ended | Phase::Failed => None,
            Phase::Booting => Some(Self::Starting),
            Phase::Running => Some(Self::Running),
            Phase::Stopping => Some(Self::Stopping),
            Phase::Ending => Some(Self::Cleaning),
            Phase::Unwinding if from == Phase::Preparing => Some(Self::CreateFailed),
            Phase::Unwinding => Some(Self::StartFailed),
        }
    }

    /// Whether `next` may follow at once.
    pub(crate) fn may_become(self, next: Self) -> bool {
        match self {
            Self::Creating | Self::Created => {
                matches!(next, Self::Starting | Self::CreateFailed | Self::Cleaning)
            }
            Self::Starting => matches!(next, Self::Running | Self::StartFailed | Self::Cleaning),
            Self::Running => matches!(next, Self::Stopping | Self::Cleaning),
            Self::Stopping | Self::CreateFailed | Self::StartFailed | Self::CleanupFailed => {
                next == Self::Cleaning
            }
            Self::Cleaning => matches!(next, Self::Cleaned | Self::CleanupFailed),
            Self::Cleaned => next == Self::Created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_a_life_is_one_of_the_table() {
        let mut at = vec![(Phase::Preparing, Stage::Creating)];
        let mut number = 0;
        while let Some(&(phase, stage)) = at.get(number) {
            number += 1;
            for next in Phase::ALL.into_iter().filter(|next| phase.may_become(*next)) {
                match Stage::of_step(phase, next) {
                    Some(word) => {
                        assert!(stage.may_become(word), "{stage:?} to {word:?}");
                        at.push((next, word));
                    }
                    None => assert!(next.is_over(), "{phase:?} to {next:?}"),
                }
            }
        }
    }

    #[test]
    fn whatever_happens_the_next_thing_can_be_to_clean_up() {
        for stage in Stage::ALL {
            assert_eq!(Stage::of_word(stage.as_str()), Some(stage));
            let over = matches!(stage, Stage::Cleaned | Stage::Cleaning);
            assert_eq!(stage.may_become(Stage::Cleaning), !over, "{stage:?}");
        }
        let after: Vec<_> =
            Stage::ALL.into_iter().filter(|next| Stage::Cleaned.may_become(*next)).collect();
        assert_eq!(after, [Stage::Created], "and only if it is kept");
        assert_eq!(Stage::of_word("stopped"), None);
    }
}
