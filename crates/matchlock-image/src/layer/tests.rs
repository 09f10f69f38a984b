use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use ::tar::EntryType;
use proptest::prelude::*;

use super::*;
use crate::testing::{TestTar, gzip, zstd};
use crate::tree::{Attributes, InodeId, Name};

const NO_TIME: Attributes =
    Attributes { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: BTreeMap::new() };

fn file() -> File {
    let file = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC);
    File::from(file.expect("a file in memory"))
}

fn blob() -> BlobWriter {
    BlobWriter::new(file()).expect("a blob")
}

fn read(bytes: &[u8]) -> Result<Layer, LayerError> {
    let compression = Compression::sniff(bytes);
    unpack(bytes, compression, None, blob(), &Limits::default())
}

fn read_with(limits: &Limits, bytes: &[u8]) -> Result<Layer, LayerError> {
    unpack(bytes, Compression::sniff(bytes), None, blob(), limits)
}

fn layer(tar: &TestTar) -> Layer {
    read(&tar.end()).unwrap_or_else(|error| panic!("{error}: {:?}", why(&error)))
}

fn why(error: &LayerError) -> Option<EntryError> {
    match error {
        LayerError::Entry { source, .. } => Some(source.clone()),
        _ => None,
    }
}

fn refusal(tar: &TestTar) -> EntryError {
    let error = read(&tar.end()).expect_err("refused");
    why(&error).unwrap_or_else(|| panic!("{error:?}"))
}

fn id(layer: &Layer, path: &str) -> Option<InodeId> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    names.try_fold(Tree::ROOT, |at, name| {
        layer.tree.lookup(at, &Name::new(name.as_bytes()).expect("a name"))
    })
}

fn content<'a>(layer: &'a Layer, path: &str) -> &'a Content {
    let id = id(layer, path).unwrap_or_else(|| panic!("no {path}"));
    &layer.tree.inode(id).content
}

fn bytes(layer: &mut Layer, path: &str) -> Vec<u8> {
    let Content::File(data) = *content(layer, path) else { panic!("{path} is no file") };
    layer.file.seek(SeekFrom::Start(data.start)).expect("seek");
    let mut bytes = vec![0; usize::try_from(data.size).expect("small")];
    layer.file.read_exact(&mut bytes).expect("content");
    bytes
}

fn directory<'a>(layer: &'a Layer, path: &str) -> &'a Directory {
    layer.tree.directory(id(layer, path).expect(path)).expect("a directory")
}

/// Every path of the layer but its root.
fn paths(layer: &Layer) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![(String::new(), Tree::ROOT)];
    while let Some((path, id)) = waiting.pop() {
        for (name, child) in layer.tree.directory(id).into_iter().flat_map(|dir| &dir.entries) {
            let path = format!("{path}/{}", String::from_utf8_lossy(name.as_bytes()));
            found.push(path.clone());
            waiting.push((path, *child));
        }
    }
    found.sort();
    found
}

#[test]
fn a_layer_is_read_in_every_compression() {
    let mut tar = TestTar::default();
    tar.dir("./").dir("etc/").file("etc/passwd", b"root").file("empty", b"").symlink("s", "etc");
    let big: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    tar.file("big", &big);
    let bytes_of = tar.end();
    for packed in [bytes_of.clone(), gzip(&bytes_of), zstd(&bytes_of)] {
        let mut layer = read(&packed).expect("a good layer");
        assert_eq!(layer.diff_id, Digest::of(&bytes_of));
        assert_eq!(layer.unpacked, bytes_of.len() as u64);
        assert_eq!(paths(&layer), ["/big", "/empty", "/etc", "/etc/passwd", "/s"]);
        assert_eq!(bytes(&mut layer, "etc/passwd"), b"root");
        assert!(bytes(&mut layer, "big") == big);
        assert_eq!(*content(&layer, "empty"), Content::File(FileData::default()));
        assert_eq!(layer.tree.inode(Tree::ROOT).attributes.mode, 0o750);
        assert!(!directory(&layer, "/").implied);
    }
}

