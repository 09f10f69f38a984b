//! Extended attributes behind an inode: a header of 12 bytes, then entries of 4 bytes, the name
//! without its namespace, and the value, each padded to 4.

use std::collections::BTreeMap;

use crate::tree::{Content, Inode};

use super::WriteError;
use super::format::u16_at;

const HEADER: usize = 12;
const ENTRY: usize = 4;
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const IMPLIED: &[u8] = b"trusted.matchlock.implied";
const YES: &[u8] = b"y";

/// Namespaces by their number. Those of access lists are whole names.
const NAMESPACES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Attributes of an inode, and what some of them say of a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    pub(super) opaque: bool,
    pub(super) implied: bool,
}

/// Bytes that the attributes of `inode` take, and `i_xattr_icount`.
pub(super) fn measure(inode: &Inode) -> Result<(u64, u16), WriteError> {
    let mut size = 0;
    for ((_, suffix), value) in entries(inode) {
        u16::try_from(value.len()).map_err(|_too_large| WriteError::Xattrs)?;
        size += (ENTRY + suffix.len() + value.len()).next_multiple_of(ENTRY);
    }
    if size == 0 {
        return Ok((0, 0));
    }
    let count = u16::try_from(1 + size / ENTRY).map_err(|_too_large| WriteError::Xattrs)?;
    Ok(((HEADER + size) as u64, count))
}

/// Bytes behind an inode with this `i_xattr_icount`.
pub(super) fn size(count: u16) -> u64 {
    match usize::from(count) {
        0 => 0,
        count => (HEADER + ENTRY * (count - 1)) as u64,
    }
}

/// Appends the attributes of `inode`, as many bytes as [`measure`] says.
pub(super) fn encode(inode: &Inode, out: &mut Vec<u8>) {
    let mut header = [0; HEADER].as_slice();
    for ((namespace, suffix), value) in entries(inode) {
        out.extend_from_slice(std::mem::take(&mut header));
        // Both lengths were checked when the inode was measured.
        out.extend_from_slice(&[suffix.len() as u8, namespace]);
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.extend_from_slice(suffix);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(ENTRY), 0);
    }
}

/// `raw` is the whole of what is behind an inode that has attributes.
pub(super) fn decode(raw: &[u8]) -> Result<Decoded, &'static str> {
    let mut decoded = Decoded::default();
    let (header, mut rest) = raw.split_at_checked(HEADER).ok_or("attributes end early")?;
    if header[4] != 0 {
        return Err("shared attributes");
    }
    while let Some((entry, behind)) = rest.split_at_checked(ENTRY) {
        let (name_length, value_length) = (usize::from(entry[0]), usize::from(u16_at(entry, 2)));
        let length = (name_length + value_length).next_multiple_of(ENTRY);
        let (content, behind) = behind.split_at_checked(length).ok_or("attributes end early")?;
        rest = behind;
        let (suffix, value) = content[..name_length + value_length].split_at(name_length);
        let namespace = NAMESPACES.iter().find(|(number, _)| *number == entry[1]);
        let (_, prefix) = namespace.ok_or("namespace of an attribute")?;
        let name = [*prefix, suffix].concat();
        match name.as_slice() {
            OPAQUE => decoded.opaque = true,
            IMPLIED => decoded.implied = true,
            name if split(name).is_none() => return Err("name of an attribute"),
            name if decoded.xattrs.insert(name.into(), value.into()).is_some() => {
                return Err("an attribute twice");
            }
            _ => {}
        }
    }
    Ok(decoded)
}

/// Whether an attribute of this name is stored; the others are left out of an image.
pub(crate) fn is_stored(name: &[u8]) -> bool {
    split(name).is_some()
}

/// Namespace and rest of an attribute's name; `None` for what is not stored.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    if name.len() > 255
        || name.contains(&0)
        || name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"trusted.matchlock.")
    {
        return None;
    }
    NAMESPACES.iter().find_map(|(number, prefix)| {
        let suffix = name.strip_prefix(*prefix)?;
        // `user.` alone is no name, `system.posix_acl_access` is one and nothing longer.
        (suffix.is_empty() != prefix.ends_with(b".")).then_some((*number, suffix))
    })
}

type Entry<'a> = ((u8, &'a [u8]), &'a [u8]);

fn entries(inode: &Inode) -> impl Iterator<Item = Entry<'_>> {
    let (opaque, implied) = match &inode.content {
        Content::Directory(directory) => (directory.opaque, directory.implied),
        _ => (false, false),
    };
    let own = [(opaque, OPAQUE), (implied, IMPLIED)];
    let own = own.into_iter().filter(|(is, _)| *is).map(|(_, name)| {
        // All of these are in `trusted.`.
        ((4, name.strip_prefix(b"trusted.").unwrap_or(name)), YES)
    });
    let given = inode.attributes.xattrs.iter();
    own.chain(given.filter_map(|(name, value)| Some((split(name)?, value.as_ref()))))
}
