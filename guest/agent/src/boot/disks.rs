//! Disks beside those of the root: volumes that outlive the machine.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::chown;
use std::path::Path;

use matchlock_proto::{BootStep, DiskMount, DiskPart};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::root::{disk_path, grow};
use super::{Required, StepFailed};
use crate::{console, sys};

/// Mounts them in the guest's root.
pub(super) fn mount_all(disks: &[DiskMount]) -> Result<(), StepFailed> {
    disks.iter().try_for_each(|disk| {
        let shown = String::from_utf8_lossy(&disk.target);
        mount_disk(disk).required(BootStep::Disk, format_args!("disk for {shown:?}"))
    })
}

fn mount_disk(disk: &DiskMount) -> io::Result<()> {
    let target = Path::new(OsStr::from_bytes(&disk.target));
    fs::create_dir_all(target)?;
    let device = device(disk)?;
    if disk.read_only {
        let mounted = mount(&device, target, "ext4", MountFlags::RDONLY, c"");
        return mounted.map_err(|errno| explain(errno, true));
    }
    let options = c"noinit_itable,discard";
    mount(&device, target, "ext4", MountFlags::empty(), options)
        .map_err(|errno| explain(errno, false))?;
    // A file system of the user's own may lack what growing needs, and is as good as before.
    console::optional("grow a disk", grow(&device, target));
    if let Some((uid, gid)) = disk.owner {
        chown(target, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// The device with the file system: a partition, when the disk is a part of one.
fn device(disk: &DiskMount) -> io::Result<String> {
    let whole = disk_path("/dev", disk.disk);
    let Some(DiskPart { number, start, length }) = disk.part else {
        return Ok(whole);
    };
    let device = File::open(&whole)?;
    sys::add_partition(&device, number, start, length)
        .map_err(|error| io::Error::new(error.kind(), format!("part {number}: {error}")))?;
    Ok(format!("{whole}{number}"))
}

fn explain(errno: Errno, read_only: bool) -> io::Error {
    let why = match errno {
        Errno::INVAL => "there is no ext4 file system on it",
        Errno::UCLEAN | Errno::BADMSG => "its ext4 file system is damaged: run e2fsck on it",
        // The journal has to be replayed first, which writes.
        Errno::ROFS if read_only => {
            "it was not unmounted when its last machine ended: attach it once for writing"
        }
        other => return other.into(),
    };
    io::Error::other(why)
}

/// Unmounts them, so that the next mount finds nothing to repair. Nothing of the guest runs any more.
pub(crate) fn unmount_all(targets: &[Vec<u8>]) {
    for target in targets.iter().rev() {
        let unmounted = unmount(target.as_slice(), UnmountFlags::empty());
        console::optional("unmount a disk", unmounted);
    }
}
