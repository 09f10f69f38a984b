use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::Command;

use crate::fixture::{self, Maker, attributes};
use crate::merge::merge;
use crate::tree::{Content, DeviceNumber, Directory, FileData, Inode, Tree};

use super::*;

mod properties;

const KERNEL_PAGE: BlockSize = BlockSize(12);

fn file() -> File {
    tempfile::tempfile().expect("a file")
}

fn blob() -> BlobWriter {
    BlobWriter::new(file()).expect("a blob")
}

fn everything(block: BlockSize) -> (Tree, File) {
    let mut blob = BlobWriter::with_block_size(file(), block).expect("a blob");
    let tree = fixture::everything(&mut blob).expect("data");
    let file = blob.finish(&tree).expect("metadata");
    (tree, file)
}

fn length(file: &File) -> u64 {
    file.metadata().expect("metadata").len()
}

fn metadata_bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; length(file) as usize];
    file.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn one(content: Content) -> Tree {
    let mut maker = Maker::new();
    maker.add(Tree::ROOT, b"one", attributes(0o644), content);
    maker.tree
}

#[test]
fn one_of_everything_is_read_back_from_its_blob() {
    for block in [BlockSize::PRODUCT, KERNEL_PAGE] {
        let (tree, file) = everything(block);
        let read = read_layer(&file).expect("read");
        let listed = fixture::listing(&read, &[&file]).expect("listing");
        assert!(listed == fixture::listing(&tree, &[&file]).expect("listing"), "{block:?}");
        assert_eq!(length(&file) % FILE_ALIGNMENT, 0);
    }
}

#[test]
fn one_of_everything_is_read_back_from_an_index_of_two_layers() {
    for block in [BlockSize::PRODUCT, KERNEL_PAGE] {
        let (lower, lower_file) = everything(block);
        let mut blob = BlobWriter::with_block_size(file(), block).expect("a blob");
        let mut maker = Maker::new();
        let files = maker.directory(Tree::ROOT, b"files");
        maker.file(&mut blob, files, b"size 513", b"replaced").expect("data");
        maker.file(&mut blob, files, b"new", &[7; 100_000]).expect("data");
        maker.add(files, b"size 512", attributes(0), Content::Whiteout);
        let upper_file = blob.finish(&maker.tree).expect("metadata");

        let merged = merge(vec![lower, maker.tree]);
        let lengths = [length(&lower_file), length(&upper_file)];
        let index = write::write_index_with(file(), block, &merged, &lengths).expect("index");
        let read = read_index(&index, &lengths).expect("read");
        let layers = [&lower_file, &upper_file];
        let listed = fixture::listing(&read, &layers).expect("listing");
        assert!(listed == fixture::listing(&merged, &layers).expect("listing"), "{block:?}");
        assert!(!listed.iter().any(|line| line.ends_with("/files/size\\x20512")));
    }
}

#[test]
fn fsck_finds_nothing_in_a_blob_and_an_index_of_its_block_size() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("image");
    let create = || File::options().read(true).write(true).create_new(true).open(&path);
    let fsck = || {
        let output = Command::new("fsck.erofs").arg("--extract").arg(&path).output();
        let output = output.expect("fsck.erofs of the package erofs-utils");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        std::fs::remove_file(&path).expect("remove");
    };
    let blob = BlobWriter::with_block_size(create().expect("create"), KERNEL_PAGE);
    let mut blob = blob.expect("a blob");
    let tree = fixture::small(&mut blob).expect("data").tree;
    let file = blob.finish(&tree).expect("metadata");
    fsck();
    // An index is whole only with its layer behind it.
    let lengths = [length(&file)];
    let index = write::write_index_with(create().expect("create"), KERNEL_PAGE, &tree, &lengths);
    let index = index.expect("index");
    index.write_all_at(&metadata_bytes(&file), length(&index)).expect("append");
    fsck();
}

#[test]
fn equal_input_gives_equal_bytes() {
    let write = || {
        let mut blob = blob();
        let maker = fixture::small(&mut blob).expect("data");
        let layer = blob.finish(&maker.tree).expect("metadata");
        let index = write_index(file(), &maker.tree, &[length(&layer)]).expect("index");
        (metadata_bytes(&layer), metadata_bytes(&index))
    };
    let (layer, index) = write();
    assert!((layer.clone(), index.clone()) == write());
    // The UUID is of the metadata: another index has another one.
    assert_ne!(layer[1024 + 48..][..16], index[1024 + 48..][..16]);
}

