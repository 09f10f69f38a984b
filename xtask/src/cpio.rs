//! A writer of cpio archives in the "newc" format, as the kernel's initramfs loader reads them
//! (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The result depends on the entries alone: times are 0, owners are root, inode numbers count up in
//! the order of the names.

use std::collections::BTreeMap;

const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;
const TRAILER: &str = "TRAILER!!!";

/// The entries of an archive, sorted by name so that a directory precedes what is in it.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

impl Archive {
    /// Adds a directory with mode 0755. `name` is relative, without a leading slash.
    pub(crate) fn directory(&mut self, name: &str) -> &mut Self {
        self.insert(name, DIRECTORY | 0o755, (0, 0), Vec::new())
    }

    /// Adds a regular file with these permission bits.
    pub(crate) fn file(&mut self, name: &str, permissions: u32, data: Vec<u8>) -> &mut Self {
        self.insert(name, REGULAR | permissions, (0, 0), data)
    }

    /// Adds a character device with mode 0600.
    pub(crate) fn character_device(&mut self, name: &str, major: u32, minor: u32) -> &mut Self {
        self.insert(name, CHARACTER_DEVICE | 0o600, (major, minor), Vec::new())
    }

    /// The bytes of the archive.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (name, entry)) in (1u32..).zip(&self.entries) {
            write_entry(&mut out, inode, name, entry);
        }
        let trailer = Entry { mode: 0, device: (0, 0), data: Vec::new() };
        write_entry(&mut out, 0, TRAILER, &trailer);
        out
    }

    fn insert(&mut self, name: &str, mode: u32, device: (u32, u32), data: Vec<u8>) -> &mut Self {
        self.entries.insert(name.to_owned(), Entry { mode, device, data });
        self
    }
}

fn write_entry(out: &mut Vec<u8>, inode: u32, name: &str, entry: &Entry) {
    let links = if entry.mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    let size = u32::try_from(entry.data.len()).expect("no file of an initramfs reaches 4 GiB");
    let name_size = u32::try_from(name.len() + 1).expect("names are short");
    let (major, minor) = entry.device;
    out.extend_from_slice(b"070701");
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
    // namesize, check (always 0 in this variant of the format)
    let fields = [inode, entry.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"#!x\n!".to_vec());
        archive.directory("dev").character_device("dev/console", 5, 1);
        archive
    }

    #[test]
    fn entries_are_laid_out_as_the_format_says() {
        let bytes = sample().into_bytes();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).expect("the sample is text");
        let heads: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        let names: Vec<_> = heads
            .iter()
            .map(|at| text[at + 110..].split('\0').next().expect("a name ends in NUL"))
            .collect();
        assert_eq!(names, ["dev", "dev/console", "init", TRAILER]);
        let field = |entry: usize, index: usize| {
            let at = heads[entry] + 6 + 8 * index;
            u32::from_str_radix(&text[at..at + 8], 16).expect("fields are hexadecimal")
        };
        assert_eq!(field(0, 1), DIRECTORY | 0o755);
        assert_eq!((field(1, 9), field(1, 10)), (5, 1));
        assert_eq!((field(2, 1), field(2, 6)), (REGULAR | 0o755, 5));
        assert!(text[heads[2] + 110..].starts_with("init\0\0#!x\n!\0\0\0"));
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        let mut other_order = Archive::default();
        other_order.character_device("dev/console", 5, 1).directory("dev");
        other_order.file("init", 0o755, b"#!x\n!".to_vec());
        assert_eq!(sample().into_bytes(), other_order.into_bytes());
    }
}
