//! A directory of this machine stands for the guest's root.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

struct Root {
    directory: tempfile::TempDir,
    fd: OwnedFd,
}

impl Root {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let fd = OwnedFd::from(File::open(directory.path()).expect("opened"));
        Self { directory, fd }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let request = FileRequest::Write { path: path.into(), mode };
        perform(&self.fd, &request, content, io::sink(), io::sink())
    }

    fn read(&self, path: &str, max: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let request = FileRequest::Read { path: path.into(), max };
        perform(&self.fd, &request, io::empty(), &mut content, io::sink())?;
        Ok(content)
    }

    fn list(&self, path: &str) -> io::Result<Vec<FileEntry>> {
        let mut bytes = Vec::new();
        let request = FileRequest::List { path: path.into() };
        perform(&self.fd, &request, io::empty(), &mut bytes, io::sink())?;
        let mut rest = bytes.as_slice();
        let mut entries = Vec::new();
        while let Some(entry) = FileEntry::take(&mut rest).expect("entries") {
            entries.push(entry);
        }
        assert!(rest.is_empty());
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.path(name)).expect("there").permissions().mode() & 0o7777
    }
}

fn number(result: io::Result<impl std::fmt::Debug>) -> Option<i32> {
    result.expect_err("an error").raw_os_error()
}

#[test]
fn a_new_file_has_its_mode_and_its_parents_and_an_old_one_keeps_its_own() {
    let root = Root::new();
    root.write("/a/b/c", 0o640, b"first, and longer").expect("written");
    assert_eq!((root.mode("a/b/c"), root.mode("a/b"), root.mode("a")), (0o640, 0o755, 0o755));
    root.write("a/b/c", 0o777, b"second").expect("written");
    assert_eq!(root.mode("a/b/c"), 0o640);
    assert_eq!(root.read("/a/b/c", 6).expect("read"), b"second");
    root.write("/a/b/../d/e", 0o600, b"").expect("written");
    assert_eq!(root.read("/a/d/e", 0).expect("read"), b"");
}

#[test]
fn more_than_one_chunk_arrives_whole_and_the_bound_is_the_last_byte() {
    let root = Root::new();
    let content: Vec<u8> = (0..3 * CHUNK + 17).map(|i| (i % 251) as u8).collect();
    root.write("/big", 0o644, &content).expect("written");
    let size = content.len() as u64;
    assert!(root.read("/big", size).expect("read") == content);
    assert_eq!(number(root.read("/big", size - 1)), Some(libc::EFBIG));
}

#[test]
fn a_file_without_a_size_is_bounded_by_what_comes() {
    let fd = OwnedFd::from(File::open("/").expect("opened"));
    let request = FileRequest::Read { path: b"/proc/self/maps".to_vec(), max: 10 };
    let read = perform(&fd, &request, io::empty(), io::sink(), io::sink());
    assert_eq!(number(read), Some(libc::EFBIG));
}

#[test]
fn links_lead_nowhere_but_into_the_root() {
    let root = Root::new();
    let outside = tempfile::tempdir().expect("a directory");
    std::fs::write(outside.path().join("secret"), "outside").expect("written");
    symlink(outside.path().join("secret"), root.path("absolute")).expect("a link");
    symlink("../../../../../../../../etc/passwd", root.path("climbing")).expect("a link");
    symlink(outside.path(), root.path("directory")).expect("a link");
    for path in ["/absolute", "climbing", "/directory/secret", "../../etc/passwd"] {
        assert_eq!(number(root.read(path, 1 << 20)), Some(libc::ENOENT), "{path}");
    }
    assert_eq!(number(root.list("/directory")), Some(libc::ENOENT));
    // Within the root they are followed.
    root.write("/real", 0o644, b"inside").expect("written");
    symlink("/real", root.path("inner")).expect("a link");
    assert_eq!(root.read("inner", 100).expect("read"), b"inside");
    root.write("/inner", 0o644, b"through").expect("written");
    assert_eq!(root.read("real", 100).expect("read"), b"through");
    // A link to nothing is where its file is made: in the root.
    root.write("/absolute", 0o644, b"x").expect_err("its directory is not there");
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("there"), b"outside");
}

