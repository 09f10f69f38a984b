//! The user's disks on the few devices that a machine has room for.
//!
//! Each is a device of its own as long as all fit, since only then the host gets back what the guest
//! frees. Otherwise those for writing share one device and those for reading another, each disk a part.

use matchlock_proto::{DiskMount, DiskPart};
use matchlock_vmm::{Disk, DiskSource};

use super::add;
use crate::error::CoreError;
use crate::spec::DiskSpec;
use crate::values::InvalidConfig;
use crate::volume::{Access, Attached};

/// Partitions that Linux has on a device, whose numbers begin at 1 (`DISK_MAX_PARTS`).
const MAX_PARTS: usize = 255;

/// Adds the disks to those of the machine, which has room for `room` in all, and says how the guest
/// mounts them, in their order.
pub(super) fn attach(
    disks: &mut Vec<Disk>,
    extra: Vec<(&DiskSpec, Attached)>,
    room: usize,
) -> Result<Vec<DiskMount>, CoreError> {
    if disks.len() + extra.len() <= room {
        let own = |(disk, attached): (&DiskSpec, Attached)| {
            let (mut mount, source) = (mount(disk), DiskSource::File(attached.into_file()));
            mount.disk = add(disks, source, access(&mount))?;
            Ok(mount)
        };
        return extra.into_iter().map(own).collect();
    }
    let mut mounts: Vec<_> = extra.iter().map(|(disk, _)| mount(disk)).collect();
    let files: Vec<_> = extra.into_iter().map(|(_, attached)| attached.into_file()).collect();
    let mut kinds = [(Access::ReadWrite, Vec::new(), 0), (Access::ReadOnly, Vec::new(), 0)];
    for (mount, file) in mounts.iter_mut().zip(files) {
        let [writable, read_only] = &mut kinds;
        let (_, parts, end) = if mount.read_only { read_only } else { writable };
        let length = file.metadata().map_err(CoreError::host("read the length of a disk"))?.len();
        parts.push((file, length));
        let number = u8::try_from(parts.len())
            .map_err(|_| CoreError::Config(InvalidConfig::TooManyDisks { max: MAX_PARTS }))?;
        mount.part = Some(DiskPart { number, start: *end, length });
        *end += length;
    }
    for (kind, parts, _) in kinds.into_iter().filter(|(_, parts, _)| !parts.is_empty()) {
        let disk = add(disks, DiskSource::Concatenated(parts), kind)?;
        mounts.iter_mut().filter(|mount| access(mount) == kind).for_each(|mount| mount.disk = disk);
    }
    Ok(mounts)
}

/// On a device that is not known yet.
fn mount(disk: &DiskSpec) -> DiskMount {
    DiskMount {
        disk: 0,
        part: None,
        target: disk.target.as_str().as_bytes().to_vec(),
        read_only: disk.access == Access::ReadOnly,
        owner: disk.owner,
    }
}

fn access(mount: &DiskMount) -> Access {
    if mount.read_only { Access::ReadOnly } else { Access::ReadWrite }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::attach_file;

    /// One for each character, `w` for writing, with as many sectors as its place says.
    fn attached(kinds: &str) -> (Vec<Disk>, Result<Vec<DiskMount>, CoreError>) {
        let directory = tempfile::tempdir().expect("a directory");
        let extra = kinds.chars().enumerate().map(|(at, kind)| {
            let path = directory.path().join(at.to_string());
            std::fs::write(&path, vec![0; 512 * (at + 1)]).expect("written");
            let access = if kind == 'w' { Access::ReadWrite } else { Access::ReadOnly };
            let target = format!("/mnt/{at}").parse().expect("a directory");
            let source = crate::spec::DiskSource::File(path.clone());
            let spec = DiskSpec { source, target, access, owner: None };
            (spec, attach_file(&path, access).expect("free"))
        });
        let (specs, attached): (Vec<_>, Vec<_>) = extra.unzip();
        let upper = tempfile::tempfile().expect("a file");
        let upper = Disk { source: DiskSource::File(upper), read_only: false, ephemeral: true };
        let mut disks = vec![upper];
        let extra = specs.iter().zip(attached).collect();
        let mounts = attach(&mut disks, extra, 4);
        (disks, mounts)
    }

    /// Device; number, start and length in sectors of the part.
    type Place = (u8, Option<(u8, u64, u64)>);

    fn places(mounts: &[DiskMount]) -> Vec<Place> {
        let sectors = |part: DiskPart| (part.number, part.start / 512, part.length / 512);
        mounts.iter().map(|mount| (mount.disk, mount.part.map(sectors))).collect()
    }

    #[test]
    fn disks_that_fit_are_devices_of_their_own() {
        let (disks, mounts) = attached("wrw");
        assert_eq!(places(&mounts.expect("attached")), [(1, None), (2, None), (3, None)]);
        let read_only: Vec<_> = disks.iter().map(|disk| disk.read_only).collect();
        assert_eq!(read_only, [false, false, true, false]);
        assert!(disks.iter().all(|disk| matches!(disk.source, DiskSource::File(_))));
    }

    #[test]
    fn more_share_a_device_with_those_of_their_kind() {
        let (disks, mounts) = attached("rwwrw");
        let part = |disk, number, start, length| (disk, Some((number, start, length)));
        let expected = [part(2, 1, 0, 1), part(1, 1, 0, 2), part(1, 2, 2, 3), part(2, 2, 1, 4)];
        let mounts = mounts.expect("attached");
        assert_eq!(places(&mounts)[..4], expected);
        assert_eq!(places(&mounts)[4], part(1, 3, 5, 5));
        let lengths: Vec<Vec<u64>> = disks
            .iter()
            .filter_map(|disk| match &disk.source {
                DiskSource::Concatenated(parts) => {
                    Some(parts.iter().map(|(_, bytes)| bytes / 512).collect())
                }
                DiskSource::File(_) => None,
            })
            .collect();
        assert_eq!(lengths, [vec![2, 3, 5], vec![1, 4]]);
        assert_eq!(
            disks.iter().map(|disk| disk.read_only).collect::<Vec<_>>(),
            [false, false, true]
        );
    }

    #[test]
    fn one_kind_alone_is_one_device() {
        let (disks, mounts) = attached(&"r".repeat(MAX_PARTS));
        assert_eq!(disks.len(), 2);
        assert!(mounts.expect("attached").iter().all(|mount| mount.disk == 1));
    }

    #[test]
    fn more_than_a_device_has_partitions_are_refused() {
        let (_, mounts) = attached(&"r".repeat(MAX_PARTS + 1));
        let error = mounts.expect_err("too many");
        assert!(matches!(error, CoreError::Config(InvalidConfig::TooManyDisks { .. })), "{error}");
    }
}