#[test]
fn a_hole_takes_no_space_and_reads_as_zeros() {
    let mut blob = blob();
    blob.begin().expect("begin");
    blob.write(b"head").expect("write");
    blob.skip(1 << 30).expect("skip");
    blob.skip(3).expect("skip");
    blob.write(b"tail").expect("write");
    let data = blob.end().expect("end");
    assert_eq!(data, FileData { size: (1 << 30) + 11, layer: 0, start: 4096 });
    let file = blob.finish(&one(Content::File(data))).expect("finish");
    assert!(file.metadata().expect("metadata").blocks() < 64, "512-byte blocks");
    let mut tail = [1; 8];
    file.read_exact_at(&mut tail, data.start + data.size - 8).expect("read");
    assert_eq!(&tail, b"\0\0\0\0tail");
}

#[test]
fn a_blob_without_files_after_its_last_hole_is_as_long_as_its_data() {
    let mut blob = blob();
    blob.begin().expect("begin");
    blob.skip(1 << 20).expect("skip");
    let data = blob.end().expect("end");
    let file = blob.finish(&one(Content::File(data))).expect("finish");
    assert!(length(&file) > (1 << 20) + 4096);
    assert_eq!(read_layer(&file).expect("read"), one(Content::File(data)));
}

#[test]
fn large_and_small_writes_arrive_in_order() {
    let mut blob = blob();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    blob.begin().expect("begin");
    let mut rest = bytes.as_slice();
    for piece in [1, 1_000_000, 100_000, 2_000_000, 5, 1_048_576, 700_000] {
        let (here, behind) = rest.split_at(piece);
        blob.write(here).expect("write");
        rest = behind;
    }
    blob.write(rest).expect("write");
    let data = blob.end().expect("end");
    let file = blob.finish(&one(Content::File(data))).expect("finish");
    let mut read = vec![0; bytes.len()];
    file.read_exact_at(&mut read, data.start).expect("read");
    assert!(read == bytes);
}

#[test]
fn contents_are_begun_and_ended_in_turn() {
    let mut blob = blob();
    let kind = |result: std::io::Result<()>| result.expect_err("misuse").kind();
    assert_eq!(kind(blob.write(b"x")), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(blob.skip(1)), std::io::ErrorKind::InvalidInput);
    assert_eq!(kind(blob.end().map(drop)), std::io::ErrorKind::InvalidInput);
    blob.begin().expect("begin");
    assert_eq!(kind(blob.begin()), std::io::ErrorKind::InvalidInput);
    let unfinished = blob.finish(&Tree::new(attributes(0o755)));
    assert!(matches!(unfinished, Err(WriteError::Io(_))));
}

#[test]
fn data_behind_the_last_block_address_is_refused() {
    let mut blob = blob();
    blob.begin().expect("begin");
    let error = blob.skip(2 << 40).expect_err("2 TiB");
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
    let error = blob.skip(u64::MAX).expect_err("overflow");
    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);

    let data = FileData { size: 1, layer: 1, start: 4096 };
    let error = write_index(file(), &one(Content::File(data)), &[2 << 40, 1 << 20]);
    assert!(matches!(error, Err(WriteError::TooLarge)), "{error:?}");
}

#[test]
fn a_file_outside_of_its_layer_is_refused() {
    let outside = [
        FileData { size: 2, layer: 0, start: 8191 },
        FileData { size: 4097, layer: 0, start: 4096 },
        FileData { size: 1, layer: 1, start: 0 },
        FileData { size: u64::MAX, layer: 0, start: 4096 },
        FileData { size: 1, layer: 0, start: u64::MAX - 511 },
    ];
    for data in outside {
        let error = write_index(file(), &one(Content::File(data)), &[8192]);
        assert!(matches!(error, Err(WriteError::Tree(_))), "{data:?}: {error:?}");
    }
    let inside = FileData { size: 4096, layer: 0, start: 4096 };
    write_index(file(), &one(Content::File(inside)), &[8192]).expect("inside");
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let device = |major, minor| DeviceNumber { major, minor };
    for content in [
        Content::CharDevice(device(0, 0)),
        Content::CharDevice(device(4096, 0)),
        Content::BlockDevice(device(0, 1 << 20)),
    ] {
        let error = blob().finish(&one(content));
        assert!(matches!(error, Err(WriteError::Device { .. })), "{error:?}");
    }
    for text in [vec![], vec![b'x'; 4096], b"a\0b".to_vec()] {
        let error = blob().finish(&one(Content::Symlink(text.into())));
        assert!(matches!(error, Err(WriteError::Tree(_))), "{error:?}");
    }
    let value = vec![0; 65_535];
    for (count, length) in [(1, 65_536), (4, 65_535)] {
        let mut tree = one(Content::Fifo);
        for number in 0..count {
            let value = [value.as_slice(), &vec![0; length - value.len()]].concat();
            let name = format!("user.{number}").into_bytes().into();
            tree.inode_mut(Tree::ROOT).attributes.xattrs.insert(name, value.into());
        }
        let error = blob().finish(&tree);
        assert!(matches!(error, Err(WriteError::Xattrs)), "{error:?}");
    }
}

