//! Guest memory as the monitor shares it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{SealFlags, fcntl_get_seals};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// Guest memory without dirty tracking.
pub(crate) type Memory = GuestMemoryMmap<()>;

/// The mapped guest memory, and where the monitor sees the same bytes.
#[derive(Debug)]
pub(crate) struct GuestRam {
    memory: Arc<Memory>,
    windows: Vec<Window>,
}

/// One region in the monitor's address space, in which it names the rings.
#[derive(Debug)]
struct Window {
    monitor: u64,
    guest: u64,
    len: u64,
}

impl GuestRam {
    /// Maps the regions of a SET_MEM_TABLE message.
    pub(crate) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> io::Result<Self> {
        let mut mapped = Vec::with_capacity(regions.len());
        let mut windows = Vec::with_capacity(regions.len());
        for (region, file) in regions.iter().zip(files) {
            require_backed(region, &file)?;
            let (monitor, guest) = (region.user_addr, region.guest_phys_addr);
            let len = region.memory_size;
            if monitor.checked_add(len).is_none() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            windows.push(Window { monitor, guest, len });
            let size = usize::try_from(len).map_err(io::Error::other)?;
            let offset = FileOffset::new(file, region.mmap_offset);
            let range = GuestRegionMmap::from_range(GuestAddress(guest), size, Some(offset));
            mapped.push((guest, range.map_err(io::Error::other)?));
        }
        mapped.sort_by_key(|(guest, _)| *guest);
        let mapped = mapped.into_iter().map(|(_, region)| region).collect();
        let memory = Memory::from_regions(mapped).map_err(io::Error::other)?;
        Ok(Self { memory: Arc::new(memory), windows })
    }

    /// The memory itself; the clone keeps it mapped.
    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    /// The guest's address of something the monitor names by its own.
    pub(crate) fn guest_address(&self, monitor: u64) -> Option<GuestAddress> {
        let inside = |w: &&Window| monitor >= w.monitor && monitor - w.monitor < w.len;
        let window = self.windows.iter().find(inside)?;
        (monitor - window.monitor).checked_add(window.guest).map(GuestAddress)
    }
}

/// Touching a page beyond the end of a file is a SIGBUS: memory that the other side could shrink
/// under our mapping, or that was never there, is memory with which it can kill this process.
/// (vm-memory does not look at the size of the file.)
fn require_backed(region: &VhostUserMemoryRegion, file: &File) -> io::Result<()> {
    let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if !fcntl_get_seals(file)?.contains(SealFlags::SHRINK) {
        return refuse("guest memory is not sealed against shrinking");
    }
    match region.mmap_offset.checked_add(region.memory_size) {
        Some(end) if end <= file.metadata()?.len() => Ok(()),
        _ => refuse("guest memory reaches beyond its file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

    fn memfd(size: u64, seals: SealFlags) -> File {
        let fd = memfd_create("ram", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, size).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        File::from(fd)
    }

    fn region(guest: u64, size: u64, monitor: u64, offset: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion::new(guest, size, monitor, offset)
    }

    #[test]
    fn memory_that_may_shrink_is_refused() {
        let file = memfd(0x4000, SealFlags::GROW);
        let error = GuestRam::map(&[region(0, 0x4000, 0x1000, 0)], vec![file]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_region_beyond_the_file_is_refused() {
        let file = memfd(0x4000, SealFlags::SHRINK);
        GuestRam::map(&[region(0, 0x8000, 0x1000, 0)], vec![file]).unwrap_err();
    }

    #[test]
    fn regions_in_any_order_translate() {
        let files = vec![memfd(0x4000, SealFlags::SHRINK), memfd(0x4000, SealFlags::SHRINK)];
        let regions = [region(0x10_0000, 0x2000, 0x9000, 0x2000), region(0, 0x2000, 0x1000, 0)];
        let ram = GuestRam::map(&regions, files).unwrap();
        assert_eq!(ram.guest_address(0x9010), Some(GuestAddress(0x10_0010)));
        assert_eq!(ram.guest_address(0x1000), Some(GuestAddress(0)));
        assert_eq!(ram.guest_address(0x3000), None);
        assert_eq!(ram.guest_address(0xfff), None);
    }

    #[test]
    fn overlapping_regions_are_refused() {
        let files = vec![memfd(0x4000, SealFlags::SHRINK), memfd(0x4000, SealFlags::SHRINK)];
        let regions = [region(0, 0x2000, 0x1000, 0), region(0x1000, 0x2000, 0x9000, 0)];
        GuestRam::map(&regions, files).unwrap_err();
    }
}
