//! The context as an archive, for a builder in a sandbox: nothing of it is written on this host.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::vec;

use tar::{Builder, EntryType, Header};

use super::context::Context;
use super::error::BuildError;
use super::files::{Entry, Files, FilesError, Kind, join};
use super::sources;
use matchlock_image::tree::{Attributes, Name};

/// What a builder in a sandbox needs of this host: the Dockerfile and what its context shows.
#[derive(Debug)]
pub struct BuildFiles {
    dockerfile: Vec<u8>,
    context: Context,
    shown: String,
}

/// Why the files of a build did not all reach the builder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The context.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The archive could not be written: whoever reads it is gone.
    #[error("cannot write the context")]
    Write(#[source] io::Error),
}

impl BuildFiles {
    /// Where the archive has the Dockerfile.
    pub const DOCKERFILE: &'static str = "dockerfile/Dockerfile";
    /// The directory of the archive that has the context.
    pub const CONTEXT: &'static str = "context";

    /// Opens the context and reads the Dockerfile, which is the context's unless the user names one, and the
    /// ignore file: the one that is named like the Dockerfile, or else the context's. `name` is what the
    /// Dockerfile is called in errors.
    ///
    /// # Errors
    /// [`BuildError`]: one of them cannot be read.
    pub fn open(dockerfile: Option<&Path>, name: &str, context: &Path) -> Result<Self, BuildError> {
        let shown = context.display().to_string();
        let (dockerfile, context) = sources::open(dockerfile, name, context)?;
        Ok(Self { dockerfile, context, shown })
    }

    /// Writes the archive (tar with the extensions of GNU for long names, not compressed), everything in
    /// it root's. The order is that of the names; a file that shrinks meanwhile is an error.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn write(&self, output: impl Write) -> Result<(), SendError> {
        let mut archive = Archive(Builder::new(output));
        let attributes = Attributes { mode: 0o644, ..Attributes::default() };
        archive.directory(b"dockerfile", &Attributes { mode: 0o755, ..Attributes::default() })?;
        let length = self.dockerfile.len() as u64;
        let path = Self::DOCKERFILE.as_bytes();
        archive.file(path, &attributes, length, self.dockerfile.as_slice())?;
        self.write_context(&mut archive)?;
        archive.0.into_inner().and_then(|mut output| output.flush()).map_err(SendError::Write)
    }

    fn write_context(&self, archive: &mut Archive<impl Write>) -> Result<(), SendError> {
        let Some((_, root)) = self.context.find(b"")? else {
            let path = self.shown.clone();
            return Err(FilesError::Io { path, source: io::ErrorKind::NotFound.into() }.into());
        };
        archive.directory(Self::CONTEXT.as_bytes(), &root.attributes)?;
        let mut open = vec![self.level(Vec::new(), None)?];
        while let Some(level) = open.last_mut() {
            let Some((name, entry)) = level.entries.next() else {
                open.pop();
                continue;
            };
            let path = join(&level.path, name.as_bytes());
            if matches!(entry.kind, Kind::Directory) && entry.hidden {
                open.push(self.level(path, Some(entry.attributes))?);
                continue;
            }
            // What is seen brings the directories above it.
            for level in &mut open {
                if let Some(attributes) = level.unwritten.take() {
                    archive.directory(&inside(&level.path), &attributes)?;
                }
            }
            if self.add(archive, &path, &entry)? {
                open.push(self.level(path, None)?);
            }
        }
        Ok(())
    }

    fn level(&self, path: Vec<u8>, unwritten: Option<Attributes>) -> Result<Level, SendError> {
        let entries = self.context.list(&path)?.into_iter();
        Ok(Level { path, entries, unwritten })
    }

    /// Whether it is a directory, to be gone into.
    fn add(
        &self,
        archive: &mut Archive<impl Write>,
        path: &[u8],
        entry: &Entry,
    ) -> Result<bool, SendError> {
        let (to, attributes) = (inside(path), &entry.attributes);
        match &entry.kind {
            Kind::Directory => archive.directory(&to, attributes)?,
            Kind::Symlink(text) => archive.symlink(&to, attributes, text)?,
            Kind::File => {
                let (file, length) = self.context.open_file(path)?;
                archive.file(&to, attributes, length, file)?;
            }
            // Nothing that a context shows (see its walker).
            Kind::Node(_) => {}
        }
        Ok(matches!(entry.kind, Kind::Directory))
    }
}

/// A directory that is being gone through.
struct Level {
    path: Vec<u8>,
    entries: vec::IntoIter<(Name, Entry)>,
    /// Of a hidden directory in which nothing was seen so far.
    unwritten: Option<Attributes>,
}

fn inside(path: &[u8]) -> Vec<u8> {
    join(BuildFiles::CONTEXT.as_bytes(), path)
}

struct Archive<W: Write>(Builder<W>);

impl<W: Write> Archive<W> {
    fn directory(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), SendError> {
        let mut header = header(EntryType::Directory, attributes);
        let path = [path, b"/"].concat();
        self.0.append_data(&mut header, as_path(&path), io::empty()).map_err(SendError::Write)
    }

    fn symlink(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        text: &[u8],
    ) -> Result<(), SendError> {
        let mut header = header(EntryType::Symlink, attributes);
        let added = match header.set_link_name_literal(text) {
            Ok(()) => self.0.append_data(&mut header, as_path(path), io::empty()),
            // Too long for the header: an entry of its own.
            Err(_) => self.0.append_link(&mut header, as_path(path), as_path(text)),
        };
        added.map_err(SendError::Write)
    }

