//! The guest's parts: kernel, initramfs and the template of the writable layer.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::CoreError;

/// No kernel of ours is near this size; a decompression bomb is.
const MAX_KERNEL: u64 = 512 * 1024 * 1024;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What the binary carries, all zstd-compressed.
#[derive(Debug, Clone, Copy)]
pub struct Artefacts {
    /// An ELF `vmlinux` with a PVH entry.
    pub kernel: &'static [u8],
    /// A cpio archive with the agent as `/init`; empty when the binary was built without one.
    pub initramfs: &'static [u8],
    /// Empty ext4 file systems, from the smallest to the largest.
    pub disk_templates: &'static [DiskTemplate],
    /// An empty ext4 file system with a journal, for volumes; no volume is smaller.
    pub volume_template: DiskTemplate,
    /// Changes whenever kernel or initramfs change.
    pub digest: &'static str,
}

/// An empty ext4 file system.
#[derive(Debug, Clone, Copy)]
pub struct DiskTemplate {
    /// Size of the file system in bytes; a larger disk is grown into by the agent.
    pub size: u64,
    /// Its pieces that are not zero, zstd-compressed (`xtask template` writes them).
    pub image: &'static [u8],
}

/// Which kernel to boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KernelSource {
    /// The one that the binary carries.
    #[default]
    Embedded,
    /// An uncompressed or zstd-compressed `vmlinux`.
    File(PathBuf),
}

/// Kernel and initramfs as descriptors that a monitor can be given.
#[derive(Debug)]
pub struct GuestFiles {
    /// The uncompressed kernel.
    pub kernel: File,
    /// The uncompressed initramfs.
    pub initramfs: File,
    /// Changes whenever kernel or initramfs change.
    pub id: String,
}

impl Artefacts {
    /// Unpacks kernel and initramfs into sealed memory files and checks that the kernel can be
    /// booted.
    ///
    /// # Errors
    /// [`CoreError::NoGuest`], or [`CoreError::Kernel`] for one that is unreadable, corrupt, of
    /// another architecture or without a PVH entry.
    pub fn open(&self, source: &KernelSource) -> Result<GuestFiles, CoreError> {
        if self.initramfs.is_empty() {
            return Err(CoreError::NoGuest);
        }
        let initramfs = unpacked("matchlock-initramfs", self.initramfs)
            .map_err(CoreError::host("unpack the initramfs"))?;
        let (kernel, origin, id) = match source {
            KernelSource::Embedded => {
                let kernel = unpacked("matchlock-kernel", self.kernel);
                (kernel, "in this binary".to_owned(), self.digest.to_owned())
            }
            KernelSource::File(path) => {
                let id = format!("{} {} {}", self.digest, path.display(), stamp(path));
                (read_kernel(path), path.display().to_string(), id)
            }
        };
        let problem = |problem: String| CoreError::Kernel { origin: origin.clone(), problem };
        let kernel = kernel.map_err(|error| problem(error.to_string()))?;
        check_kernel(&kernel).map_err(|text| problem(text.to_owned()))?;
        Ok(GuestFiles { kernel, initramfs, id })
    }
}

impl GuestFiles {
    /// The same files for another machine.
    ///
    /// # Errors
    /// [`CoreError::Host`]: no descriptor can be had.
    pub fn try_clone(&self) -> Result<Self, CoreError> {
        let again = |file: &File| file.try_clone().map_err(CoreError::host("duplicate a file"));
        let (kernel, initramfs) = (again(&self.kernel)?, again(&self.initramfs)?);
        Ok(Self { kernel, initramfs, id: self.id.clone() })
    }
}

fn stamp(path: &std::path::Path) -> String {
    path.metadata().map_or_else(
        |_| String::new(),
        |meta| format!("{} {} {}.{}", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()),
    )
}

fn read_kernel(path: &std::path::Path) -> io::Result<File> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut magic = [0; 4];
    let found = file.read(&mut magic)?;
    file.rewind()?;
    if found == magic.len() && magic == ZSTD_MAGIC {
        return unpacked("matchlock-kernel", file);
    }
    Ok(file)
}

