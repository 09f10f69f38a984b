//! What the programs of the guest have left in the writable layer, as a layer of an image.
//!
//! The overlay's own notation becomes that of the OCI image spec (layer.md): a character device 0:0 is
//! a whiteout, `trusted.overlay.opaque` an opaque directory. The agent writes into the writable layer
//! too, while the guest starts; a [`Baseline`] of that start tells its traces from the programs'.
//!
//! The archive is written by a process of its own, in place of the program of an execution: whatever it
//! waits for, the agent does not.

mod tree;
mod trust;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};

use crate::authority::Authority;
use crate::console;
use matchlock_tar::tree::names;

/// Directories within directories: deeper ones cannot be reached by a path.
const MAX_DEPTH: u32 = 2048;

/// The writable layer of a guest that was asked to be ready for an export.
#[derive(Debug)]
pub struct Layer {
    upper: OwnedFd,
    baseline: Baseline,
    /// The authority that the agent has put into the trust stores.
    authority: Option<Authority>,
}

/// The state of every file of the layer at one time: its inode and when that was last changed.
#[derive(Debug, Default)]
struct Baseline {
    changed: HashMap<u64, (i64, i64)>,
    root: Option<(u32, u32, u32)>,
}

impl Layer {
    /// The layer in the directory `upper`, as the agent leaves it to the programs.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(upper: OwnedFd, authority: Option<Authority>) -> io::Result<Self> {
        let mut baseline = Baseline::default();
        let root = rustix::fs::fstat(&upper)?;
        baseline.root = Some(attributes(&root));
        record(&upper, &mut baseline, 0)?;
        Ok(Self { upper, baseline, authority })
    }

    /// The directory, to become standard input of the process that writes the archive.
    pub(crate) fn directory(&self) -> io::Result<OwnedFd> {
        self.upper.try_clone()
    }

    /// Runs as the process that writes the archive: from the directory on standard input to standard
    /// output. Returns the status to exit with.
    pub(crate) fn export(&self) -> i32 {
        let (directory, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        let written = directory.try_clone_to_owned().and_then(|directory| {
            let output = std::fs::File::from(output.try_clone_to_owned()?);
            self.write(directory, output)
        });
        match written {
            Ok(()) => 0,
            Err(error) => {
                console::line(format_args!("export: {error}"));
                1
            }
        }
    }

    /// Writes the archive of what is in `directory` now.
    ///
    /// # Errors
    /// When something cannot be read, or the output takes no more.
    pub fn write(&self, directory: OwnedFd, output: impl io::Write) -> io::Result<()> {
        tree::Export::new(self, output).run(directory)
    }
}

impl Baseline {
    /// The file is as the agent has left it.
    fn has(&self, stat: &Stat) -> bool {
        self.changed.get(&stat.st_ino) == Some(&(stat.st_ctime, stat.st_ctime_nsec as i64))
    }

    /// The root has another owner or mode than it had. Its times change with every new entry.
    fn root_changed(&self, stat: &Stat) -> bool {
        self.root != Some(attributes(stat))
    }
}

fn attributes(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode, stat.st_uid, stat.st_gid)
}

fn record(directory: &OwnedFd, baseline: &mut Baseline, depth: u32) -> io::Result<()> {
    for name in names(directory)? {
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        baseline.changed.insert(stat.st_ino, (stat.st_ctime, stat.st_ctime_nsec as i64));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < MAX_DEPTH {
            record(&open_directory(directory, &name)?, baseline, depth + 1)?;
        }
    }
    Ok(())
}

fn open_directory(parent: impl AsFd, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests;
