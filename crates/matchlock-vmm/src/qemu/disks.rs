//! What of a description the microvm machine cannot have, found before QEMU is started.

use std::os::fd::OwnedFd;

use crate::error::VmmError;
use crate::{Disk, DiskSource, MAX_DEVICES, OWN_DEVICES, SECTOR, VmSpec};

/// What a disk is read from.
#[derive(Debug)]
pub(super) enum Source {
    File(OwnedFd),
    /// With the number of sectors of each.
    Parts(Vec<(OwnedFd, u64)>),
}

impl From<DiskSource> for Source {
    fn from(source: DiskSource) -> Self {
        match source {
            DiskSource::File(file) => Self::File(file.into()),
            DiskSource::Concatenated(parts) => {
                let part = |(file, bytes): (_, u64)| (OwnedFd::from(file), bytes / SECTOR);
                Self::Parts(parts.into_iter().map(part).collect())
            }
        }
    }
}

/// Counts the devices and looks at the disks.
pub(super) fn check(spec: &VmSpec) -> Result<(), VmmError> {
    let nics = usize::from(spec.nic.is_some());
    let wanted = OWN_DEVICES + spec.filesystems.len() + spec.disks.len() + nics;
    if wanted > MAX_DEVICES {
        return Err(VmmError::TooManyDevices { wanted });
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        check_disk(disk).map_err(|problem| VmmError::Disk { index, problem })?;
    }
    Ok(())
}

fn check_disk(disk: &Disk) -> Result<(), &'static str> {
    let DiskSource::Concatenated(parts) = &disk.source else {
        return Ok(());
    };
    if parts.is_empty() || parts.len() > DiskSource::MAX_PARTS {
        return Err("has no files or more than fit");
    }
    for (file, bytes) in parts {
        if *bytes == 0 || bytes % SECTOR != 0 {
            return Err("has a file that is empty or ends within a sector");
        }
        let there = file.metadata().map_err(|_| "has a file without a length")?.len();
        if there < *bytes {
            return Err("has a file that is shorter than it should be");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file(bytes: u64) -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(bytes).expect("resized");
        file
    }

    fn spec(disks: Vec<Disk>) -> VmSpec {
        VmSpec {
            name: "vm".to_owned(),
            kernel: file(0),
            initramfs: file(0),
            cmdline: String::new(),
            vcpus: 1,
            memory_mib: 64,
            disks,
            filesystems: Vec::new(),
            nic: None,
            console: None,
        }
    }

    fn parts(parts: Vec<(File, u64)>) -> Disk {
        Disk { source: DiskSource::Concatenated(parts), read_only: true, ephemeral: false }
    }

    fn judged(disk: Disk) -> Result<(), String> {
        check(&spec(vec![disk])).map_err(|error| error.to_string())
    }

    #[test]
    fn a_disk_of_whole_sectors_that_are_there_is_fine() {
        assert_eq!(judged(parts(vec![(file(1024), 512), (file(512), 512)])), Ok(()));
    }

    #[test]
    fn each_defect_of_a_disk_is_refused() {
        let many = || (0..=DiskSource::MAX_PARTS).map(|_| (file(512), 512)).collect();
        let bad = [
            parts(Vec::new()),
            parts(many()),
            parts(vec![(file(512), 0)]),
            parts(vec![(file(1024), 513)]),
            parts(vec![(file(512), 1024)]),
        ];
        for disk in bad {
            let shown = format!("{disk:.0?}");
            assert!(judged(disk).is_err_and(|text| text.starts_with("disk 0 ")), "{shown:.200}");
        }
    }

    #[test]
    fn a_machine_has_eight_devices_and_not_nine() {
        let disks = |count: usize| (0..count).map(|_| parts(vec![(file(512), 512)])).collect();
        assert!(check(&spec(disks(6))).is_ok());
        let error = check(&spec(disks(7))).expect_err("nine devices");
        assert!(matches!(error, VmmError::TooManyDevices { wanted: 9 }), "{error}");
    }
}
