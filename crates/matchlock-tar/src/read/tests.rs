use ::tar::EntryType;
use proptest::prelude::*;

use super::*;
use crate::testing::{TestTar, record, repair_checksums};

type Found = Vec<(Entry, Vec<u8>)>;

/// Every entry with its content.
fn read(bytes: &[u8]) -> Result<Found, TarError> {
    read_from(bytes)
}

fn read_from(input: impl BufRead) -> Result<Found, TarError> {
    let mut archive = Archive::new(input);
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut content = Vec::new();
        while let Some(chunk) = archive.chunk()? {
            match chunk {
                Chunk::Bytes(bytes) => content.extend_from_slice(bytes),
                Chunk::Hole(length) => {
                    content.resize(content.len() + usize::try_from(length).expect("small"), 0);
                }
            }
        }
        entries.push((entry, content));
    }
    Ok(entries)
}

fn only(archive: &TestTar) -> (Entry, Vec<u8>) {
    let mut entries = read(&archive.end()).expect("a good archive");
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn path_of(archive: &TestTar) -> String {
    String::from_utf8(only(archive).0.path).expect("text")
}

fn field(range: std::ops::Range<usize>, value: &[u8]) -> impl FnOnce(&mut ::tar::Header) {
    move |header| header.as_mut_bytes()[range][..value.len()].copy_from_slice(value)
}

#[test]
fn every_kind_of_entry_is_read() {
    let mut tar = TestTar::default();
    tar.dir("d/").file("d/f", b"content").symlink("s", "../x").hard_link("h", "d/f");
    tar.device(EntryType::Char, "c", (1, 3)).device(EntryType::Block, "b", (8, 0xf_ffff));
    tar.entry(EntryType::Fifo, "p", b"", |_| {});
    let entries = read(&tar.end()).expect("a good archive");
    let kinds: Vec<_> = entries.iter().map(|(entry, _)| entry.kind.clone()).collect();
    let wanted = [
        Kind::Directory,
        Kind::File,
        Kind::Symlink(b"../x".to_vec()),
        Kind::HardLink(b"d/f".to_vec()),
        Kind::CharDevice(DeviceNumber { major: 1, minor: 3 }),
        Kind::BlockDevice(DeviceNumber { major: 8, minor: 0xf_ffff }),
        Kind::Fifo,
    ];
    assert_eq!(kinds, wanted);
    let (file, content) = &entries[1];
    assert_eq!(
        (file.path.as_slice(), file.size, content.as_slice()),
        (&b"d/f"[..], 7, &b"content"[..])
    );
    let attributes = Attributes { mode: 0o644, uid: 1, gid: 2, mtime: (3, 0), ..<_>::default() };
    assert_eq!(file.attributes, attributes);
}

#[test]
fn old_archives_mark_files_and_directories_otherwise() {
    let mut tar = TestTar::default();
    let old = || field(156..157, &[0]);
    tar.entry(EntryType::Regular, "f", b"x", old()).entry(EntryType::Regular, "d/", b"", old());
    tar.entry(EntryType::new(b'7'), "g", b"y", field(257..265, &[0; 8]));
    // The name that counts is the long one.
    tar.entry(EntryType::GNULongName, "@", b"cut/here\0", |_| {});
    tar.entry(EntryType::Regular, "cut/", b"z", old());
    let kinds: Vec<_> = read(&tar.end()).expect("good").into_iter().map(|e| e.0.kind).collect();
    assert_eq!(kinds, [Kind::File, Kind::Directory, Kind::File, Kind::File]);
}

#[test]
fn long_names_come_in_a_prefix_in_pax_and_from_gnu() {
    let long = "n".repeat(300);
    let with_nul = format!("{long}\0");
    let mut tar = TestTar::default();
    tar.entry(EntryType::Regular, "name", b"", field(345..500, b"a/prefix"));
    assert_eq!(path_of(&tar), "a/prefix/name");
    let mut tar = TestTar::default();
    tar.pax(&[("path", long.as_bytes()), ("linkpath", with_nul.trim_end_matches('\0').as_bytes())]);
    tar.symlink("short", "short");
    let (entry, _) = only(&tar);
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!(entry.kind, Kind::Symlink(long.clone().into_bytes()));
    let mut tar = TestTar::default();
    tar.entry(EntryType::GNULongName, "././@LongLink", with_nul.as_bytes(), |_| {});
    tar.entry(EntryType::GNULongLink, "././@LongLink", with_nul.as_bytes(), |_| {});
    tar.hard_link("short", "short").file("next", b"");
    let entries = read(&tar.end()).expect("good");
    assert_eq!(entries[0].0.path, long.as_bytes());
    assert_eq!(entries[0].0.kind, Kind::HardLink(long.into_bytes()));
    assert_eq!(entries[1].0.path, b"next", "extensions are of one entry");
}

#[test]
fn pax_records_stand_over_the_header() {
    let mut tar = TestTar::default();
    tar.pax(&[
        ("size", b"4"),
        ("uid", b"4294967294"),
        ("gid", b"3000000"),
        ("mtime", b"-1.25"),
        ("SCHILY.xattr.security.capability", b"\x01\0=\n\x02"),
        ("SCHILY.xattr.user.empty", b""),
        ("comment", b"nobody reads this"),
        ("path", b""),
    ]);
    tar.entry(EntryType::Regular, "f", b"1234", |header| header.set_size(0)).file("g", b"");
    let entries = read(&tar.end()).expect("good");
    let (entry, content) = &entries[0];
    assert_eq!(
        (entry.size, content.as_slice(), entry.path.as_slice()),
        (4, &b"1234"[..], &b"f"[..])
    );
    let Attributes { uid, gid, mtime, xattrs, .. } = &entry.attributes;
    assert_eq!((*uid, *gid, *mtime), (4_294_967_294, 3_000_000, (-2, 750_000_000)));
    let xattrs: Vec<_> = xattrs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let wanted =
        [(&b"security.capability"[..], &b"\x01\0=\n\x02"[..]), (&b"user.empty"[..], &b""[..])];
    assert_eq!(xattrs, wanted);
    assert_eq!(entries[1].0.attributes.uid, 1, "extensions are of one entry");
}

#[test]
fn big_numbers_are_in_base_256() {
    let mut tar = TestTar::default();
    tar.entry(EntryType::Regular, "f", b"", |header| {
        header.set_uid(0x8000_0000);
        header.as_mut_bytes()[136..148].copy_from_slice(&[0xff; 12]);
    });
    let attributes = only(&tar).0.attributes;
    assert_eq!((attributes.uid, attributes.mtime), (0x8000_0000, (-1, 0)));
}

#[test]
fn links_and_directories_have_no_content_whatever_their_size() {
    let mut tar = TestTar::default();
    for (kind, name) in [(EntryType::Directory, "d"), (EntryType::Fifo, "p")] {
        tar.entry(kind, name, b"", |header| header.set_size(512));
    }
    tar.entry(EntryType::Link, "l", b"", |header| header.set_size(1 << 30)).file("f", b"x");
    let entries = read(&tar.end()).expect("good");
    assert_eq!(entries.iter().map(|(entry, _)| entry.size).collect::<Vec<_>>(), [0, 0, 0, 1]);
}

/// What the sparse files of these tests hold.
fn sparse_content() -> Vec<u8> {
    [&[0; 1000][..], b"middle", &[0; 94], b"end", &[0; 897]].concat()
}

#[test]
fn sparse_files_of_all_formats_are_read() {
    let version =
        |minor: &'static [u8]| [("GNU.sparse.major", &b"0"[..]), ("GNU.sparse.minor", minor)];
    let (size, name) = (("GNU.sparse.size", &b"2000"[..]), ("GNU.sparse.name", &b"real"[..]));
    let mut old = TestTar::default();
    old.entry(EntryType::GNUSparse, "real", b"", |header| {
        let bytes = header.as_mut_bytes();
        bytes[257..265].copy_from_slice(b"ustar  \0");
        bytes[345..500].fill(0);
        for (at, value) in [(386, "1000"), (398, "6"), (410, "1100"), (422, "3"), (483, "2000")] {
            let octal = format!("{:011o}\0", value.parse::<u64>().expect("a number"));
            bytes[at..at + 12].copy_from_slice(octal.as_bytes());
        }
        header.set_size(9);
    });
    old.data(b"middleend");
    let mut zero = TestTar::default();
    let blocks = [("GNU.sparse.numblocks", &b"2"[..])];
    let pairs = [("1000", "6"), ("1100", "3")].map(|(offset, length)| {
        [("GNU.sparse.offset", offset.as_bytes()), ("GNU.sparse.numbytes", length.as_bytes())]
    });
    zero.pax(&[&[size][..], &blocks, pairs.as_flattened()].concat()).file("real", b"middleend");
    let mut one = TestTar::default();
    let map = ("GNU.sparse.map", &b"1000,6,1100,3"[..]);
    one.pax(&[&version(b"1")[..], &blocks, &[size, name, map]].concat());
    one.file("GNUSparseFile.0/real", b"middleend");
    let mut leading = TestTar::default();
    let major = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), name];
    leading.pax(&[&major[..], &[("GNU.sparse.realsize", b"2000")]].concat());
    let mut content = b"2\n1000\n6\n1100\n3\n".to_vec();
    content.resize(512, 0);
    content.extend_from_slice(b"middleend");
    leading.file("GNUSparseFile.0/real", &content);
    for (format, mut tar) in [("old", old), ("0.0", zero), ("0.1", one), ("1.0", leading)] {
        tar.file("next", b"x");
        let entries = read(&tar.end()).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(entries[0].0.path, b"real", "{format}");
        assert_eq!((entries[0].0.size, &entries[0].1), (2000, &sparse_content()), "{format}");
        assert_eq!(entries[1].0.path, b"next", "{format}");
    }
}