#[test]
fn a_directory_has_one_name() {
    let mut maker = Maker::new();
    let directory = maker.directory(Tree::ROOT, b"a");
    maker.link(Tree::ROOT, b"b", directory);
    assert!(matches!(blob().finish(&maker.tree), Err(WriteError::Tree(_))));
    let mut maker = Maker::new();
    let directory = maker.directory(Tree::ROOT, b"a");
    maker.link(directory, b"up", Tree::ROOT);
    assert!(matches!(blob().finish(&maker.tree), Err(WriteError::Tree(_))));
}

#[test]
fn attributes_without_a_namespace_and_the_writers_own_words_are_left_out() {
    let given: [&[u8]; 9] = [
        b"com.apple.provenance",
        b"user.",
        b"system.posix_acl_access.x",
        b"system.nfs4_acl",
        b"trusted.overlay.opaque",
        b"trusted.overlay.redirect",
        b"trusted.matchlock.implied",
        b"user.a\0b",
        b"user.kept",
    ];
    let mut tree = Tree::new(attributes(0o755));
    for name in given {
        let xattrs = &mut tree.inode_mut(Tree::ROOT).attributes.xattrs;
        xattrs.insert(name.into(), (*b"y").into());
    }
    let read = read_layer(&blob().finish(&tree).expect("finish")).expect("read");
    let root = read.inode(Tree::ROOT);
    let names: Vec<_> = root.attributes.xattrs.keys().map(|name| &**name).collect();
    assert_eq!(names, [b"user.kept"]);
    let Content::Directory(Directory { opaque: false, implied: false, .. }) = root.content else {
        panic!("{root:?}");
    };
}

#[test]
fn inodes_that_no_name_leads_to_are_not_written() {
    let mut tree = one(Content::Fifo);
    let small = length(&blob().finish(&tree).expect("finish"));
    for _ in 0..1000 {
        tree.add(Inode { attributes: attributes(0), content: Content::Socket });
    }
    let file = blob().finish(&tree).expect("finish");
    assert_eq!(length(&file), small);
    assert_eq!(read_layer(&file).expect("read").len(), 2);
}

/// The image of a directory `a` with a directory `b`, and where the inode number in the entry of
/// `name` is.
fn nested(name: &[u8]) -> (File, u64) {
    let mut maker = Maker::new();
    let directory = maker.directory(Tree::ROOT, b"a");
    maker.directory(directory, b"b");
    let file = blob().finish(&maker.tree).expect("finish");
    let bytes = metadata_bytes(&file);
    // Names are behind the entries: `.`, `..` and the one that is looked for.
    let names = [b"...".as_slice(), name].concat();
    let at = bytes.windows(names.len()).position(|window| window == names).expect("entries");
    (file, (at - 12) as u64)
}

#[test]
fn cycles_are_found() {
    for (name, nid) in [(b"a", 2_u64), (b"b", 2), (b"b", 5)] {
        let (file, at) = nested(name);
        read_layer(&file).expect("whole");
        file.write_all_at(&nid.to_le_bytes(), at).expect("write");
        assert!(matches!(read_layer(&file), Err(ReadError::Damaged(_))), "{name:?} {nid}");
    }
}

#[test]
fn a_changed_superblock_is_found() {
    let file = blob().finish(&one(Content::Fifo)).expect("finish");
    for at in (1024..1536).step_by(5) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("read");
        file.write_all_at(&[byte[0] ^ 0x10], at).expect("write");
        assert!(matches!(read_layer(&file), Err(ReadError::Damaged(_))), "{at}");
        file.write_all_at(&byte, at).expect("write");
    }
    read_layer(&file).expect("whole again");
    file.set_len(4096).expect("truncate");
    assert!(matches!(read_layer(&file), Err(ReadError::Damaged(_))));
}

#[test]
fn an_index_is_not_read_with_other_layers() {
    let (merged, layer) = everything(BlockSize::PRODUCT);
    let index = write_index(file(), &merged, &[length(&layer)]).expect("index");
    read_index(&index, &[length(&layer)]).expect("read");
    assert!(matches!(read_index(&index, &[4096]), Err(ReadError::Damaged(_))));
    assert!(matches!(read_index(&index, &[]), Err(ReadError::Damaged(_))));
}
