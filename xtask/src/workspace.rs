//! Where things are in this repository.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The repository that `cargo xtask` was called in.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the root from the package directory that Cargo passes to the programs it runs.
    pub(crate) fn locate() -> Result<Self> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .context("CARGO_MANIFEST_DIR is not set: call this as `cargo xtask`")?;
        let root = Path::new(&package).parent().context("the package directory has no parent")?;
        ensure!(root.join("xtask").is_dir(), "{} is not the repository's root", root.display());
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => root.join(target),
            None => root.join("target"),
        };
        Ok(Self { root: root.to_owned(), target })
    }

    /// The root directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The guest's initramfs; the `[env]` table of `.cargo/config.toml` tells the build of the
    /// binary the same path, so it does not follow `CARGO_TARGET_DIR`.
    pub(crate) fn initramfs(&self) -> PathBuf {
        self.path("target/guest/initramfs.cpio.zst")
    }

    /// The released binary.
    pub(crate) fn dist_binary(&self) -> PathBuf {
        self.path("target/dist/matchlock")
    }

    /// A call of the Cargo that runs us, in the root directory.
    pub(crate) fn cargo(&self) -> Command {
        self.cargo_as(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// The same of a program that calls Cargo.
    pub(crate) fn cargo_as(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // Of the package that runs us, not of those that the call is about.
        for variable in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            command.env_remove(variable);
        }
        command
    }
}