#[test]
fn an_old_sparse_map_goes_on_behind_the_header() {
    let mut tar = TestTar::default();
    let extents: Vec<u64> = (0..30).collect();
    let pair = |index: &u64| format!("{:011o}\0{:011o}\0", index * 10, 1).into_bytes();
    tar.entry(EntryType::GNUSparse, "f", b"", |header| {
        let bytes = header.as_mut_bytes();
        bytes[257..265].copy_from_slice(b"ustar  \0");
        bytes[386..482].copy_from_slice(&extents[..4].iter().flat_map(pair).collect::<Vec<_>>());
        bytes[482] = 1;
        bytes[483..494].copy_from_slice(b"00000000600");
        header.set_size(30);
    });
    for part in extents[4..].chunks(21) {
        let mut block: Vec<u8> = part.iter().flat_map(pair).collect();
        block.resize(512, 0);
        block[504] = u8::from(part.len() == 21);
        tar.data(&block);
    }
    tar.data(&[b'x'; 30]).file("next", b"");
    let entries = read(&tar.end()).expect("good");
    let wanted: Vec<u8> =
        (0..384).map(|at| if at % 10 == 0 && at < 300 { b'x' } else { 0 }).collect();
    assert_eq!(entries[0].1, wanted);
    assert_eq!(entries[1].0.path, b"next");
}