#[test]
fn the_digest_covers_what_follows_the_archive_and_has_to_match() {
    let mut bytes = TestTar::default().file("f", b"x").end();
    bytes.extend_from_slice(&[b'?'; 700_000]);
    let digest = Digest::of(&bytes);
    let check = |expected| {
        unpack(&gzip(&bytes)[..], Compression::Gzip, Some(&expected), blob(), &Limits::default())
    };
    assert_eq!(check(digest).expect("the right digest").diff_id, digest);
    let other = Digest::of(b"other");
    let refused = check(other).expect_err("another digest");
    assert!(
        matches!(refused, LayerError::Digest { expected, found } if expected == other && found == digest)
    );
}

#[test]
fn no_path_leads_out() {
    for path in ["../x", "a/../../x", "/../x", "..", "a/..", "/a/../../../etc/passwd"] {
        let error = refusal(TestTar::default().file(path, b"x"));
        assert_eq!(error, EntryError::Component("..".to_owned()), "{path}");
        let error = refusal(TestTar::default().file("x", b"").hard_link("y", path));
        assert_eq!(error, EntryError::Component("..".to_owned()), "{path}");
    }
    let layer = layer(TestTar::default().file("/etc/passwd", b"").file("//x", b""));
    assert_eq!(paths(&layer), ["/etc", "/etc/passwd", "/x"]);
    // Where a symbolic link leads is the guest's matter, and inside of the guest.
    layer_of_symlink("/../../../../etc/shadow");
}

fn layer_of_symlink(text: &str) {
    let layer = layer(TestTar::default().symlink("s", text));
    assert_eq!(*content(&layer, "s"), Content::Symlink(text.as_bytes().into()));
}

#[test]
fn nothing_is_below_a_link_or_a_file() {
    let mut through = TestTar::default();
    through.dir("real").symlink("link", "real");
    assert_eq!(refusal(through.clone().file("link/x", b"x")), EntryError::Parent);
    assert_eq!(refusal(through.clone().file("link/.wh.x", b"")), EntryError::Parent);
    let missing = EntryError::LinkTarget("link/x".to_owned());
    assert_eq!(refusal(through.file("real/x", b"").hard_link("y", "link/x")), missing);
    let mut out = TestTar::default();
    assert_eq!(refusal(out.symlink("e", "/etc").file("e/passwd", b"x")), EntryError::Parent);
    let mut file = TestTar::default();
    assert_eq!(refusal(file.file("f", b"").file("f/x", b"")), EntryError::Parent);
    let mut hard = TestTar::default();
    hard.symlink("s", "/etc").hard_link("h", "s");
    assert_eq!(refusal(hard.file("h/x", b"")), EntryError::Parent);
}

#[test]
fn hard_links_stay_in_the_layer() {
    let mut tar = TestTar::default();
    tar.file("a", b"one").hard_link("d/b", "./a").symlink("s", "a").hard_link("t", "/s");
    // What replaces a name leaves the other names of the file alone.
    tar.file("a", b"two").hard_link("a", "a");
    let mut found = layer(&tar);
    assert_eq!(
        (bytes(&mut found, "a"), bytes(&mut found, "d/b")),
        (b"two".to_vec(), b"one".to_vec())
    );
    assert_eq!(id(&found, "s"), id(&found, "t"));
    for missing in ["nothing", "d/nothing", "/etc/passwd", "a/b"] {
        let error = refusal(tar.clone().hard_link("x", missing));
        assert_eq!(error, EntryError::LinkTarget(missing.to_owned()));
    }
    assert_eq!(refusal(tar.clone().hard_link("x", "d")), EntryError::LinkToDirectory);
    assert_eq!(refusal(tar.clone().hard_link("x", "/")), EntryError::LinkTarget("/".to_owned()));
    let hidden = refusal(tar.clone().file(".wh.lower", b"").hard_link("x", "lower"));
    assert_eq!(hidden, EntryError::LinkTarget("lower".to_owned()));
    assert_eq!(refusal(tar.hard_link("/", "a")), EntryError::Root);
    let later = refusal(TestTar::default().hard_link("x", "later").file("later", b""));
    assert_eq!(later, EntryError::LinkTarget("later".to_owned()));
}

#[test]
fn devices_are_kept_but_none_that_is_a_whiteout() {
    let mut tar = TestTar::default();
    tar.device(EntryType::Char, "null", (1, 3)).device(EntryType::Block, "b", (0, 0));
    tar.entry(EntryType::Fifo, "p", b"", |_| {});
    let found = layer(&tar);
    let number = |major, minor| crate::tree::DeviceNumber { major, minor };
    assert_eq!(*content(&found, "null"), Content::CharDevice(number(1, 3)));
    assert_eq!(*content(&found, "b"), Content::BlockDevice(number(0, 0)));
    assert_eq!(*content(&found, "p"), Content::Fifo);
    assert_eq!(refusal(tar.device(EntryType::Char, "w", (0, 0))), EntryError::Device);
}

