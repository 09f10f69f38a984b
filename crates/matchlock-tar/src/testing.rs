//! Archives for tests: headers made by another implementation, and bent where a test wants that.

use tar::{EntryType, Header};

/// An archive that grows.
#[derive(Debug, Clone, Default)]
pub struct TestTar(pub Vec<u8>);

impl TestTar {
    /// An entry with mode 0644 of user 1 and group 2, time 3; `bend` changes the header before its
    /// checksum is computed.
    pub fn entry(
        &mut self,
        kind: EntryType,
        path: &str,
        content: &[u8],
        bend: impl FnOnce(&mut Header),
    ) -> &mut Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        let name = path.as_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        bend(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(content)
    }

    /// Content and padding.
    pub fn data(&mut self, content: &[u8]) -> &mut Self {
        self.0.extend_from_slice(content);
        let length = self.0.len().next_multiple_of(512);
        self.0.resize(length, 0);
        self
    }

    pub fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(EntryType::Regular, path, content, |_| {})
    }

    pub fn dir(&mut self, path: &str) -> &mut Self {
        self.entry(EntryType::Directory, path, b"", |header| header.set_mode(0o750))
    }

    pub fn symlink(&mut self, path: &str, text: &str) -> &mut Self {
        self.link_of(EntryType::Symlink, path, text)
    }

    pub fn hard_link(&mut self, path: &str, existing: &str) -> &mut Self {
        self.link_of(EntryType::Link, path, existing)
    }

    fn link_of(&mut self, kind: EntryType, path: &str, text: &str) -> &mut Self {
        self.entry(kind, path, b"", |header| {
            header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
        })
    }

    pub fn device(&mut self, kind: EntryType, path: &str, numbers: (u32, u32)) -> &mut Self {
        self.entry(kind, path, b"", |header| {
            header.set_device_major(numbers.0).expect("a ustar header");
            header.set_device_minor(numbers.1).expect("a ustar header");
        })
    }

    /// A pax header for the next entry.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let bytes = records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>();
        self.entry(EntryType::XHeader, "pax", &bytes, |_| {})
    }

    /// The archive with the two blocks of its end.
    pub fn end(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

/// A record of a pax header.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Gives every block that a header's magic is in the checksum that it should have.
pub fn repair_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