#[test]
fn maps_that_lie_are_refused() {
    // The file has 20 bytes, of which 10 are stored.
    for bad in [
        "0,5",
        "0,5,4,5",
        "5,5,0,5",
        "0,5,16,5",
        "0,11",
        "0,10,20,1",
        "0",
        "0,",
        "a,5",
        "0,5,,5",
        "18446744073709551615,10",
        "0,10,18446744073709551615,18446744073709551615",
        "10,18446744073709551615,10,10",
        "99999999999999999999,1",
    ] {
        let mut tar = TestTar::default();
        tar.pax(&[("GNU.sparse.size", b"20"), ("GNU.sparse.map", bad.as_bytes())]);
        let refused = read(&tar.file("f", b"0123456789").end());
        assert!(matches!(refused, Err(TarError::Sparse)), "{bad}: {refused:?}");
    }
    let leading = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"20"),
    ];
    for bad in ["", "x\n", "1\n0\n", "99999999\n", "1\n\n0\n", "1\n0\n600\n", "-1\n", " 1\n0\n0\n"]
    {
        let mut tar = TestTar::default();
        let mut content = bad.as_bytes().to_vec();
        content.resize(512, 0);
        let refused = read(&tar.pax(&leading).file("f", &content).end());
        assert!(matches!(refused, Err(TarError::Sparse)), "{bad:?}: {refused:?}");
    }
    for bad in [
        &[("GNU.sparse.map", &b"0,1"[..])][..],
        &[("GNU.sparse.size", b"1"), ("GNU.sparse.numbytes", b"1")],
        &[("GNU.sparse.size", b"1"), ("GNU.sparse.offset", b"0")],
        &[("GNU.sparse.size", b"1"), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.map", b"0,1")],
        &[("GNU.sparse.size", b"1"), ("GNU.sparse.major", b"2"), ("GNU.sparse.map", b"0,1")],
        &[("GNU.sparse.size", b"1"), ("GNU.sparse.surprise", b"0")],
        &[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.map", b"0,1")],
    ] {
        assert!(read(&TestTar::default().pax(bad).file("f", b"x").end()).is_err(), "{bad:?}");
    }
}

#[test]
fn holes_cost_nothing() {
    let mut tar = TestTar::default();
    let exbi = (1u64 << 60).to_string();
    tar.pax(&[("GNU.sparse.size", exbi.as_bytes()), ("GNU.sparse.map", b"")]).file("f", b"");
    let bytes = tar.end();
    let mut archive = Archive::new(&bytes[..]);
    let entry = archive.next_entry().expect("good").expect("an entry");
    assert_eq!(entry.size, 1 << 60);
    assert_eq!(archive.chunk().expect("good"), Some(Chunk::Hole(1 << 60)));
    assert_eq!(archive.chunk().expect("good"), None);
}

#[test]
fn an_archive_ends_with_zeros_or_where_its_stream_does() {
    let mut tar = TestTar::default();
    tar.file("f", b"x");
    assert_eq!(read(b"").expect("empty").len(), 0);
    assert_eq!(read(&tar.0).expect("no mark of the end").len(), 1);
    let end = tar.end();
    assert_eq!(read(&[&end[..], b"anything"].concat()).expect("more behind").len(), 1);
    let hidden = [&tar.0[..], &[0; 512], &tar.0].concat();
    assert!(matches!(read(&hidden), Err(TarError::End)), "two readers would differ");
}

#[test]
fn truncated_archives_are_refused() {
    let mut tar = TestTar::default();
    tar.pax(&[("path", b"long")]).file("f", &[1; 600]);
    // Extension 512 + 512, header 512, content 600 and padding.
    for length in 1..tar.0.len() {
        let cut = read(&tar.0[..length]);
        assert!(matches!(cut, Err(TarError::Truncated)), "{length}: {cut:?}");
    }
}

#[test]
fn headers_that_are_none_are_refused() {
    let mut damaged = TestTar::default();
    damaged.file("f", b"");
    damaged.0[0] ^= 1;
    assert!(matches!(read(&damaged.end()), Err(TarError::Checksum)));
    assert!(matches!(read(&[7; 512]), Err(TarError::Checksum | TarError::Field(_))));
    let bent = |range: std::ops::Range<usize>, value: &'static [u8]| {
        let mut tar = TestTar::default();
        tar.entry(EntryType::Char, "f", b"", field(range, value));
        read(&tar.end())
    };
    // Base 256: minus one; user 2³² − 1; a device of 13 bits; a size beyond all.
    assert!(matches!(bent(108..116, &[0xff; 8]), Err(TarError::Field("uid"))));
    assert!(matches!(bent(116..124, b"\x80\0\0\0\xff\xff\xff\xff"), Err(TarError::Field("gid"))));
    assert!(matches!(bent(329..337, b"0010000\0"), Err(TarError::Field("devmajor"))));
    assert!(matches!(bent(337..345, b"4000000\0"), Err(TarError::Field("devminor"))));
    assert!(matches!(bent(100..108, b"rw-r--r-"), Err(TarError::Field("mode"))));
    let mut tar = TestTar::default();
    tar.entry(EntryType::Regular, "f", b"", field(124..136, &[0xff; 12]));
    assert!(matches!(read(&tar.end()), Err(TarError::Field("size"))));
    let mut tar = TestTar::default();
    tar.pax(&[("size", b"18446744073709551615")]).file("f", b"");
    assert!(matches!(read(&tar.end()), Err(TarError::Field("size"))));
}

