//! Fixtures for tests: a hermetic home for the `matchlock` binary, bounded waits, and the check that
//! nothing is left behind. For dev-dependencies only.

#![forbid(unsafe_code)]

pub mod dns;
mod lab;
mod leaks;
pub mod origin;
mod process;
mod program;
mod pty;
pub mod registry;
mod wait;

pub use lab::{Invocation, Lab, binary, repository};
pub use leaks::leaks;
pub use process::{Finished, Running};
pub use program::write_program;
pub use pty::Pty;
pub use wait::wait_until;

use std::time::Duration;

/// Longest time that one sandbox may take in a test, boot included. Emulated on a machine that runs
/// other tests beside it, a boot of one second can take twenty.
pub const PATIENCE: Duration = Duration::from_secs(180);