#[test]
fn the_last_of_several_entries_counts() {
    let mut tar = TestTar::default();
    tar.file("f", b"first").file("f", b"second").dir("d").file("d/kept", b"");
    tar.entry(EntryType::Directory, "d", b"", |header| header.set_mode(0o1777));
    tar.dir("gone").file("gone/x", b"").symlink("gone", "d").file("new", b"").dir("new");
    let mut found = layer(&tar);
    assert_eq!(paths(&found), ["/d", "/d/kept", "/f", "/gone", "/new"]);
    assert_eq!(bytes(&mut found, "f"), b"second");
    assert_eq!(found.tree.inode(id(&found, "d").expect("d")).attributes.mode, 0o1777);
    assert!(!directory(&found, "d").opaque);
    assert!(directory(&found, "new").opaque, "the file hid what lower layers have");
    assert_eq!(refusal(TestTar::default().file("./", b"")), EntryError::Root);
    assert_eq!(refusal(TestTar::default().symlink("/", "/etc")), EntryError::Root);
}

#[test]
fn directories_without_an_entry_are_implied() {
    let mut tar = TestTar::default();
    tar.file("a/b/f", b"").dir("a");
    let found = layer(&tar);
    let b = id(&found, "a/b").expect("a/b");
    assert_eq!(found.tree.inode(b).attributes, NO_TIME);
    assert_eq!(found.tree.inode(Tree::ROOT).attributes, NO_TIME);
    let implied = ["/", "a", "a/b"].map(|path| directory(&found, path).implied);
    assert_eq!(implied, [true, false, true]);
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let mut tar = TestTar::default();
    tar.file("own", b"x").file(".wh.own", b"").file(".wh.lower", b"content is nothing");
    tar.dir("d").file("d/.wh..wh..opq", b"").file("d/f", b"").dir("e").file("e/f", b"");
    tar.file(".wh.e", b"")
        .file(".wh.later", b"")
        .file("later/f", b"")
        .file("sub/.wh..wh..opq", b"");
    tar.file(".wh..wh.aufs", b"12").file(".wh..wh.plnk/1.2", b"").hard_link(".wh.linked", "own");
    let mut found = layer(&tar);
    let wanted =
        ["/d", "/d/f", "/e", "/e/f", "/later", "/later/f", "/linked", "/lower", "/own", "/sub"];
    assert_eq!(paths(&found), wanted);
    assert_eq!(*content(&found, "lower"), Content::Whiteout);
    assert_eq!(*content(&found, "linked"), Content::Whiteout);
    assert_eq!(bytes(&mut found, "own"), b"x");
    for opaque in ["d", "e", "later", "sub"] {
        assert!(directory(&found, opaque).opaque, "{opaque}");
    }
    assert!(!directory(&found, "/").opaque);
    let replaced = layer(TestTar::default().file(".wh.f", b"").file("f", b""));
    assert!(matches!(content(&replaced, "f"), Content::File(_)));
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for bad in [".wh.", "d/.wh.", ".wh..", ".wh...", ".wh.d/x", "d/.wh..wh..opq/x"] {
        assert_eq!(refusal(TestTar::default().file(bad, b"")), EntryError::Whiteout, "{bad}");
    }
    let root = layer(TestTar::default().file(".wh..wh..opq", b"").file("f", b""));
    assert!(directory(&root, "/").opaque, "that hides the lower layers, which it may");
}

#[test]
fn names_and_link_texts_have_linux_s_lengths() {
    let name = |length| "n".repeat(length);
    let with = |key: &str, value: &str, kind| {
        let mut tar = TestTar::default();
        tar.pax(&[(key, value.as_bytes())]);
        tar.entry(kind, "short", b"", |header| header.as_mut_bytes()[157] = b'x').clone()
    };
    assert_eq!(
        paths(&layer(&with("path", &name(255), EntryType::Regular))),
        [format!("/{}", name(255))]
    );
    let long = refusal(&with("path", &name(256), EntryType::Regular));
    assert!(matches!(long, EntryError::Component(_)));
    let deep = "d/".repeat(2047) + "f";
    assert_eq!(layer(&with("path", &deep, EntryType::Regular)).tree.len(), 2049);
    let deeper = refusal(&with("path", &format!("d/{deep}"), EntryType::Regular));
    assert_eq!(deeper, EntryError::PathLength);
    layer(&with("linkpath", &name(4095), EntryType::Symlink));
    assert_eq!(refusal(&with("linkpath", &name(4096), EntryType::Symlink)), EntryError::Symlink);
    assert_eq!(refusal(TestTar::default().symlink("s", "")), EntryError::Symlink);
    assert_eq!(refusal(TestTar::default().file("", b"")), EntryError::PathLength);
}

