//! Archives for tests: headers made by another implementation, and bent where a test wants that.

use ::tar::{EntryType, Header};

/// An archive that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct TestTar(pub(crate) Vec<u8>);

impl TestTar {
    /// An entry with mode 0644 of user 1 and group 2, time 3; `bend` changes the header before its
    /// checksum is computed.
    pub(crate) fn entry(
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
    pub(crate) fn data(&mut self, content: &[u8]) -> &mut Self {
        self.0.extend_from_slice(content);
        let length = self.0.len().next_multiple_of(512);
        self.0.resize(length, 0);
        self
    }

    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.entry(EntryType::Regular, path, content, |_| {})
    }

    pub(crate) fn dir(&mut self, path: &str) -> &mut Self {
        self.entry(EntryType::Directory, path, b"", |header| header.set_mode(0o750))
    }

    pub(crate) fn symlink(&mut self, path: &str, text: &str) -> &mut Self {
        self.link_of(EntryType::Symlink, path, text)
    }

    pub(crate) fn hard_link(&mut self, path: &str, existing: &str) -> &mut Self {
        self.link_of(EntryType::Link, path, existing)
    }

    fn link_of(&mut self, kind: EntryType, path: &str, text: &str) -> &mut Self {
        self.entry(kind, path, b"", |header| {
            header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
        })
    }

    pub(crate) fn device(&mut self, kind: EntryType, path: &str, numbers: (u32, u32)) -> &mut Self {
        self.entry(kind, path, b"", |header| {
            header.set_device_major(numbers.0).expect("a ustar header");
            header.set_device_minor(numbers.1).expect("a ustar header");
        })
    }

    /// A pax header for the next entry.
    pub(crate) fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let bytes = records.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<_>>();
        self.entry(EntryType::XHeader, "pax", &bytes, |_| {})
    }

    /// The archive with the two blocks of its end.
    pub(crate) fn end(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}

/// A record of a pax header.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), <_>::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Zstandard.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::stream::encode_all(bytes, 3).expect("in memory")
}