    fn file(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        length: u64,
        content: impl Read,
    ) -> Result<(), SendError> {
        let mut header = header(EntryType::Regular, attributes);
        header.set_size(length);
        let mut content = Exact { content, left: length, fault: None };
        let added = self.0.append_data(&mut header, as_path(path), &mut content);
        match (content.fault, added) {
            (Some(source), _) => {
                Err(FilesError::Io { path: super::files::shown(path), source }.into())
            }
            (None, added) => added.map_err(SendError::Write),
        }
    }
}

/// Precisely as many bytes as the header says, whatever the file has become.
struct Exact<R> {
    content: R,
    left: u64,
    fault: Option<io::Error>,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = match self.content.read(&mut buffer[..most]) {
            Ok(0) => Err(io::Error::other("it became shorter while it was read")),
            read => read,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.fault = Some(error);
                Err(kind.into())
            }
        }
    }
}

fn header(kind: EntryType, attributes: &Attributes) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(attributes.mode.into());
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    // Before 1970 is not worth an extension.
    header.set_mtime(u64::try_from(attributes.mtime.0).unwrap_or_default());
    header
}

fn as_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_image::tar::{Archive as Reader, Kind as Found};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn context(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        dir
    }

    fn open(dir: &Path) -> BuildFiles {
        BuildFiles::open(None, "Dockerfile", dir).expect("opened")
    }

    /// Paths with what is there: text, `-> target` or nothing for a directory; and the modes.
    fn sent(files: &BuildFiles) -> Vec<(String, String, u32)> {
        let mut bytes = Vec::new();
        files.write(&mut bytes).expect("written");
        let mut reader = Reader::new(bytes.as_slice());
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().expect("an archive") {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let path = text(&entry.path).trim_end_matches('/').to_owned();
            let mode = entry.attributes.mode.into();
            let shown = match &entry.kind {
                Found::File => {
                    let mut content = String::new();
                    reader.content().read_to_string(&mut content).expect("read");
                    content
                }
                Found::Symlink(target) => format!("-> {}", text(target)),
                _ => String::new(),
            };
            found.push((path, shown, mode));
        }
        found
    }

    fn paths(files: &BuildFiles) -> Vec<String> {
        sent(files).into_iter().map(|(path, ..)| path).collect()
    }

    #[test]
    fn everything_arrives_with_its_mode_and_long_names() {
        let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
        let dir = context(&[("Dockerfile", "FROM scratch\n"), ("src/main", "x"), (&long, "long")]);
        fs::set_permissions(dir.path().join("src/main"), PermissionsExt::from_mode(0o4750))
            .expect("chmod");
        symlink("../..//Dockerfile", dir.path().join("src/link")).expect("a link");
        symlink("t".repeat(300), dir.path().join("far")).expect("a link");
        let sent = sent(&open(dir.path()));
        let find = |path: &str| {
            let found = sent.iter().find(|(at, ..)| at == path);
            found.map(|(_, text, mode)| (text.as_str(), *mode)).unwrap_or_else(|| panic!("{path}"))
        };
        assert_eq!(find("dockerfile/Dockerfile"), ("FROM scratch\n", 0o644));
        assert_eq!(find("context/Dockerfile").0, "FROM scratch\n");
        assert_eq!(find("context/src/main"), ("x", 0o4750));
        assert_eq!(find("context/src/link").0, "-> ../..//Dockerfile");
        assert_eq!(find("context/far").0, format!("-> {}", "t".repeat(300)));
        assert_eq!(find(&format!("context/{long}")).0, "long");
        assert_eq!(find("context/src").0, "");
    }

    #[test]
    fn what_is_ignored_is_not_sent_nor_are_directories_for_it_alone() {
        let files = ["secret/key", "src/a", "src/keep/b", "src/drop/c", "empty/.x"];
        let mut all: Vec<_> = files.iter().map(|path| (*path, "")).collect();
        all.extend([("Dockerfile", ""), (".dockerignore", "secret\nsrc\nempty\n!src/keep/b\n")]);
        let dir = context(&all);
        let expected = [
            "dockerfile",
            "dockerfile/Dockerfile",
            "context",
            "context/.dockerignore",
            "context/Dockerfile",
            "context/src",
            "context/src/keep",
            "context/src/keep/b",
        ];
        assert_eq!(paths(&open(dir.path())), expected);
        // The file that is named like the Dockerfile comes first, and hides the Dockerfile only there.
        fs::write(dir.path().join("Dockerfile.dockerignore"), "**\n").expect("written");
        assert_eq!(paths(&open(dir.path())), &expected[..3]);
    }

    #[test]
    fn a_file_that_changes_its_length_does_not_break_the_archive() {
        let exact = |content: &str, length| {
            let mut archive = Archive(Builder::new(Vec::new()));
            let attributes = Attributes::default();
            let added = archive.file(b"f", &attributes, length, content.as_bytes());
            added.map(|()| archive.0.into_inner().expect("memory").len())
        };
        assert_eq!(exact("longer", 3).expect("cut"), 4 * 512);
        let error = exact("short", 10).expect_err("shorter");
        assert_eq!(error.to_string(), "cannot read \"f\"");
    }

    #[test]
    fn nobody_who_reads_is_an_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dir = context(&[("Dockerfile", "FROM scratch\n")]);
        let error = open(dir.path()).write(Closed).expect_err("closed");
        assert!(matches!(error, SendError::Write(_)), "{error:?}");
    }

    #[test]
    fn a_missing_dockerfile_or_context_is_told() {
        let dir = context(&[("a", "")]);
        let missing = |dir: &Path| BuildFiles::open(None, "Dockerfile", dir).expect_err("missing");
        assert!(matches!(missing(dir.path()), BuildError::NoDockerfile(_)));
        assert!(matches!(missing(&dir.path().join("none")), BuildError::NoContext(_)));
    }
}