/// Decompresses into a memory file that nobody can change any more.
fn unpacked(name: &str, compressed: impl Read) -> io::Result<File> {
    let decoder = zstd::Decoder::new(compressed)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    // Blocks as large as the processor's cache: each write allocates their pages at once.
    let mut writer = io::BufWriter::with_capacity(256 * 1024, &mut file);
    let copied = io::copy(&mut decoder.take(MAX_KERNEL + 1), &mut writer)
        .map_err(|error| io::Error::new(error.kind(), format!("damaged zstd data ({error})")))?;
    if copied > MAX_KERNEL {
        return Err(io::Error::other("it unpacks to more than 512 MiB"));
    }
    writer.flush()?;
    drop(writer);
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Size of an ELF64 file header and of one program header (elf(5)).
const EHDR: usize = 64;
const PHDR: usize = 56;

/// Whether `file` is an x86-64 ELF executable whose segments are all there and that has a PVH entry
/// (Xen ELF note 18, `XEN_ELFNOTE_PHYS32_ENTRY`).
fn check_kernel(file: &File) -> Result<(), &'static str> {
    const TRUNCATED: &str = "damaged: it ends before its own headers say";
    let size = file.metadata().map_or(0, |meta| meta.len());
    let mut header = [0; EHDR];
    file.read_exact_at(&mut header, 0).map_err(|_| "not an ELF vmlinux: too short")?;
    if !header.starts_with(b"\x7fELF") {
        return Err("not an ELF vmlinux (a bzImage does not work; give the uncompressed kernel)");
    }
    // Class 64, little endian, EM_X86_64.
    if header.get(4..6) != Some(&[2, 1]) || u16_at(&header, 18) != Some(62) {
        return Err("not a kernel for x86-64");
    }
    let offset = u64_at(&header, 32).ok_or(TRUNCATED)?;
    let count = u16_at(&header, 56).unwrap_or_default();
    let mut pvh = false;
    for index in 0..u64::from(count) {
        let mut segment = [0; PHDR];
        let at = offset.checked_add(index * PHDR as u64).ok_or(TRUNCATED)?;
        file.read_exact_at(&mut segment, at).map_err(|_| TRUNCATED)?;
        let start = u64_at(&segment, 8).ok_or(TRUNCATED)?;
        let len = u64_at(&segment, 32).ok_or(TRUNCATED)?;
        if start.checked_add(len).is_none_or(|end| end > size) {
            return Err(TRUNCATED);
        }
        // PT_NOTE; a real one has a few hundred bytes.
        if u32_at(&segment, 0) == Some(4) {
            let mut notes = vec![0; usize::try_from(len.min(1 << 20)).unwrap_or_default()];
            file.read_exact_at(&mut notes, start).map_err(|_| TRUNCATED)?;
            pvh |= has_pvh_note(&notes);
        }
    }
    if pvh { Ok(()) } else { Err("it has no PVH entry (CONFIG_PVH)") }
}

fn has_pvh_note(mut notes: &[u8]) -> bool {
    let padded = |len: u32| (len as usize).next_multiple_of(4);
    while let (Some(name), Some(desc), Some(kind)) =
        (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8))
    {
        if kind == 18 && notes.get(12..16) == Some(b"Xen\0") {
            return true;
        }
        let step = padded(name).saturating_add(padded(desc)).saturating_add(12);
        notes = notes.get(step..).unwrap_or_default();
    }
    false
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file with one note segment.
    fn elf(note_kind: u32) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [4, 4, note_kind] {
            note.extend_from_slice(&u32::to_le_bytes(word));
        }
        note.extend_from_slice(b"Xen\0");
        note.extend_from_slice(&[0; 4]);
        let mut bytes = vec![0; EHDR + PHDR];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&62u16.to_le_bytes());
        bytes[32..40].copy_from_slice(&(EHDR as u64).to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes[EHDR..EHDR + 4].copy_from_slice(&4u32.to_le_bytes());
        bytes[EHDR + 8..EHDR + 16].copy_from_slice(&((EHDR + PHDR) as u64).to_le_bytes());
        bytes[EHDR + 32..EHDR + 40].copy_from_slice(&(note.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&note);
        bytes
    }

    fn judged(bytes: &[u8]) -> Result<(), &'static str> {
        let mut file = tempfile::tempfile().expect("tempfile");
        file.write_all(bytes).expect("write");
        check_kernel(&file)
    }

    #[test]
    fn a_pvh_kernel_passes_and_each_defect_is_named() {
        assert_eq!(judged(&elf(18)), Ok(()));
        assert!(judged(&elf(17)).is_err_and(|text| text.contains("PVH")));
        assert!(judged(b"").is_err());
        assert!(judged(&[0; 4096]).is_err_and(|text| text.contains("ELF")));
        let whole = elf(18);
        let cut = whole.get(..whole.len() - 1).expect("longer");
        assert!(judged(cut).is_err_and(|text| text.contains("damaged")));
    }

    proptest! {
        #[test]
        fn any_bytes_behind_an_elf_magic_are_judged_without_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 64..400),
        ) {
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            bytes[18..20].copy_from_slice(&62u16.to_le_bytes());
            let _ = judged(&bytes);
        }
    }

    #[test]
    fn damaged_compression_is_an_error_and_the_result_is_sealed() {
        let packed = zstd::encode_all(&b"content"[..], 1).expect("encode");
        let mut file = unpacked("test", packed.as_slice()).expect("unpack");
        assert!(file.write_all(b"x").is_err(), "sealed");
        let cut = packed.get(..packed.len() - 2).expect("longer");
        assert!(unpacked("test", cut).is_err());
    }
}
