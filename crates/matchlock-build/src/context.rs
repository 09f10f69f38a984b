//! The context of a build: a directory of this host that is never left, less what .dockerignore hides.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::files::{Entry, Files, FilesError, Kind, join, shown};
use super::ignore::Ignore;
use super::root::PathError;
use matchlock_image::tree::{Attributes, Name};

/// Most symbolic links in one path.
const MAX_LINKS: u32 = 40;

/// How often a path is tried whose directories are being renamed.
const MAX_TRIES: u32 = 64;

/// An open context. Its files belong to root in the image, whoever owns them here; extended attributes
/// stay on the host.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    ignore: Ignore,
}

impl Context {
    /// Opens a directory.
    pub(crate) fn open(path: &Path, ignore: Ignore) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self { root: fs::open(path, flags, Mode::empty())?, ignore })
    }

    /// The same context without what `ignore` hides.
    pub(crate) fn hiding(self, ignore: Ignore) -> Self {
        Self { ignore, ..self }
    }

    /// Whether there is a symbolic link, wherever it leads.
    pub(crate) fn has_link(&self, path: &[u8]) -> Result<bool, FilesError> {
        self.link(path).map(|text| text.is_some())
    }

    /// The kernel refuses to follow links and to leave the context, whatever changes meanwhile.
    fn open_at(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut tries = 0;
        loop {
            let path = OsStr::from_bytes(path);
            match fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed on the way (openat2(2), "EAGAIN").
                Err(Errno::AGAIN) if tries < MAX_TRIES => tries += 1,
                opened => return Ok(opened?),
            }
        }
    }

    fn entry(&self, path: &[u8], fd: &OwnedFd) -> Result<Option<Entry>, FilesError> {
        let stat = fs::fstat(fd).map_err(|error| fail(path, error.into()))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => {
                let text = fs::readlinkat(fd, "", Vec::new());
                Kind::Symlink(text.map_err(|error| fail(path, error.into()))?.into_bytes())
            }
            _ if self.ignore.hides(path) => return Ok(None),
            _ => return Err(FilesError::Special(shown(path))),
        };
        let hidden = !path.is_empty() && self.ignore.hides(path);
        if hidden && !(matches!(kind, Kind::Directory) && self.ignore.has_exceptions()) {
            return Ok(None);
        }
        Ok(Some(Entry { attributes: attributes(&stat), kind, hidden }))
    }

    /// A file with its length. The path has no symbolic links in it.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<(File, u64), FilesError> {
        // A pipe that took the file's place must not make this wait.
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK);
        let file = File::from(fd.map_err(|error| fail(path, error))?);
        let metadata = file.metadata().map_err(|error| fail(path, error))?;
        if !metadata.is_file() {
            return Err(FilesError::Special(shown(path)));
        }
        Ok((file, metadata.len()))
    }

    /// The text of a symbolic link; `None` when it is something else or missing.
    fn link(&self, path: &[u8]) -> Result<Option<Vec<u8>>, FilesError> {
        match self.open_at(path, OFlags::PATH) {
            Ok(fd) => match fs::readlinkat(&fd, "", Vec::new()) {
                Ok(text) => Ok(Some(text.into_bytes())),
                Err(_not_a_link) => Ok(None),
            },
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(fail(path, error)),
        }
    }

    /// The path without symbolic links. Those that would leave the context stay in it: its root is `/`.
    fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, FilesError> {
        let mut open: VecDeque<Vec<u8>> = components(path).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(component) = open.pop_front() {
            if component == b".." {
                done.pop();
                continue;
            }
            let parent = done.last().map_or(b"".as_slice(), |path| path);
            let current = join(parent, &component);
            let Some(text) = self.link(&current)? else {
                done.push(current);
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(FilesError::Path { path: shown(path), source: PathError::Links });
            }
            if text.starts_with(b"/") {
                done.clear();
            }
            for component in components(&text).collect::<Vec<_>>().into_iter().rev() {
                open.push_front(component);
            }
        }
        Ok(done.pop().unwrap_or_default())
    }
}

impl Files for Context {
    fn find(&self, path: &[u8]) -> Result<Option<(Vec<u8>, Entry)>, FilesError> {
        let resolved = self.resolve(path)?;
        // Nor is what a hidden link leads to seen through it.
        let named = !path.is_empty() && self.ignore.hides(path) && resolved != path;
        match self.open_at(&resolved, OFlags::PATH) {
            Ok(_) if named => Ok(None),
            Ok(fd) => Ok(self.entry(&resolved, &fd)?.map(|entry| (resolved, entry))),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(fail(path, error)),
        }
    }