#[test]
fn attributes_are_kept_but_not_those_of_overlayfs() {
    let mut tar = TestTar::default();
    tar.pax(&[
        ("mtime", b"1700000000.000000001"),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
        ("SCHILY.xattr.user.note", b"x"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.matchlock.implied", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.com.apple.quarantine", b"0081"),
        ("SCHILY.xattr.user.", b"0081"),
    ]);
    tar.file("f", b"");
    let found = layer(&tar);
    let attributes = &found.tree.inode(id(&found, "f").expect("f")).attributes;
    assert_eq!(attributes.mtime, (1_700_000_000, 1));
    let names: Vec<_> =
        attributes.xattrs.keys().map(|name| String::from_utf8_lossy(name)).collect();
    assert_eq!(names, ["security.capability", "user.note"]);
    let big = |length, count| {
        let value = vec![b'v'; length];
        let keys: Vec<_> = (0..count).map(|n| format!("SCHILY.xattr.user.{n}")).collect();
        let records: Vec<_> = keys.iter().map(|key| (key.as_str(), &value[..])).collect();
        TestTar::default().pax(&records).file("f", b"").clone()
    };
    layer(&big(0xffff, 1));
    assert_eq!(refusal(&big(0x1_0000, 1)), EntryError::Xattrs);
    assert_eq!(refusal(&big(0x8000, 5)), EntryError::Xattrs);
}