#[test]
fn types_that_are_no_files_are_refused() {
    for kind in [b'D', b'M', b'N', b'X', b'A', b'8', b's', 0xff] {
        let mut tar = TestTar::default();
        let refused = read(&tar.entry(EntryType::new(kind), "f", b"", |_| {}).end());
        assert!(matches!(refused, Err(TarError::Type(found)) if found == kind), "{kind}");
    }
    let mut tar = TestTar::default();
    tar.entry(EntryType::new(b'V'), "label", b"", |_| {}).file("f", b"");
    assert_eq!(read(&tar.end()).expect("a volume label is skipped").len(), 1);
}

#[test]
fn extensions_that_two_readers_would_apply_differently_are_refused() {
    let long = |tar: &mut TestTar| {
        tar.entry(EntryType::GNULongName, "@", b"long\0", |_| {});
    };
    let mut twice = TestTar::default();
    twice.pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", b"");
    let mut names = TestTar::default();
    long(&mut names);
    long(&mut names);
    names.file("f", b"");
    let global = |records: &[(&str, &[u8])]| {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut tar = TestTar::default();
        tar.entry(EntryType::XGlobalHeader, "g", &bytes, |_| {}).file("f", b"");
        read(&tar.end())
    };
    for conflict in [
        read(&twice.end()),
        read(&names.end()),
        global(&[("size", b"9")]),
        global(&[("path", b"x")]),
    ] {
        assert!(matches!(conflict, Err(TarError::Conflict)), "{conflict:?}");
    }
    assert_eq!(
        global(&[("comment", b"of git"), ("mtime", b"5")]).expect("good")[0].0.attributes.mtime.0,
        3
    );
}

