//! What /fuzz runs: the reader on any metadata, and the writer on what the reader accepted.

use std::fs::File;

use rustix::fs::{MemfdFlags, memfd_create};

use super::format::Superblock;
use super::{BlockSize, read, write_index};

/// A blob from its second 4096 bytes on, with three bytes before it: block size, number of the root,
/// block where the metadata starts. The superblock is made here: its checksum would stop a fuzzer.
///
/// # Panics
/// When what was read is written and read as something else.
pub fn check(input: &[u8]) {
    let Some((&[bits, root, meta], rest)) = input.split_first_chunk() else { return };
    let Some(block) = BlockSize::from_bits(9 + bits % 4) else { return };
    let superblock = Superblock {
        block,
        root_nid: root.into(),
        inodes: 0,
        blocks: 0,
        meta_block: meta.into(),
        uuid: [0; 16],
    };
    let mut image = superblock.encode();
    image.extend_from_slice(rest);
    let Ok(tree) = read::read_bytes(&image) else { return };
    let layers = [image.len() as u64];
    let file = memfd_create("index", MemfdFlags::CLOEXEC).expect("memory");
    let index = write_index(File::from(file), &tree, &layers).expect("it was read");
    let again = read::read_index(&index, &layers).expect("it was written");
    assert!(again == tree, "writing changes a tree");
}