#[test]
fn sparse_files_take_no_space() {
    use std::os::unix::fs::MetadataExt as _;
    let mut tar = TestTar::default();
    let size = (5u64 << 30).to_string();
    tar.pax(&[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", b"1073741824,3")]);
    let mut found = layer(tar.file("f", b"abc").file("next", b"x"));
    let Content::File(data) = *content(&found, "f") else { panic!("no file") };
    assert_eq!(data.size, 5 << 30);
    assert_eq!(bytes(&mut found, "next"), b"x");
    let mut three = [0; 3];
    found.file.seek(SeekFrom::Start(data.start + (1 << 30))).expect("seek");
    found.file.read_exact(&mut three).expect("content");
    assert_eq!(&three, b"abc");
    assert!(found.file.metadata().expect("metadata").blocks() * 512 < 1 << 20);
    let exbi = (1u64 << 60).to_string();
    let mut tar = TestTar::default();
    tar.pax(&[("GNU.sparse.size", exbi.as_bytes()), ("GNU.sparse.map", b"")]).file("f", b"");
    assert!(matches!(read(&tar.end()), Err(LayerError::TooLong(_))));
}

#[test]
fn sparse_files_of_gnu_tar_are_read() {
    let archives: [&[u8]; 4] = [
        include_bytes!("../../../../fuzz/corpus/layer/seed-sparse-old"),
        include_bytes!("../../../../fuzz/corpus/layer/seed-sparse-00"),
        include_bytes!("../../../../fuzz/corpus/layer/seed-sparse-01"),
        include_bytes!("../../../../fuzz/corpus/layer/seed-sparse-10"),
    ];
    let mut wanted = vec![0; 200 * 1024];
    wanted[65536..65542].copy_from_slice(b"middle");
    for archive in archives {
        let mut found = read(archive).expect("a good layer");
        assert_eq!(paths(&found), ["/s"]);
        assert!(bytes(&mut found, "s") == wanted);
    }
}

#[test]
fn floods_of_entries_end() {
    let limits = Limits { entries: 100, metadata_bytes: 1000, ..Limits::default() };
    let refused = |tar: &TestTar| read_with(&limits, &tar.end()).expect_err("refused");
    let mut same = TestTar::default();
    same.file("f", b"");
    same.0 = same.0.repeat(101);
    assert_eq!(why(&refused(&same)), Some(EntryError::TooManyEntries(100)));
    let mut deep = TestTar::default();
    deep.pax(&[("path", "d/".repeat(101).as_bytes())]).file("f", b"");
    assert_eq!(why(&refused(&deep)), Some(EntryError::TooManyEntries(100)));
    let mut names = TestTar::default();
    for name in 0..11 {
        names.pax(&[("path", format!("{name:0100}").as_bytes())]).file("f", b"");
    }
    assert_eq!(why(&refused(&names)), Some(EntryError::TooMuchMetadata(1000)));
    let mut ignored = TestTar::default();
    ignored.file(".wh..wh.aufs", b"");
    ignored.0 = ignored.0.repeat(401);
    let ended = LayerError::Archive(TarError::TooManyHeaders).to_string();
    assert_eq!(refused(&ignored).to_string(), ended);
}

#[test]
fn a_flood_without_end_is_read_up_to_its_limit() {
    let file = TestTar::default().file("f", b"").0.clone();
    let link = TestTar::default().hard_link("x", "f").0.clone();
    let flood = file.chain(Endless { block: link, at: 0 });
    let limits = Limits { entries: 20_000, ..Limits::default() };
    let refused = unpack(flood, Compression::None, None, blob(), &limits).expect_err("refused");
    assert_eq!(why(&refused), Some(EntryError::TooManyEntries(20_000)));
}

/// The same bytes again and again.
struct Endless {
    block: Vec<u8>,
    at: usize,
}

impl io::Read for Endless {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = (&self.block[self.at..]).read(out)?;
        self.at = (self.at + read) % self.block.len();
        Ok(read)
    }
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 4 << 20];
    let bytes = TestTar::default().file("zeros", &zeros).end();
    let limits = Limits { ratio: 100, ratio_free: 1 << 20, ..Limits::default() };
    for packed in [gzip(&bytes), zstd(&bytes)] {
        let refused = read_with(&limits, &packed).expect_err("a bomb");
        assert!(matches!(refused, LayerError::Bomb(100)), "{refused:?}");
        let free = Limits { ratio_free: 5 << 20, ..limits.clone() };
        assert_eq!(read_with(&free, &packed).expect("allowed").unpacked, bytes.len() as u64);
    }
    assert!(read_with(&limits, &bytes).is_ok(), "without compression there is no bomb");
    let mut behind = TestTar::default().file("f", b"").end();
    behind.extend_from_slice(&zeros);
    let refused = read_with(&limits, &gzip(&behind)).expect_err("behind the archive's end");
    assert!(matches!(refused, LayerError::Bomb(_)));
    let short = Limits { bytes: 1 << 20, ..limits };
    let refused = read_with(&short, &bytes).expect_err("too long");
    assert!(matches!(refused, LayerError::TooLong(_)), "{refused:?}");
}

#[test]
fn truncated_layers_are_refused() {
    let noise: Vec<u8> =
        (0..3000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let bytes = TestTar::default().dir("d").file("d/f", &noise).end();
    let refused = |bytes: &[u8]| read(bytes).expect_err("refused");
    let archive = LayerError::Archive(TarError::Truncated).to_string();
    assert_eq!(refused(&bytes[..3000]).to_string(), archive);
    for packed in [gzip(&bytes), zstd(&bytes)] {
        for length in [5, packed.len() / 2, packed.len() - 1] {
            let error = refused(&packed[..length]);
            assert!(matches!(error, LayerError::Decompress(_)), "{length}: {error:?}");
        }
    }
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let bytes = TestTar::default().file("f", b"").end();
    let as_what = |bytes: &[u8], compression| {
        unpack(bytes, compression, None, blob(), &Limits::default()).expect_err("refused")
    };
    for compression in [Compression::Gzip, Compression::Zstd] {
        let error = as_what(&bytes, compression);
        assert!(matches!(error, LayerError::Decompress(_)), "{error:?}");
    }
    assert!(matches!(as_what(&gzip(&bytes), Compression::None), LayerError::Archive(_)));
    assert!(matches!(as_what(&gzip(&bytes), Compression::Zstd), LayerError::Decompress(_)));
    assert!(matches!(as_what(b"<html>", Compression::None), LayerError::Archive(_)));
}

#[test]
fn an_input_that_fails_is_no_damaged_layer() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let bytes = gzip(&TestTar::default().file("f", b"").end());
    let input = bytes[..20].chain(Broken);
    let error = unpack(input, Compression::Gzip, None, blob(), &Limits::default());
    let error = error.expect_err("the input fails");
    let LayerError::Input(cause) = &error else { panic!("{error:?}") };
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_disk_that_takes_no_more_is_an_error_of_writing() {
    // A file whose size is sealed takes as much as a full disk: nothing.
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("full", flags).expect("a file in memory"));
    let blob = BlobWriter::new(file.try_clone().expect("a descriptor")).expect("a blob");
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::GROW).expect("sealed");
    let bytes = TestTar::default().file("f", &[1; 2 << 20]).end();
    let refused = unpack(&bytes[..], Compression::None, None, blob, &Limits::default());
    let error = refused.expect_err("no space");
    assert!(matches!(error, LayerError::Write(_)), "{error:?}");
}