#[test]
fn links_to_open_files_are_not_followed() {
    let fd = OwnedFd::from(File::open("/").expect("opened"));
    for path in ["/proc/self/fd/0", "/proc/self/root/etc/passwd", "/proc/self/exe"] {
        let request = FileRequest::Read { path: path.into(), max: 1 << 20 };
        let read = perform(&fd, &request, io::empty(), io::sink(), io::sink());
        assert_eq!(number(read), Some(libc::ELOOP), "{path}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let root = Root::new();
    std::fs::create_dir(root.path("directory")).expect("made");
    rustix::fs::mknodat(&root.fd, "pipe", FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .expect("made");
    assert_eq!(number(root.read("/pipe", 1)), Some(libc::EINVAL));
    // Nobody reads it.
    assert_eq!(number(root.write("/pipe", 0o644, b"x")), Some(libc::ENXIO));
    assert_eq!(number(root.read("/directory", 1)), Some(libc::EISDIR));
    assert_eq!(number(root.write("/directory", 0o644, b"x")), Some(libc::EISDIR));
    root.write("/file", 0o644, b"x").expect("written");
    assert_eq!(number(root.list("/file")), Some(libc::ENOTDIR));
    assert_eq!(number(root.write("/file/below", 0o644, b"x")), Some(libc::ENOTDIR));
    assert_eq!(number(root.read("/none", 1)), Some(libc::ENOENT));
    assert_eq!(number(root.read("", 1)), Some(libc::ENOENT));
}

#[test]
fn a_directory_is_listed_as_it_is() {
    let root = Root::new();
    assert_eq!(root.list("/").expect("listed"), []);
    root.write("/file", 0o4755, b"12345").expect("written");
    std::fs::create_dir(root.path("sub")).expect("made");
    symlink("nowhere", root.path("link")).expect("made");
    let entries = root.list("").err().map(|error| error.raw_os_error());
    assert_eq!(entries, Some(Some(libc::ENOENT)), "an empty path is none");
    let entries = root.list("/").expect("listed");
    let names: Vec<_> = entries.iter().map(|entry| entry.name.as_slice()).collect();
    assert_eq!(names, [&b"file"[..], b"link", b"sub"]);
    assert_eq!((entries[0].size, entries[0].mode), (5, 0o104_755));
    assert_eq!(entries[1].mode & 0o170_000, 0o120_000, "the link itself");
    assert_eq!(entries[2].mode & 0o170_000, 0o040_000);
    let modified = std::fs::metadata(root.path("file")).expect("there").modified();
    let since = modified.expect("known").duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let told = (entries[0].modified_s, entries[0].modified_ns);
    assert_eq!(told, (since.as_secs() as i64, since.subsec_nanos()));
}

#[test]
fn a_directory_of_any_size_is_listed() {
    let root = Root::new();
    for n in 0..2000 {
        std::fs::write(root.path(&format!("{n:0>200}")), "").expect("written");
    }
    assert_eq!(root.list("/").expect("listed").len(), 2000);
}

#[test]
fn an_error_is_never_success() {
    assert_eq!(status(&Ok(())), 0);
    assert_eq!(status(&Err(Errno::NOSPC.into())), libc::ENOSPC);
    assert_eq!(status(&Err(io::ErrorKind::WriteZero.into())), libc::EIO);
    assert_eq!(status(&Err(io::Error::from_raw_os_error(256))), libc::EIO);
}

#[test]
fn a_tree_comes_out_and_goes_in_again_and_what_went_wrong_is_said() {
    let root = Root::new();
    root.write("/from/file", 0o640, b"content").expect("written");
    rustix::fs::mknodat(&root.fd, "from/pipe", FileType::Fifo, Mode::from_raw_mode(0o644), 0)
        .expect("made");
    let (mut archive, mut said) = (Vec::new(), Vec::new());
    let out = FileRequest::Pack { path: b"/from".to_vec(), follow: false };
    perform(&root.fd, &out, io::empty(), &mut archive, &mut said).expect("packed");
    assert!(String::from_utf8(said).expect("text").starts_with("from/pipe "));
    let into = |path: &str, archive: &[u8]| {
        let name = Some(b"from".to_vec());
        let request = FileRequest::Unpack { path: path.into(), name, archive: false };
        let mut said = Vec::new();
        let done = perform(&root.fd, &request, archive, io::sink(), &mut said);
        (done, String::from_utf8(said).expect("text"))
    };
    let (done, said) = into("/to", &archive);
    done.expect("unpacked");
    assert_eq!((root.mode("to/file"), said.as_str()), (0o640, ""));
    let (done, said) = into("/no/such", &archive);
    assert_eq!(
        (number(done), said.starts_with("/no/such: ")),
        (Some(libc::ENOENT), true),
        "{said}"
    );
    let (done, said) = into("/to", b"no archive");
    assert_eq!((number(done), said.is_empty()), (Some(libc::EINVAL), false));
}