#[test]
fn extensions_are_bounded_and_well_formed() {
    let mut tar = TestTar::default();
    tar.entry(EntryType::XHeader, "x", b"", |header| header.set_size(EXTENSION_MAX + 1));
    assert!(matches!(read(&tar.end()), Err(TarError::ExtensionTooLong)));
    for bad in
        [&b"8 path=a"[..], b"9 path=\0\n", b"0", b"99 path=a\n", b"path=a\n", b"7 uid=\xff\n"]
    {
        let mut tar = TestTar::default();
        tar.entry(EntryType::XHeader, "x", bad, |_| {}).file("f", b"");
        assert!(matches!(read(&tar.end()), Err(TarError::Pax)), "{bad:?}");
    }
    for key in ["uid", "gid", "size"] {
        let mut tar = TestTar::default();
        tar.pax(&[(key, b"99999999999999999999999")]).file("f", b"");
        assert!(matches!(read(&tar.end()), Err(TarError::Pax)), "{key}");
    }
}

#[test]
fn a_flood_of_headers_ends() {
    let mut tar = TestTar::default();
    tar.entry(EntryType::XGlobalHeader, "g", b"", |_| {});
    let flood = tar.0.repeat(101);
    let mut archive = Archive::with_headers(&flood[..], 100);
    assert!(matches!(archive.next_entry(), Err(TarError::TooManyHeaders)));
}

#[test]
fn content_is_a_stream_and_what_is_not_read_is_skipped() {
    let mut tar = TestTar::default();
    tar.pax(&[("GNU.sparse.size", b"2000"), ("GNU.sparse.map", b"1000,6,1100,3")]);
    tar.file("sparse", b"middleend").file("skipped", &[1; 5000]).file("last", b"last");
    let bytes = tar.end();
    let mut archive = Archive::new(io::BufReader::with_capacity(7, &bytes[..]));
    archive.next_entry().expect("good").expect("an entry");
    let mut content = Vec::new();
    let mut stream = archive.content();
    let mut piece = [0; 5];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        content.extend_from_slice(&piece[..length]);
    }
    assert_eq!(content, sparse_content());
    archive.next_entry().expect("good").expect("an entry");
    let mut some = [0; 3];
    archive.content().read_exact(&mut some).expect("content");
    archive.next_entry().expect("good").expect("an entry");
    let mut text = String::new();
    archive.content().read_to_string(&mut text).expect("content");
    assert_eq!(text, "last");
    assert!(archive.next_entry().expect("good").is_none());
    assert!(archive.next_entry().expect("the end stays the end").is_none());
}

proptest! {
    #[test]
    fn what_another_archiver_wrote_is_read(
        files in prop::collection::vec(("[a-z]{1,60}(/[a-z]{1,120}){0,3}", prop::collection::vec(any::<u8>(), 0..1500)), 0..8),
        buffer in 1usize..2000,
    ) {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (path, content) in &files {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o4755);
            builder.append_data(&mut header, path, &content[..]).expect("in memory");
        }
        let bytes = builder.into_inner().expect("in memory");
        let entries = read_from(io::BufReader::with_capacity(buffer, &bytes[..])).expect("good");
        let found: Vec<_> = entries
            .into_iter()
            .map(|(entry, content)| (String::from_utf8(entry.path).expect("text"), content))
            .collect();
        prop_assert_eq!(found, files);
    }

    #[test]
    fn nothing_panics_and_buffers_do_not_matter(
        damage in prop::collection::vec((0usize..6000, any::<u8>()), 0..6),
        buffer in 1usize..700,
    ) {
        let mut tar = TestTar::default();
        tar.pax(&[("path", b"p"), ("GNU.sparse.size", b"2000"), ("GNU.sparse.map", b"1000,6,1100,3")]);
        tar.file("f", b"middleend").symlink("s", "t").file("g", &[1; 700]).dir("d/");
        let mut bytes = tar.end();
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        repair_checksums(&mut bytes);
        let whole = read(&bytes);
        let pieces = read_from(io::BufReader::with_capacity(buffer, &bytes[..]));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }
}
