//! `cargo xtask build`: the released binary, one static file with kernel, initramfs and agent in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::run;
use crate::setup::{self, CCode};
use crate::workspace::Workspace;
use crate::{guest, setup::StaticTarget};

/// Builds the guest and the binary; returns the path of the latter.
pub(crate) fn run(workspace: &Workspace) -> Result<PathBuf> {
    guest::run(workspace)?;
    let target = setup::static_target(CCode::Yes)?;
    let mut cargo = workspace.cargo();
    cargo.arg("build");
    target.apply(&mut cargo, workspace);
    let built = build(workspace, &target, cargo, "release")?;
    let path = workspace.dist_binary();
    let directory = path.parent().context("the path has no directory")?;
    fs::create_dir_all(directory)?;
    // Not over the old file: that may be running.
    let temporary = path.with_extension("new");
    fs::copy(&built, &temporary)
        .and_then(|_| fs::rename(&temporary, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let mib = size_in_mib(fs::metadata(&path)?.len());
    eprintln!("build: {} ({mib}, static, {})", path.display(), target.triple);
    Ok(path)
}

/// Builds the guest and the binary of the tests, which is static too. It is not optimised across
/// crates, which takes minutes, and its paths are not mapped, which no compiler cache takes.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<PathBuf> {
    guest::run(workspace)?;
    let target = setup::static_target(CCode::Yes)?;
    let mut cargo = workspace.cargo();
    cargo.arg("build");
    target.apply_unmapped(&mut cargo);
    build(workspace, &target, cargo, "tested")
}

fn build(
    workspace: &Workspace,
    target: &StaticTarget,
    mut cargo: Command,
    profile: &str,
) -> Result<PathBuf> {
    cargo.args(["--profile", profile, "--locked", "--package", "matchlock"]);
    run::checked(&mut cargo).context("cannot build the binary")?;
    let built = workspace.target().join(target.triple).join(profile).join("matchlock");
    ensure_static(&built)?;
    Ok(built)
}

fn size_in_mib(bytes: u64) -> String {
    let tenths = bytes * 10 / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn ensure_static(path: &Path) -> Result<()> {
    let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let interpreter = has_interpreter(&content).context("the binary is not a 64-bit ELF file")?;
    ensure!(!interpreter, "{} needs a dynamic loader: it is not static", path.display());
    Ok(())
}

/// Whether an ELF file names a dynamic loader (a `PT_INTERP` program header; ELF-64 object file
/// format, version 1.5, section 7). `None` when it is no little-endian ELF-64 file.
fn has_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    elf.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let short = |at: usize| Some(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?).into());
    let offset = u64::from_le_bytes(*elf.get(32..)?.first_chunk()?);
    let (size, count): (usize, usize) = (short(54)?, short(56)?);
    let table = elf.get(usize::try_from(offset).ok()?..)?.get(..size.checked_mul(count)?)?;
    let kind = |header: &[u8]| header.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    Some(table.chunks(size.max(1)).any(|header| kind(header) == Some(PT_INTERP)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_a_loader_and_text_is_no_program() -> Result<()> {
        let own = fs::read(std::env::current_exe()?)?;
        assert_eq!(has_interpreter(&own), Some(cfg!(not(target_feature = "crt-static"))));
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(has_interpreter(&own[..64]), None);
        Ok(())
    }

    #[test]
    fn sizes_are_shown_in_mib() {
        assert_eq!(size_in_mib(5 * 1024 * 1024 + 600 * 1024), "5.5 MiB");
    }
}
