//! Fixtures for tests: a hermetic home for the `matchlock` binary, bounded waits, and the check that
//! nothing is left behind. For dev-dependencies only.

#![forbid(unsafe_code)]

mod chance;
pub mod dns;
pub mod docker_registry;
pub mod image_archive;
mod images;
mod lab;
mod leaks;
pub mod origin;
mod port;
mod process;
mod program;
mod pty;
pub mod registry;
mod skip;
mod wait;

pub use chance::Stretch;
pub use images::{TEST_IMAGES, TestImage};
pub use lab::{Invocation, Lab, binary, repository};
pub use leaks::leaks;
pub use port::ReservedPort;
pub use process::{Finished, Running};
pub use program::write_program;
pub use pty::Pty;
pub use skip::{NO_SKIPS, SKIPPED, skip};
pub use wait::wait_until;

use std::time::Duration;

/// Names the file to which a harness of our own writes the time of each case: `SECONDS NAME`, a line each.
pub const CASE_TIMES: &str = "MATCHLOCK_CASE_TIMES";

/// Names the Python interpreter that has the published SDK.
pub const PYTHON_SDK: &str = "MATCHLOCK_TEST_PYTHON_SDK";

/// Names the guest's kernel, unpacked, for the tests of devices.
pub const TEST_KERNEL: &str = "MATCHLOCK_TEST_KERNEL";

/// Longest time that one sandbox may take in a test, boot included. Emulated on a machine that runs
/// other tests beside it, a boot of one second can take twenty.
pub const PATIENCE: Duration = Duration::from_secs(180);
