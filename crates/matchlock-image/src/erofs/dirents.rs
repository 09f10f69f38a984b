//! Content of a directory: in every block first entries of 12 bytes, then their names, the last of
//! which ends at a NUL or at the block's end. Sorted by the bytes of the names, `.` and `..` too.

use crate::tree::{Directory, InodeId, Name};

use super::BlockSize;
use super::format::{DIRENT_SIZE, u16_at, u64_at};

/// What a name leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Own,
    Parent,
    Child(InodeId),
}

/// An entry as it was read, neither `.` nor `..`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// Length of a directory's content in bytes.
pub(super) fn measure(directory: &Directory, block: BlockSize) -> u64 {
    let (mut full, mut used) = (0, 0);
    for (name, _) in sorted(directory) {
        let length = (DIRENT_SIZE + name.len()) as u64;
        if used + length > block.bytes() {
            full += block.bytes();
            used = 0;
        }
        used += length;
    }
    full + used
}

/// The content itself, as long as [`measure`] says. `resolve` gives inode number and type.
pub(super) fn encode(
    directory: &Directory,
    block: BlockSize,
    resolve: impl Fn(Target) -> (u64, u8),
) -> Vec<u8> {
    let entries = sorted(directory);
    let mut rest = entries.as_slice();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |(name, _): &&(&[u8], Target)| {
            used += DIRENT_SIZE + name.len();
            used as u64 <= block.bytes()
        };
        let (here, behind) = rest.split_at(rest.iter().take_while(fits).count());
        rest = behind;
        // Every block but the last is full.
        out.resize(out.len().next_multiple_of(block.bytes() as usize), 0);
        let mut name_at = here.len() * DIRENT_SIZE;
        for (name, target) in here {
            let (nid, file_type) = resolve(*target);
            out.extend_from_slice(&nid.to_le_bytes());
            out.extend_from_slice(&(name_at as u16).to_le_bytes());
            out.extend_from_slice(&[file_type, 0]);
            name_at += name.len();
        }
        here.iter().for_each(|(name, _)| out.extend_from_slice(name));
    }
    out
}

/// Adds the entries of one block. The error says what is wrong.
pub(super) fn decode(raw: &[u8], entries: &mut Vec<Entry>) -> Result<(), &'static str> {
    let count = match raw.get(8..10).map(|raw| usize::from(u16_at(raw, 0))) {
        Some(first) if first != 0 && first % DIRENT_SIZE == 0 && first < raw.len() => {
            first / DIRENT_SIZE
        }
        _ => return Err("first name of a directory's block"),
    };
    for index in 0..count {
        let entry = &raw[index * DIRENT_SIZE..][..DIRENT_SIZE];
        let start = usize::from(u16_at(entry, 8));
        let end = match index + 1 {
            next if next == count => raw.len(),
            next => usize::from(u16_at(raw, next * DIRENT_SIZE + 8)),
        };
        let name = raw.get(start..end).ok_or("place of a name")?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let name = Name::new(name).map_err(|_invalid| "name")?;
        if entries.last().is_some_and(|last| last.name >= name) {
            return Err("order of names");
        }
        entries.push(Entry { name, nid: u64_at(entry, 0), file_type: entry[10] });
    }
    Ok(())
}

fn sorted(directory: &Directory) -> Vec<(&[u8], Target)> {
    let children = directory.entries.iter();
    let mut all: Vec<_> =
        children.map(|(name, id)| (name.as_bytes(), Target::Child(*id))).collect();
    for (name, target) in [(b".".as_slice(), Target::Own), (b"..", Target::Parent)] {
        let place = all.partition_point(|(other, _)| *other < name);
        all.insert(place, (name, target));
    }
    all
}
