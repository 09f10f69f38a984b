//! `cargo xtask sanitize`: the tests of the crates with unsafe code, under the address sanitizer.
//!
//! The other crates forbid unsafe code. The runtime of the sanitizer comes with the stable
//! toolchain; only the compiler's flag is behind `RUSTC_BOOTSTRAP`.

use anyhow::Result;

use crate::run;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

/// Those that call the kernel without a wrapper of another crate's.
const PACKAGES: [&str; 2] = ["matchlock-sys", "matchlock-agent"];

/// Builds in a directory of its own, for every crate is compiled with the sanitizer, and runs.
///
/// # Errors
/// When a test failed, or the sanitizer found something.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(&[Need::CCompiler])?;
    let mut cargo = workspace.cargo();
    // The sanitizer's runtime is there for this target, which links dynamically, as that wants.
    cargo.args(["test", "--no-fail-fast", "--lib", "--bins", "--target", setup::GNU]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    cargo.arg("--target-dir").arg(workspace.target().join("sanitize"));
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    // What a test leaves to the end of its process is no fault of the memory's.
    cargo.env("ASAN_OPTIONS", "detect_leaks=0");
    run::checked(&mut cargo)
}
