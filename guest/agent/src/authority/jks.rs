//! Java's own key stores, `JKS` version 2: a header, entries, and a digest that is keyed with a
//! password. Every distribution's store of certificates has the same well-known one.

use sha1::{Digest, Sha1};

const MAGIC: &[u8] = &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];

const PASSWORD: &str = "changeit";

/// Joined to the password by the format's inventor.
const SALT: &[u8] = b"Mighty Aphrodite";

/// Of SHA-1, in bytes.
const DIGEST: usize = 20;

/// Kinds of entries.
const KEY: u32 = 1;
const CERTIFICATE: u32 = 2;

/// A store with one certificate more; `None` when it has another format.
pub(super) fn with(store: &[u8], der: &[u8], alias: &str) -> Option<Vec<u8>> {
    let (count, entries) = split(store)?;
    let mut entry = CERTIFICATE.to_be_bytes().to_vec();
    text(&mut entry, alias)?;
    // When it was made: a moment as good as any other.
    entry.extend([0; 8]);
    text(&mut entry, "X.509")?;
    entry.extend(u32::try_from(der.len()).ok()?.to_be_bytes());
    entry.extend(der);
    Some(joined(count.checked_add(1)?, &[&entry, entries]))
}

/// A store without the entries that have this certificate alone; `None` when it has another format.
pub(super) fn without(store: &[u8], der: &[u8]) -> Option<Vec<u8>> {
    let (count, entries) = split(store)?;
    let mut reader = Reader(entries);
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut left = count;
    for _ in 0..count {
        let before = reader.0;
        let is_ours = reader.entry()? == Some(der);
        let entry = before.get(..before.len() - reader.0.len())?;
        if is_ours { left -= 1 } else { kept.push(entry) }
    }
    reader.0.is_empty().then(|| joined(left, &kept))
}

/// The number of entries, and their bytes.
fn split(store: &[u8]) -> Option<(u32, &[u8])> {
    let rest = store.strip_prefix(MAGIC)?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let entries = rest.get(..rest.len().checked_sub(DIGEST)?)?;
    Some((u32::from_be_bytes(*count), entries))
}

fn joined(count: u32, entries: &[&[u8]]) -> Vec<u8> {
    let mut store = [MAGIC, &count.to_be_bytes(), &entries.concat()].concat();
    let mut digest = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(SALT);
    digest.update(&store);
    store.extend(&digest.finalize()[..]);
    store
}

/// A length in two bytes, and ASCII.
fn text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
    out.extend(text.as_bytes());
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads an entry; its certificate, if it has one and no key.
    fn entry(&mut self) -> Option<Option<&'a [u8]>> {
        let kind = self.number()?;
        self.text()?;
        self.take(8)?;
        match kind {
            KEY => {
                self.long()?;
                for _ in 0..self.number()? {
                    self.text()?;
                    self.long()?;
                }
                Some(None)
            }
            CERTIFICATE => {
                self.text()?;
                self.long().map(Some)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}
