//! One disk of many files: a VMDK descriptor whose extents are inherited descriptors.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};

/// Writes the descriptor of a disk that has these parts, each a descriptor set of QEMU and its number of
/// sectors, into a memory file and opens that as the parts are open.
pub(super) fn descriptor(parts: &[(usize, u64)], read_only: bool) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("matchlock-disk", MemfdFlags::CLOEXEC)?);
    file.write_all(text(parts).as_bytes())?;
    if !read_only {
        // QEMU writes a new content identifier into it before it first writes to a part.
        return Ok(file.into());
    }
    // QEMU takes of a set the descriptor with the access mode that it wants: this one can write too.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// VMware Virtual Disk Format 1.1, "The Descriptor File". A flat extent is raw data, so no part is ever
/// probed for a format of its own.
fn text(parts: &[(usize, u64)]) -> String {
    let extent = |&(set, sectors): &(usize, u64)| {
        // The only access of an extent that QEMU knows; whether the disk is read-only is said elsewhere.
        format!("RW {sectors} FLAT \"/dev/fdset/{set}\" 0\n")
    };
    let extents: String = parts.iter().map(extent).collect();
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"twoGbMaxExtentFlat\"\n{extents}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn each_part_is_an_extent_and_the_file_of_a_read_only_disk_cannot_be_written() {
        let mut file = File::from(descriptor(&[(3, 8), (4, 80)], true).expect("a memory file"));
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        let extents = "RW 8 FLAT \"/dev/fdset/3\" 0\nRW 80 FLAT \"/dev/fdset/4\" 0\n";
        assert!(text.ends_with(extents), "{text}");
        assert!(text.starts_with("# Disk DescriptorFile\n"), "{text}");
        assert!(file.write_all(b"x").is_err());
        let mut file = File::from(descriptor(&[(3, 8)], false).expect("a memory file"));
        assert!(file.write_all(b"x").is_ok());
    }
}