#[test]
fn a_built_layer_has_a_digest_of_what_is_in_it() {
    let attributes = || Attributes { mode: 0o644, uid: 5, ..Attributes::default() };
    type Step = fn(&mut Builder) -> Result<(), LayerError>;
    let build = |steps: &[Step]| {
        let mut builder = Builder::new(file()).expect("a blob");
        for step in steps {
            step(&mut builder).expect("a good step");
        }
        builder.finish().expect("a layer")
    };
    let plain = |b: &mut Builder| b.add_file(b"d/f", <_>::default(), &b"content"[..]);
    let other = |b: &mut Builder| b.add_file(b"d/f", <_>::default(), &b"CONTENT"[..]);
    let link = |b: &mut Builder| b.add_symlink(b"s", <_>::default(), b"d/f");
    let dir = |b: &mut Builder| b.add_dir(b"/d", Attributes { mode: 0o700, ..<_>::default() });
    let hide = |b: &mut Builder| b.add_whiteout(b"/gone");
    let hard = |b: &mut Builder| b.add_hard_link(b"h", b"d/f");
    let mut one = build(&[plain, dir, link, hide]);
    assert_eq!(paths(&one), ["/d", "/d/f", "/gone", "/s"]);
    assert_eq!(bytes(&mut one, "d/f"), b"content");
    assert_eq!(one.unpacked, 7);
    assert_eq!(build(&[hide, link, other, plain, dir]).diff_id, one.diff_id, "order is nothing");
    let others = [
        build(&[other, dir, link, hide]),
        build(&[plain, link, hide]),
        build(&[plain, dir, hide]),
        build(&[plain, dir, link]),
        build(&[plain, dir, link, hide, hard]),
        build(&[]),
    ];
    let mut ids: Vec<_> = others.iter().chain([&one]).map(|layer| layer.diff_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7);
    let mut builder = Builder::new(file()).expect("a blob");
    assert!(builder.add_file(b".wh.x", attributes(), &b""[..]).is_err());
    assert!(builder.add_file(b"../x", attributes(), &b""[..]).is_err());
    assert!(builder.add_whiteout(b"/").is_err());
}

proptest! {
    #[test]
    fn a_layer_holds_what_its_archive_says(
        files in prop::collection::btree_map("[a-c]{1,2}(/[d-f]{1,2}){0,2}", prop::collection::vec(any::<u8>(), 0..3000), 0..12),
        packed in 0..3,
    ) {
        let mut tar = TestTar::default();
        for (path, content) in &files {
            tar.file(path, content);
        }
        let plain = tar.end();
        let bytes_of = match packed { 0 => plain, 1 => gzip(&plain), _ => zstd(&plain) };
        let below_a_file = files.keys().any(|path| files.keys().any(|other| other.starts_with(&format!("{path}/"))));
        let read = read(&bytes_of);
        if below_a_file {
            prop_assert_eq!(read.err().as_ref().and_then(why), Some(EntryError::Parent));
        } else {
            let mut layer = read.expect("a good layer");
            for (path, content) in &files {
                prop_assert_eq!(&bytes(&mut layer, path), content);
            }
        }
    }

    #[test]
    fn damage_does_no_harm(damage in prop::collection::vec((0usize..5000, any::<u8>()), 1..8)) {
        let mut tar = TestTar::default();
        tar.dir("d").file("d/f", b"content").hard_link("h", "d/f").symlink("s", "d");
        tar.file("d/.wh.x", b"").device(EntryType::Char, "c", (1, 3));
        let mut bytes = tar.end();
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        fuzz::fuzz_layer(&bytes);
    }
}
