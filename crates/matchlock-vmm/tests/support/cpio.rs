//! The smallest initramfs: a console and `/init`.

use std::io::{self, Write};
use std::path::Path;

pub(crate) fn write(path: &Path, init: &[u8]) -> io::Result<()> {
    let mut archive = Vec::new();
    // Without /dev/console PID 1 has no standard output to panic on.
    entry(&mut archive, "dev", 0o040_755, (0, 0), &[])?;
    entry(&mut archive, "dev/console", 0o020_600, (5, 1), &[])?;
    entry(&mut archive, "init", 0o100_755, (0, 0), init)?;
    entry(&mut archive, "TRAILER!!!", 0, (0, 0), &[])?;
    std::fs::write(path, archive)
}

/// One member in the "newc" format: every part is padded to four bytes.
fn entry(
    out: &mut Vec<u8>,
    name: &str,
    mode: u32,
    (major, minor): (u32, u32),
    data: &[u8],
) -> io::Result<()> {
    let (size, name_size) = (data.len(), name.len() + 1);
    write!(out, "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}", 0, 0, 0, 1, 0)?;
    write!(out, "{size:08x}{:08x}{:08x}{major:08x}{minor:08x}{name_size:08x}{:08x}", 0, 0, 0)?;
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}
