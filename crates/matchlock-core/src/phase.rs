//! The phases of a sandbox's life, and how it ends.
//!
//! ```text
//!   Preparing ─► Booting ─► Running ─► Stopping      the good way, from wish to wish
//!       │           │          │           │
//!       │           │          └─────┬─────┘
//!       ▼           ▼                ▼
//!       └─────┬─────┘             Ending             ports, machine, network, trail, directory
//!             ▼                      │
//!         Unwinding                  ▼
//!             │                    Ended
//!             ▼
//!          Failed
//! ```
//! *Preparing* takes what the machine needs of the host; *booting* lasts until the agent has set the
//! guest up. *Stopping* gives programs and disks their time; a machine that is ended at once skips it.
//! *Unwinding* is a start that came to nothing, and gives everything back. Only in *Ended* and *Failed*
//! nothing of the sandbox is left, and those two are never left.

use matchlock_net::Refusal;
use matchlock_proto::ExitStatus;
use matchlock_text::DescribeChain;
use matchlock_vmm::DiskFault;
use serde::Serialize;
use tokio::sync::watch;

use crate::state::{EndRecord, Journal};

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Files, locks and sockets are taken.
    Preparing,
    /// The machine runs and its agent does not answer yet.
    Booting,
    /// Programs can be started.
    Running,
    /// Programs are asked to end, and disks are written.
    Stopping,
    /// The machine is ended, then what it used is given back.
    Ending,
    /// It ran, and nothing of it is left.
    Ended,
    /// The start has failed or was called off; what was taken is given back.
    Unwinding,
    /// It never ran, and nothing of it is left.
    Failed,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndCause {
    /// Its command ended by itself.
    CommandEnded,
    /// Its command was not started, or the connection to it broke.
    CommandLost,
    /// A signal came while it started, or while its command ran.
    Signal(u8),
    /// Its time was over.
    Deadline,
    /// It was asked to stop, with time for its programs.
    Stopped,
    /// It was ended at once.
    Killed,
    /// Nobody reads its command's output any more.
    OutputClosed,
    /// What it did could not be recorded.
    AuditLost,
    /// The guest ended its machine.
    GuestGone,
    /// The virtual machine monitor died, which said this.
    MonitorDied(String),
    /// It never came up.
    StartFailed,
    /// Everybody who had a handle has dropped it.
    Abandoned,
}

/// The end of a sandbox. There is one when nothing of it is left.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ending {
    /// Why.
    pub cause: EndCause,
    /// How its last command ended; `None`: there was none, or it was ended with the machine.
    pub status: Option<ExitStatus>,
    /// What the guest was refused by the network's policy.
    pub refused: Vec<Refusal>,
    /// Why records of the audit trail were lost, if any were.
    pub audit_lost: Option<String>,
    /// The first operation of a disk that failed on the host, if one did: its file system may be full.
    pub disk_fault: Option<DiskFault>,
    /// Why the end could not be written down, if it could not.
    pub unrecorded: Option<String>,
}

impl EndCause {
    /// What it is called in the audit trail.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::CommandEnded => "command_ended",
            Self::CommandLost => "command_lost",
            Self::Signal(_) => "signal",
            Self::Deadline => "deadline",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::OutputClosed => "output_closed",
            Self::AuditLost => "audit_lost",
            Self::GuestGone => "guest_gone",
            Self::MonitorDied(_) => "monitor_died",
            Self::StartFailed => "start_failed",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Ending {
    /// Of a sandbox that never ran, or whose supervisor went with its runtime.
    pub(crate) fn of_nothing(cause: EndCause) -> Self {
        let (refused, audit_lost, disk_fault, unrecorded) = Default::default();
        Self { cause, status: None, refused, audit_lost, disk_fault, unrecorded }
    }
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Preparing,
        Self::Booting,
        Self::Running,
        Self::Stopping,
        Self::Ending,
        Self::Ended,
        Self::Unwinding,
        Self::Failed,
    ];

    /// Whether `next` may follow at once.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Preparing => matches!(next, Self::Booting | Self::Unwinding),
            Self::Booting => matches!(next, Self::Running | Self::Unwinding),
            Self::Running => matches!(next, Self::Stopping | Self::Ending),
            Self::Stopping => matches!(next, Self::Ending),
            Self::Ending => matches!(next, Self::Ended),
            Self::Unwinding => matches!(next, Self::Failed),
            Self::Ended | Self::Failed => false,
        }
    }

    /// Whether nothing of the sandbox is left.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }
}

/// Publishes the phase, and has it written down. Only the supervisor has it.
#[derive(Debug)]
pub(crate) struct Progress {
    phase: watch::Sender<Phase>,
    journal: Journal,
}

impl Progress {
    pub(crate) fn new(journal: Journal) -> (Self, watch::Receiver<Phase>) {
        let (phase, receiver) = watch::channel(Phase::Preparing);
        (Self { phase, journal }, receiver)
    }

    /// Goes on to `next`. A step that the drawing does not have is a mistake of ours, and is not taken.
    pub(crate) fn advance(&self, next: Phase) {
        let mut from = next;
        let taken = self.phase.send_if_modified(|phase| {
            from = *phase;
            let may = phase.may_become(next);
            if may {
                *phase = next;
            }
            may
        });
        debug_assert!(taken, "{from:?} does not become {next:?}");
        if taken {
            self.journal.note(from, next);
        }
    }

    /// Goes on to the last phase when the end is written down. Returns why it could not be.
    pub(crate) async fn conclude(&self, last: Phase, ending: EndRecord) -> Option<String> {
        let written = self.journal.conclude(ending).await;
        self.advance(last);
        written.err().map(|error| DescribeChain(&error).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_phase() -> impl Strategy<Value = Phase> {
        proptest::sample::select(Phase::ALL.to_vec())
    }

    proptest! {
        /// Whatever is asked for, the phases that follow each other are those of the drawing.
        #[test]
        fn no_order_of_wishes_leads_off_the_drawing(wishes in proptest::collection::vec(any_phase(), 0..40)) {
            let mut phase = Phase::Preparing;
            let mut ran = false;
            for next in wishes {
                if phase.may_become(next) {
                    prop_assert!(!phase.is_over(), "{phase:?} is the last");
                    prop_assert_ne!(next, Phase::Preparing, "nothing begins again");
                    phase = next;
                }
                ran |= phase == Phase::Running;
                match phase {
                    Phase::Stopping | Phase::Ending | Phase::Ended => prop_assert!(ran),
                    Phase::Unwinding | Phase::Failed => prop_assert!(!ran),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn every_phase_but_the_last_two_leads_on_to_an_end() {
        for start in Phase::ALL {
            let mut reached = vec![start];
            let mut at = 0;
            while let Some(&phase) = reached.get(at) {
                let next = Phase::ALL.into_iter().filter(|next| phase.may_become(*next));
                let new: Vec<_> = next.filter(|next| !reached.contains(next)).collect();
                reached.extend(new);
                at += 1;
            }
            assert!(reached.iter().any(|phase| phase.is_over()), "{start:?}");
            assert_eq!(start.is_over(), reached.len() == 1, "{start:?}");
        }
    }
}
