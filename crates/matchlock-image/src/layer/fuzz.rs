//! The entry for a fuzzer: a layer that is anything.

use std::collections::HashSet;
use std::fs::File;

use super::{Compression, Layer, LayerError, Limits, unpack};
use crate::digest::Digest;
use crate::erofs::{self, BlobWriter};
use crate::tree::{Content, Tree};
use matchlock_tar::testing::repair_checksums;

/// Small, so that a fuzzer reaches each of them.
const LIMITS: Limits = Limits {
    entries: 500,
    bytes: 1 << 20,
    metadata_bytes: 1 << 16,
    ratio: 10,
    ratio_free: 1 << 19,
};

/// Reads the layer as it is, and once more with checksums put right where a header could be.
///
/// # Panics
/// When a tree comes out that no layer can have, or one that its own blob does not hold.
pub fn fuzz_layer(data: &[u8]) {
    check(data);
    if Compression::sniff(data) == Compression::None {
        let mut repaired = data.to_vec();
        repair_checksums(&mut repaired);
        if repaired != data {
            check(&repaired);
        }
    }
}

fn check(data: &[u8]) {
    let Ok(layer) = read(data) else { return };
    assert!(layer.unpacked <= LIMITS.bytes, "more than its limit");
    if Compression::sniff(data) == Compression::None {
        assert_eq!(layer.diff_id, Digest::of(data), "every byte counts for the digest");
    }
    check_tree(&layer);
    let stored = erofs::read_layer(&layer.file).expect("a blob of ours");
    assert_eq!(walk(&stored), walk(&layer.tree), "the blob holds the tree");
}

fn read(data: &[u8]) -> Result<Layer, LayerError> {
    let file = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC);
    let file = File::from(file.expect("a file in memory"));
    let blob = BlobWriter::new(file).map_err(LayerError::Write)?;
    unpack(data, Compression::sniff(data), None, blob, &LIMITS)
}

fn check_tree(layer: &Layer) {
    let end = layer.file.metadata().expect("metadata").len();
    assert!(layer.tree.len() as u64 <= LIMITS.entries + 1, "more inodes than entries");
    for (path, inode) in walk(&layer.tree) {
        assert!(path.len() <= 4096 && !path.windows(4).any(|part| part == b"/../"), "{path:?}");
        assert!(inode.attributes.mode <= 0o7777 && inode.attributes.mtime.1 < 1_000_000_000);
        assert!(!inode.attributes.xattrs.keys().any(|name| name.starts_with(b"trusted.overlay")));
        if let Content::File(file) = inode.content {
            assert!(file.start % erofs::BLOCK_SIZE == 0 && file.start + file.size <= end);
        }
    }
}

/// Every path with its inode; the ids of children are of one tree only and left out.
fn walk(tree: &Tree) -> Vec<(Vec<u8>, crate::tree::Inode)> {
    let mut found = Vec::new();
    let mut waiting = vec![(Vec::new(), Tree::ROOT)];
    let mut directories = HashSet::new();
    while let Some((path, id)) = waiting.pop() {
        let mut inode = tree.inode(id).clone();
        if let Content::Directory(directory) = &mut inode.content {
            assert!(directories.insert(id), "a directory has one name");
            for (name, child) in std::mem::take(&mut directory.entries) {
                waiting.push(([&path[..], b"/", name.as_bytes()].concat(), child));
            }
        }
        found.push((path, inode));
    }
    found
}
