//! Tests that a machine does not permit.

use std::fmt::Display;
use std::io::Write as _;

/// Where it is set, a test that is left out is a failure.
pub const NO_SKIPS: &str = "MATCHLOCK_NO_SKIPS";

/// How a line begins that says that a test was left out; the rest is its name and the reason.
pub const SKIPPED: &str = "skipped: ";

/// Says that the test of this thread cannot show on this machine what it is for. `cargo xtask test` counts
/// it as skipped. The test returns at once after that.
///
/// # Panics
/// Where [`NO_SKIPS`] is set.
#[track_caller]
pub fn skip(reason: impl Display) {
    assert!(std::env::var_os(NO_SKIPS).is_none(), "this test may not be skipped: {reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by `println!`: the harness keeps what a test prints, unless it fails.
    let reason = reason.to_string().lines().collect::<Vec<_>>().join("; ");
    let line = format!("\n{SKIPPED}{test}: {reason}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap_or_default();
}
