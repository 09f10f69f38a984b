//! Small files that only save time: losing one costs a repetition, never correctness.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `file` by `content` at once, so that no reader sees half of it. Failures are ignored:
/// a cache that cannot be written is an empty cache.
pub(crate) fn replace(file: &Path, content: &[u8]) {
    let Some(dir) = file.parent() else { return };
    // Two writers race harmlessly: each renames a whole file of its own.
    let temporary = file.with_extension(format!("tmp.{}", std::process::id()));
    let written = matchlock_sys::private_dir(dir)
        .and_then(|()| {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)
        })
        .and_then(|mut out| out.write_all(content))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
}