    fn list(&self, path: &[u8]) -> Result<Vec<(Name, Entry)>, FilesError> {
        let failed = |error| fail(path, error);
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in fs::Dir::new(fd).map_err(|error| fail(path, error.into()))? {
            let entry = entry.map_err(|error| fail(path, error.into()))?;
            let Ok(name) = Name::new(entry.file_name().to_bytes()) else { continue };
            let below = join(path, name.as_bytes());
            let fd = self.open_at(&below, OFlags::PATH).map_err(|error| fail(&below, error))?;
            if let Some(entry) = self.entry(&below, &fd)? {
                entries.push((name, entry));
            }
        }
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(entries)
    }

    fn open(&self, path: &[u8]) -> Result<Box<dyn Read + Send>, FilesError> {
        self.open_file(path).map(|(file, _)| Box::new(file) as _)
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec)
}

fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        mode: (stat.st_mode & 0o7777) as u16,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        ..Attributes::default()
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn fail(path: &[u8], source: io::Error) -> FilesError {
    FilesError::Io { path: shown(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn context(ignore: &str) -> (tempfile::TempDir, Context) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("context");
        for path in ["src/deep", "docs"] {
            std::fs::create_dir_all(root.join(path)).expect("a directory");
        }
        for path in ["../secret", "a", "src/b", "src/deep/c", "docs/d.md"] {
            std::fs::write(root.join(path), path).expect("a file");
        }
        std::fs::set_permissions(root.join("a"), PermissionsExt::from_mode(0o750)).expect("chmod");
        for (link, text) in [
            ("up", "../secret"),
            ("abs", "/src/deep"),
            ("host", "/etc/hostname"),
            ("loop", "loop"),
            ("src/back", "../a"),
        ] {
            symlink(text, root.join(link)).expect("a link");
        }
        let ignore = Ignore::parse(ignore.as_bytes()).expect("patterns");
        let context = Context::open(&root, ignore).expect("a context");
        (dir, context)
    }

    fn found(context: &Context, path: &str) -> Option<String> {
        context
            .find(path.as_bytes())
            .expect(path)
            .map(|(path, _)| String::from_utf8(path).expect("text"))
    }

    fn names(context: &Context, path: &str) -> Vec<String> {
        let list = context.list(path.as_bytes()).expect(path);
        list.iter().map(|(name, _)| String::from_utf8_lossy(name.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn links_never_leave_the_context() {
        let (_dir, context) = context("");
        for (path, expected) in [
            ("a", Some("a")),
            ("", Some("")),
            ("abs/c", Some("src/deep/c")),
            ("src/back", Some("a")),
            ("../../a", Some("a")),
            ("up", None),
            ("host", None),
            ("nothing", None),
            ("a/b", None),
        ] {
            assert_eq!(found(&context, path).as_deref(), expected, "{path}");
        }
        assert!(context.find(b"loop").is_err());
        assert!(context.open(b"up").is_err(), "a path that was not resolved");
        assert!(context.open(b"../secret").is_err());
        assert!(context.open(b"abs/c").is_err());
        let mut text = String::new();
        context.open(b"src/b").expect("a file").read_to_string(&mut text).expect("read");
        assert_eq!(text, "src/b");
    }

    #[test]
    fn lists_are_sorted_and_belong_to_root() {
        let (_dir, context) = context("");
        assert_eq!(names(&context, ""), ["a", "abs", "docs", "host", "loop", "src", "up"]);
        let (_, entry) = context.find(b"a").expect("a file").expect("there");
        assert_eq!((entry.attributes.mode, entry.attributes.uid), (0o750, 0));
        let list = context.list(b"src").expect("a directory");
        assert!(matches!(&list[0].1.kind, Kind::File));
        assert!(matches!(&list[1].1.kind, Kind::Symlink(text) if text == b"../a"));
    }

    #[test]
    fn what_is_ignored_is_not_there() {
        let (_dir, context) = context("docs\nsrc/*\n!src/deep\nup\nhost");
        assert_eq!(names(&context, ""), ["a", "abs", "docs", "loop", "src"]);
        assert!(context.list(b"").expect("the root")[2].1.hidden);
        assert_eq!(names(&context, "src"), ["deep"]);
        assert_eq!(found(&context, "src/b"), None);
        assert_eq!(found(&context, "src/back"), None);
        assert_eq!(found(&context, "abs/c").as_deref(), Some("src/deep/c"));
    }

    #[test]
    fn sockets_are_refused_unless_they_are_ignored() {
        let (dir, context) = context("ignored.sock");
        for name in ["ignored.sock", "x.sock"] {
            std::os::unix::net::UnixListener::bind(dir.path().join("context").join(name))
                .expect("a socket");
        }
        let error = context.list(b"").expect_err("a socket");
        assert!(error.to_string().contains("x.sock"), "{error}");
        std::fs::remove_file(dir.path().join("context/x.sock")).expect("remove");
        assert!(context.list(b"").is_ok());
    }
}
