//! Any tree, and any damage.

use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;

use crate::erofs::format;
use crate::fixture;
use crate::tree::{Attributes, Content, DeviceNumber, Directory, FileData, Inode, Name, Tree};

use super::*;

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let xattr = (
        prop::sample::select(vec!["user.a", "user.longer", "trusted.t", "security.s"]),
        prop::collection::vec(any::<u8>(), 0..600),
    );
    let xattrs = prop::collection::btree_map(
        xattr.0.prop_map(|name| name.as_bytes().into()),
        xattr.1.prop_map(Vec::into_boxed_slice),
        0..3,
    );
    let time = (any::<i64>(), 0..1_000_000_000_u32);
    (0..=0o7777_u16, any::<u32>(), any::<u32>(), time, xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Attributes { mode, uid, gid, mtime, xattrs })
}

/// An inode below a directory that was made before, which one says the number.
fn any_node() -> impl Strategy<Value = (usize, Vec<u8>, Attributes, Content)> {
    let device =
        (0..4096_u32, 1..1_u32 << 20).prop_map(|(major, minor)| DeviceNumber { major, minor });
    let place = (1..2000_u64, 0..100_u64).prop_map(|(size, block)| FileData {
        size,
        layer: 0,
        start: block << 12,
    });
    let content = prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(opaque, implied)| {
            Content::Directory(Directory { opaque, implied, ..Directory::default() })
        }),
        4 => place.prop_map(Content::File),
        1 => prop::collection::vec(1..=255_u8, 1..=4095).prop_map(|text| Content::Symlink(text.into())),
        1 => device.clone().prop_map(Content::CharDevice),
        1 => device.prop_map(Content::BlockDevice),
        1 => Just(Content::Fifo),
        1 => Just(Content::Socket),
        1 => Just(Content::Whiteout),
    ];
    let name = prop::collection::vec(any::<u8>(), 1..=255);
    (any::<prop::sample::Index>(), name, any_attributes(), content).prop_map(
        |(parent, name, attributes, content)| (parent.index(1 << 16), name, attributes, content),
    )
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let root = any_attributes();
    (root, prop::collection::vec(any_node(), 0..60)).prop_map(|(root, nodes)| {
        let mut tree = Tree::new(root);
        let mut directories = vec![Tree::ROOT];
        let mut last = None;
        for (parent, name, attributes, content) in nodes {
            let Ok(name) = Name::new(&name) else { continue };
            let parent = directories[parent % directories.len()];
            if tree.lookup(parent, &name).is_some() {
                continue;
            }
            let is_directory = matches!(content, Content::Directory(_));
            // Now and then another name of the inode before.
            let id = match last.take() {
                Some(id) if attributes.mode % 4 == 0 => id,
                _ => tree.add(Inode { attributes, content }),
            };
            tree.link(parent, name, id);
            match is_directory && tree.directory(id).is_some_and(|it| it.entries.is_empty()) {
                true => directories.push(id),
                false => last = Some(id).filter(|id| tree.directory(*id).is_none()),
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(tree in any_tree(), bits in 9..=12_u8) {
        let block = BlockSize::from_bits(bits).expect("a block size");
        let lengths = [1 << 20];
        let index = write::write_index_with(file(), block, &tree, &lengths).expect("write");
        let read = read_index(&index, &lengths).expect("read");
        // Inodes are numbered as they are met, so once more changes nothing.
        let again = write::write_index_with(file(), block, &read, &lengths).expect("write");
        prop_assert!(metadata_bytes(&index) == metadata_bytes(&again));
        prop_assert!(read_index(&again, &lengths).expect("read") == read);
        let lines = |tree| fixture::listing_without_data(tree);
        prop_assert_eq!(lines(&read), lines(&tree));
    }

    #[test]
    fn damage_never_panics(tree in any_tree(), at: prop::sample::Index, bytes: [u8; 4]) {
        let index = write_index(file(), &tree, &[1 << 20]).expect("write");
        let at = 4096 + at.index(length(&index) as usize - 4096) as u64;
        index.write_all_at(&bytes, at).expect("write");
        let _ = read_index(&index, &[1 << 20]);
    }

    #[test]
    fn device_numbers_are_kept(major in 0..4096_u32, minor in 0..1_u32 << 20) {
        let device = DeviceNumber { major, minor };
        let raw = format::encode_device(device).expect("in range");
        prop_assert_eq!(format::decode_device(raw), device);
    }
}
