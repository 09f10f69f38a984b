//! Two directories of this machine stand for the two ends.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tar::EntryType;

use super::*;
use crate::testing::{TestTar, repair_checksums};

const LIMITS: Limits = Limits { entries: 1000, bytes: 1 << 20 };

/// A directory with what a copy has to keep outside of `to`, its destination.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(lab.path("to")).expect("made");
        fs::create_dir(lab.path("outside")).expect("made");
        lab.file("outside/kept", "kept");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).expect("there").permissions().mode() & 0o7777
    }

    fn pack(&self, path: &str) -> (Vec<u8>, Packed) {
        let mut archive = Vec::new();
        let path = self.0.path().join(path).into_os_string().into_encoded_bytes();
        let packed = pack(&Root::own(), &path, false, &mut archive).expect("packed");
        (archive, packed)
    }

    fn unpack(&self, to: &str, top: Top<'_>, archive: &[u8]) -> Result<Unpacked, TreeError> {
        let path = format!("{}/{to}", self.0.path().display());
        unpack(&Root::own(), path.as_bytes(), top, archive, LIMITS)
    }

    /// As `cp FROM TO`.
    fn copy(&self, from: &str, to: &str) -> Result<Unpacked, TreeError> {
        let name = own_name(from.as_bytes());
        self.unpack(to, Top::Copy(name), &self.pack(from).0)
    }

    /// Everything below `to`, and that nothing outside of it has changed.
    fn listing(&self) -> Vec<String> {
        assert_eq!(self.read("outside/kept"), "kept");
        assert_eq!(fs::read_dir(self.path("outside")).expect("listed").count(), 1);
        let mut found = Vec::new();
        let mut waiting = vec![self.path("to")];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).expect("listed") {
                let entry = entry.expect("read");
                let path = entry.path();
                let shown = path.strip_prefix(self.path("to")).expect("below").display();
                found.push(shown.to_string());
                if entry.file_type().expect("known").is_dir() {
                    waiting.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

fn reason(result: Result<Unpacked, TreeError>) -> Refusal {
    match result {
        Err(TreeError::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn number(result: Result<Unpacked, TreeError>) -> Option<i32> {
    result.expect_err("an error").raw_os_error()
}

#[test]
fn a_tree_arrives_as_it_was() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("src/inner/empty")).expect("made");
    lab.file("src/file", "content");
    lab.file("src/inner/tool", "#!");
    fs::hard_link(lab.path("src/file"), lab.path("src/inner/again")).expect("linked");
    symlink("../outside/kept", lab.path("src/link")).expect("linked");
    symlink("/nowhere", lab.path("src/inner/broken")).expect("linked");
    let mode = |name: &str, mode| {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(mode)).expect("set");
    };
    mode("src/inner/tool", 0o4751);
    mode("src/file", 0o640);
    mode("src/inner/empty", 0o500);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["src/file", "src/inner"] {
        let file = fs::File::open(lab.path(name)).expect("opened");
        file.set_modified(long_ago).expect("set");
    }
    let done = lab.copy("src", "to").expect("copied");
    assert_eq!(done, Unpacked { entries: 8, bytes: 9 });
    assert_eq!(
        lab.listing(),
        [
            "src",
            "src/file",
            "src/inner",
            "src/inner/again",
            "src/inner/broken",
            "src/inner/empty",
            "src/inner/tool",
            "src/link"
        ]
    );
    assert_eq!(lab.read("to/src/file"), "content");
    assert_eq!(lab.mode("to/src/inner/tool"), 0o751, "nothing gets another owner's rights");
    assert_eq!((lab.mode("to/src/file"), lab.mode("to/src/inner/empty")), (0o640, 0o500));
    for name in ["to/src/file", "to/src/inner"] {
        assert_eq!(fs::metadata(lab.path(name)).expect("there").modified().ok(), Some(long_ago));
    }
    let link = |name: &str| fs::read_link(lab.path(name)).expect("a link");
    assert_eq!(link("to/src/link"), PathBuf::from("../outside/kept"));
    assert_eq!(link("to/src/inner/broken"), PathBuf::from("/nowhere"));
    let inode = |name: &str| fs::metadata(lab.path(name)).expect("there").ino();
    assert_eq!(inode("to/src/file"), inode("to/src/inner/again"));
}

#[test]
fn the_destination_decides_as_docker_has_it() {
    let lab = Lab::new();
    lab.file("f", "1");
    fs::create_dir(lab.path("d")).expect("made");
    lab.file("d/x", "2");
    // A file: to a new name, over a file, into a directory; not to a directory that is not there.
    lab.copy("f", "to/new").expect("copied");
    lab.file("to/old", "longer than the new one");
    lab.copy("f", "to/old").expect("copied");
    lab.copy("f", "to").expect("copied");
    lab.copy("f", "to/").expect("copied");
    assert_eq!(lab.read("to/old"), "1");
    assert_eq!(lab.listing(), ["f", "new", "old"]);
    assert_eq!(number(lab.copy("f", "to/none/")), Some(libc_enoent()));
    assert_eq!(number(lab.copy("f", "to/none/x")), Some(libc_enoent()));
    // A directory: under a new name, into one that is there, or what is in it.
    lab.copy("d", "to/made").expect("copied");
    lab.copy("d", "to/made2/").expect("copied");
    lab.copy("d", "to/made").expect("copied");
    lab.copy("d/.", "to/made").expect("copied");
    lab.copy("d/.", "to/made3").expect("copied");
    assert_eq!(reason(lab.copy("d", "to/f")), Refusal::NotDirectory);
    let wanted =
        ["f", "made", "made/d", "made/d/x", "made/x", "made2", "made2/x", "made3", "made3/x"];
    assert_eq!(lab.listing(), [&wanted[..], &["new", "old"]].concat());
    // Over what is there: a directory stays one, with its mode.
    fs::set_permissions(lab.path("to/made"), fs::Permissions::from_mode(0o711)).expect("set");
    lab.file("d/x", "3");
    lab.copy("d/.", "to/made").expect("copied");
    assert_eq!((lab.read("to/made/x").as_str(), lab.mode("to/made")), ("3", 0o711));
}

fn libc_enoent() -> i32 {
    rustix::io::Errno::NOENT.raw_os_error()
}

#[test]
fn a_link_is_copied_as_one_unless_it_is_asked_to_be_followed() {
    let lab = Lab::new();
    fs::create_dir(lab.path("d")).expect("made");
    lab.file("d/x", "1");
    symlink("d", lab.path("link")).expect("linked");
    lab.copy("link", "to").expect("copied");
    assert_eq!(fs::read_link(lab.path("to/link")).expect("a link"), PathBuf::from("d"));
    lab.copy("link/", "to/followed").expect("copied");
    assert_eq!(lab.read("to/followed/x"), "1");
    let mut archive = Vec::new();
    let path = lab.path("link").into_os_string().into_encoded_bytes();
    pack(&Root::own(), &path, true, &mut archive).expect("packed");
    lab.unpack("to/third", Top::Copy(Some(b"link")), &archive).expect("copied");
    assert_eq!(lab.read("to/third/x"), "1");
    // The user's own link as a destination is followed.
    symlink(lab.path("to/followed/x"), lab.path("to/through")).expect("linked");
    lab.file("f", "2");
    lab.copy("f", "to/through").expect("copied");
    assert_eq!(lab.read("to/followed/x"), "2");
}

#[test]
fn what_is_no_file_is_left_out_and_said() {
    let lab = Lab::new();
    fs::create_dir(lab.path("d")).expect("made");
    let directory = fs::File::open(lab.path("d")).expect("opened");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(&directory, "pipe", rustix::fs::FileType::Fifo, mode, 0).expect("made");
    lab.file("d/x", "1");
    let (archive, packed) = lab.pack("d");
    assert_eq!(packed.entries, 2);
    assert!(matches!(&packed.notes[..], [note] if note.starts_with("d/pipe ")), "{packed:?}");
    lab.unpack("to", Top::Copy(Some(b"d")), &archive).expect("copied");
    assert_eq!(lab.listing(), ["d", "d/x"]);
}

#[test]
fn a_file_without_a_size_has_its_content() {
    let mut archive = Vec::new();
    pack(&Root::own(), b"/proc/self/status", false, &mut archive).expect("packed");
    let lab = Lab::new();
    lab.unpack("to", Top::Copy(Some(b"status")), &archive).expect("copied");
    assert!(lab.read("to/status").contains("Pid:"));
}

#[test]
fn an_archive_of_a_user_goes_below_a_directory() {
    let lab = Lab::new();
    let mut archive = TestTar::default();
    archive.file("./a/b/c", b"1").symlink("l", "a").file("a/b/d", b"2").hard_link("h", "a/b/d");
    let done = lab.unpack("to", Top::Archive, &archive.end()).expect("unpacked");
    assert_eq!(done, Unpacked { entries: 4, bytes: 2 });
    assert_eq!(lab.listing(), ["a", "a/b", "a/b/c", "a/b/d", "h", "l"]);
    assert_eq!(number(lab.unpack("to/none", Top::Archive, &archive.end())), Some(libc_enoent()));
    lab.unpack("to/a/b/c", Top::Archive, &archive.end()).expect_err("a file");
    assert_eq!(lab.unpack("to", Top::Archive, &[0; 1024]).ok(), Some(Unpacked::default()));
}

/// Each of them would leave the destination, or make what a copy must not.
#[test]
fn a_hostile_archive_is_refused_and_nothing_outside_changes() {
    let outside = |lab: &Lab| lab.path("outside").display().to_string();
    type Bent = fn(&mut TestTar, &str);
    let cases: &[(&str, Bent, Option<Refusal>)] = &[
        ("..", |tar, _| _ = tar.file("t/../../outside/kept", b"x"), Some(Refusal::Parent)),
        (".. alone", |tar, _| _ = tar.dir(".."), Some(Refusal::Parent)),
        (
            "absolute",
            |tar, out| _ = tar.file(&format!("{out}/kept"), b"x"),
            Some(Refusal::Absolute),
        ),
        ("beside", |tar, _| _ = tar.file("other", b"x"), Some(Refusal::Beside)),
        (
            "a link to a directory",
            |tar, out| _ = tar.symlink("t/l", out).file("t/l/kept", b"x"),
            None,
        ),
        (
            "a relative link",
            |tar, _| {
                _ = tar.symlink("t/l", "../../outside").file("t/l/kept", b"x");
            },
            None,
        ),
        (
            "a chain of links",
            |tar, _| {
                _ = tar.symlink("t/a", "..").symlink("t/b", "a/..").file("t/b/outside/kept", b"x");
            },
            None,
        ),
        ("a link as a directory", |tar, out| _ = tar.symlink("t/l", out).dir("t/l"), None),
        (
            "a hard link out",
            |tar, _| _ = tar.hard_link("t/h", "../outside/kept"),
            Some(Refusal::Parent),
        ),
        (
            "a hard link through a link",
            |tar, out| {
                _ = tar.symlink("t/l", out).hard_link("t/h", "t/l/kept");
            },
            None,
        ),
        (
            "a hard link to a link",
            |tar, _| {
                _ = tar.symlink("t/l", "x").hard_link("t/h", "t/l");
            },
            Some(Refusal::Foreign),
        ),
        ("a hard link to nothing", |tar, _| _ = tar.hard_link("t/h", "t/none"), None),
        (
            "a device",
            |tar, _| _ = tar.device(EntryType::Char, "t/c", (1, 3)),
            Some(Refusal::Special),
        ),
        (
            "a block device",
            |tar, _| _ = tar.device(EntryType::Block, "t/b", (8, 0)),
            Some(Refusal::Special),
        ),
        (
            "a pipe",
            |tar, _| _ = tar.entry(EntryType::Fifo, "t/p", b"", |_| {}),
            Some(Refusal::Special),
        ),
        ("a link without text", |tar, _| _ = tar.symlink("t/l", ""), Some(Refusal::Link)),
        (
            "a long name",
            |tar, _| {
                _ = tar.pax(&[("path", &[b"t/", &[b'x'; 256][..]].concat())]).file("t", b"");
            },
            Some(Refusal::TooLong),
        ),
        (
            "a long path",
            |tar, _| {
                _ = tar.pax(&[("path", &[b"t/", &b"x/".repeat(2100)[..]].concat())]).file("t", b"");
            },
            Some(Refusal::TooLong),
        ),
        (
            "a deep path",
            |tar, _| {
                _ = tar.pax(&[("path", &[b"t/", &b"x/".repeat(1100)[..]].concat())]).file("t", b"");
            },
            Some(Refusal::TooLong),
        ),
        (
            "too many bytes",
            |tar, _| {
                _ = tar.entry(EntryType::Regular, "t/f", b"", |header| header.set_size(1 << 40));
            },
            Some(Refusal::TooLarge),
        ),
    ];
    for (what, bend, wanted) in cases {
        let lab = Lab::new();
        let mut archive = TestTar::default();
        archive.dir("t");
        bend(&mut archive, &outside(&lab));
        let error = lab.unpack("to", Top::Copy(Some(b"t")), &archive.end());
        let error = error.expect_err(what);
        if let Some(wanted) = wanted {
            assert!(
                matches!(error, TreeError::Refused { reason, .. } if reason == *wanted),
                "{what}: {error:?}"
            );
        }
        for entry in lab.listing() {
            assert!(entry.starts_with('t'), "{what}: {entry}");
        }
    }
}

#[test]
fn an_archive_cannot_write_through_what_is_there() {
    let lab = Lab::new();
    symlink(lab.path("outside"), lab.path("to/l")).expect("linked");
    symlink(lab.path("outside/kept"), lab.path("to/f")).expect("linked");
    fs::hard_link(lab.path("outside/kept"), lab.path("to/h")).expect("linked");
    let mut through = TestTar::default();
    through.file("l/kept", b"x");
    lab.unpack("to", Top::Archive, &through.end()).expect_err("a link is on the way");
    let mut replaced = TestTar::default();
    replaced.file("f", b"x").file("h", b"x");
    lab.unpack("to", Top::Archive, &replaced.end()).expect("the names are replaced");
    let mut linked = TestTar::default();
    linked.hard_link("again", "l/kept");
    lab.unpack("to", Top::Archive, &linked.end()).expect_err("a link is on the way");
    assert_eq!(lab.listing(), ["f", "h", "l"]);
}

#[test]
fn the_sender_does_not_choose_the_name() {
    let lab = Lab::new();
    let mut archive = TestTar::default();
    archive.file(".bashrc", b"x");
    lab.unpack("to", Top::Copy(Some(b"notes")), &archive.end()).expect("copied");
    assert_eq!(lab.listing(), ["notes"]);
    let mut content = TestTar::default();
    content.file("f", b"x");
    assert_eq!(reason(lab.unpack("to", Top::Copy(None), &content.end())), Refusal::IsDirectory);
    let mut deep = TestTar::default();
    deep.file("a/b", b"x");
    assert_eq!(reason(lab.unpack("to", Top::Copy(Some(b"n")), &deep.end())), Refusal::Beside);
    assert_eq!(reason(lab.unpack("to", Top::Copy(Some(b"n")), &[0; 1024])), Refusal::Empty);
    assert_eq!(lab.listing(), ["notes"]);
}

#[test]
fn a_file_is_not_followed_by_another() {
    let lab = Lab::new();
    lab.file("to/f", "old");
    let mut archive = TestTar::default();
    archive.file("f", b"new").file("g", b"x");
    assert_eq!(reason(lab.unpack("to/f", Top::Copy(Some(b"f")), &archive.end())), Refusal::Beside);
    assert_eq!(lab.listing(), ["f"]);
}

#[test]
fn entries_and_bytes_have_bounds() {
    let lab = Lab::new();
    let mut many = TestTar::default();
    many.dir("t");
    for n in 0..LIMITS.entries {
        many.file(&format!("t/{n}"), b"");
    }
    assert_eq!(reason(lab.unpack("to", Top::Copy(Some(b"t")), &many.end())), Refusal::TooMany);
    let mut large = TestTar::default();
    let half = vec![0; (LIMITS.bytes / 2 + 1) as usize];
    large.file("a", &half).file("b", &half);
    assert_eq!(reason(lab.unpack("to", Top::Archive, &large.end())), Refusal::TooLarge);
    // A hole takes no room in the archive, and counts all the same.
    let mut hole = TestTar::default();
    hole.pax(&[("GNU.sparse.size", b"9000000000000"), ("GNU.sparse.map", b"0,1")]).file("s", b"x");
    assert_eq!(reason(lab.unpack("to", Top::Archive, &hole.end())), Refusal::TooLarge);
}

#[test]
fn a_root_keeps_every_path_within() {
    let lab = Lab::new();
    symlink("/f", lab.path("to/absolute")).expect("linked");
    lab.file("to/f", "inner");
    fs::create_dir_all(lab.path("to/usr/lib")).expect("made");
    symlink("usr/lib", lab.path("to/lib")).expect("linked");
    let root = || {
        let directory = fs::File::open(lab.path("to")).expect("opened");
        Root::within(directory.into())
    };
    let mut archive = Vec::new();
    pack(&root(), b"/absolute", true, &mut archive).expect("within");
    unpack(&root(), b"../../copy", Top::Copy(Some(b"x")), &archive[..], LIMITS).expect("within");
    assert_eq!(lab.read("to/copy"), "inner");
    pack(&root(), b"../outside/kept", false, &mut Vec::new()).expect_err("nothing is outside");
    // As images have it: a directory that a link stands for.
    let mut user = TestTar::default();
    user.dir("lib").file("lib/x", b"1");
    unpack(&root(), b"/", Top::Archive, &user.end()[..], LIMITS).expect("unpacked");
    assert_eq!(lab.read("to/usr/lib/x"), "1");
    let mut out = TestTar::default();
    out.symlink("out", "../outside").file("out/kept", b"x");
    unpack(&root(), b"/", Top::Archive, &out.end()[..], LIMITS).expect_err("it leads out");
    lab.listing();
}

#[test]
fn a_path_is_harmless_on_a_terminal() {
    let error = TreeError::refused(b"a\x1b[2Jb\xff\n\xe2\x80\xae", Refusal::Special);
    let text = error.to_string();
    assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
}

proptest! {
    /// Whatever comes: nothing panics, and nothing outside of the destination changes.
    #[test]
    fn any_bytes_stay_below_the_destination(
        damage in prop::collection::vec((0usize..6000, any::<u8>()), 0..8),
        names in prop::collection::vec("[a./]{1,6}", 4),
        top in prop_oneof![
            Just(Top::Archive), Just(Top::Copy(None)), Just(Top::Copy(Some(&b"a"[..])))
        ],
    ) {
        let lab = Lab::new();
        let mut tar = TestTar::default();
        tar.dir(&names[0]).symlink(&names[1], "../outside").file(&names[2], b"x");
        tar.hard_link(&names[3], &names[1]).file("a/kept", b"x").file("a/a/kept", b"y");
        let mut bytes = tar.end();
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        repair_checksums(&mut bytes);
        let _ = lab.unpack("to", top, &bytes);
        lab.listing();
    }
}
