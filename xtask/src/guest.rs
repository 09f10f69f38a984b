//! `cargo xtask guest`: the agent and the initramfs around it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cpio::Archive;
use crate::run;
use crate::setup::{self, StaticTarget};
use crate::workspace::Workspace;

/// Level of the compression: the archive is small, is packed rarely and travels in every binary.
const ZSTD_LEVEL: i32 = 19;

/// Builds the agent and packs the initramfs; returns the path of the latter.
///
/// The file is only written when its content changes: the binary embeds it, and a new time stamp
/// alone would make Cargo build that again.
pub(crate) fn run(workspace: &Workspace) -> Result<PathBuf> {
    let target = setup::static_target(setup::CCode::No)?;
    let agent = build_agent(workspace, &target)?;
    let content = fs::read(&agent).with_context(|| format!("cannot read {}", agent.display()))?;
    let agent_size = content.len();
    let packed = zstd::encode_all(pack(content).as_slice(), ZSTD_LEVEL)
        .context("cannot compress the initramfs")?;
    let path = workspace.initramfs();
    let changed = write_if_changed(&path, &packed)?;
    eprintln!(
        "guest: agent {} ({} KiB), initramfs {} KiB, {}",
        target.triple,
        agent_size / 1024,
        packed.len() / 1024,
        if changed { "written" } else { "unchanged" }
    );
    Ok(path)
}

fn build_agent(workspace: &Workspace, target: &StaticTarget) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "matchlock-agent", "--profile", "guest"]);
    target.apply(&mut cargo, workspace);
    run::checked(&mut cargo).context("cannot build the guest agent")?;
    Ok(workspace.target().join(target.triple).join("guest").join("matchlock-agent"))
}

/// The file system that the kernel starts in: the agent as `/init`, and places to mount on.
fn pack(agent: Vec<u8>) -> Vec<u8> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys"] {
        archive.directory(directory);
    }
    // The kernel opens it before `/init` runs; without it the agent starts with closed streams.
    archive.character_device("dev/console", 5, 1);
    archive.file("init", 0o755, agent);
    archive.into_bytes()
}

/// Replaces a file as a whole, if its content is another; returns whether it was.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let directory = path.parent().context("the path has no directory")?;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn an_unchanged_file_is_left_alone() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("a/b");
        assert!(write_if_changed(&path, b"one")?);
        let inode = fs::metadata(&path)?.ino();
        assert!(!write_if_changed(&path, b"one")?);
        assert_eq!(fs::metadata(&path)?.ino(), inode);
        assert!(write_if_changed(&path, b"two")?);
        assert_eq!(fs::read(&path)?, b"two");
        Ok(())
    }
}
