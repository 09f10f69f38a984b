//! Programs made by a test.

use std::path::Path;
use std::process::Command;

/// Writes an executable script.
///
/// By another process: while a descriptor of ours is open for writing, a test that forks at that
/// moment keeps it open in its child, and the program is busy (execve(2), `ETXTBSY`).
///
/// # Panics
/// When it cannot be written.
pub fn write_program(path: &Path, script: &str) {
    let write = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let status = Command::new("sh").args(["-c", write, "sh", script]).arg(path).status();
    assert!(status.expect("sh").success(), "cannot write {}", path.display());
}
