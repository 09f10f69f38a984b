//! The Python SDK as it was published, which starts our binary and knows nothing of it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use matchlock_testkit::{Lab, PYTHON_SDK, ReservedPort, binary, repository, skip};

/// The interpreter of the environment that has the SDK.
fn python() -> Option<PathBuf> {
    let default = || repository().join("target/test/python-sdk/bin/python");
    let python = std::env::var_os(PYTHON_SDK).map_or_else(default, PathBuf::from);
    if !python.is_file() {
        skip("the Python SDK is not installed: run `cargo xtask test`");
        return None;
    }
    Some(python)
}

#[test]
fn the_published_sdk_does_all_that_it_can() {
    let Some(python) = python() else { return };
    let lab = Lab::new();
    let port = ReservedPort::new();
    let ran = Command::new(python)
        .arg(repository().join("tests/sdk/scenario.py"))
        .env("MATCHLOCK_BIN", binary())
        .env("MATCHLOCK_ACCEL", "tcg")
        .env("HOME", lab.home())
        .env("FREE_PORT", port.number().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("Python runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ran.status.success(), "{}\n{}", text(&ran.stdout), text(&ran.stderr));
    // The lab finds what is left.
}
