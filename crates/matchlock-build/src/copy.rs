//! COPY and ADD: which files go where (Dockerfile reference, "COPY"), their digest for the cache, and
//! the layer that they make.

mod glob;
mod make;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::time::SystemTime;

use super::files::{Entry, Files, FilesError, Kind, join, shown};
use super::key::Key;
use super::root::{PathError, Root};
use matchlock_image::digest::Digest;
use matchlock_image::layer::LayerError;
use matchlock_image::tree::Attributes;

pub(crate) use glob::globs;
use make::made;

/// Why files cannot be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// No such file.
    #[error("no file {0:?} in the source, or .dockerignore hides it")]
    NotFound(String),
    /// Several files and one place.
    #[error("several files need a directory as the destination: end it with a slash")]
    NeedDirectory,
    /// A file in place of a directory.
    #[error("a file cannot replace the directory {0:?}")]
    OverDirectory(String),
    /// A directory in place of something else.
    #[error("a directory cannot replace {0:?}, which is none")]
    OverFile(String),
    /// The destination.
    #[error("the destination {path:?} leads nowhere")]
    Destination {
        /// In the image.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The source.
    #[error("reading the source")]
    Files(#[from] FilesError),
    /// It is not what it was a moment ago.
    #[error("{0:?} changed while it was copied")]
    Changed(String),
    /// The result.
    #[error("writing the layer")]
    Layer(#[from] LayerError),
}

/// Where files go, and as what.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// In the image, absolute; a slash at the end says that it is a directory.
    pub(crate) path: Vec<u8>,
    /// `--chown`.
    pub(crate) owner: Option<(u32, u32)>,
    /// `--chmod`.
    pub(crate) mode: Option<u16>,
    /// Time of directories that are made.
    pub(crate) now: (i64, u32),
}

impl Destination {
    /// `now` is the time of what is made on the way.
    pub(crate) fn new(
        path: &[u8],
        owner: Option<(u32, u32)>,
        mode: Option<u16>,
        now: SystemTime,
    ) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
        Self { path: path.to_vec(), owner, mode, now: (seconds, since.subsec_nanos()) }
    }
}

/// One thing to make.
#[derive(Debug)]
struct Item {
    /// In the image, absolute.
    target: Vec<u8>,
    attributes: Attributes,
    content: Made,
}

#[derive(Debug)]
enum Made {
    Directory,
    Symlink(Vec<u8>),
    Node(matchlock_image::layer::NodeKind),
    /// A file of the plan's source, by its path, and its digest.
    File(usize, Vec<u8>, Digest),
    /// Content that is in the Dockerfile.
    Inline(Vec<u8>),
}

/// What a COPY will do.
pub(crate) struct Plan<'a> {
    root: &'a Root,
    destination: Destination,
    sources: Vec<&'a dyn Files>,
    items: Vec<Item>,
    /// Directories that [`Plan::make`] added.
    made: HashSet<Vec<u8>>,
}

impl<'a> Plan<'a> {
    /// Nothing yet, on top of `root`.
    pub(crate) fn new(root: &'a Root, destination: Destination) -> Self {
        Self { root, destination, sources: Vec::new(), items: Vec::new(), made: HashSet::new() }
    }

    /// Whether the layer would be empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds files and what is in directories. `several` when this is not all that is copied.
    pub(crate) fn add(
        &mut self,
        files: &'a dyn Files,
        paths: &[Vec<u8>],
        several: bool,
    ) -> Result<(), CopyError> {
        self.sources.push(files);
        for source in paths {
            let missing = || CopyError::NotFound(shown(source));
            let (path, entry) = files.find(source)?.ok_or_else(missing)?;
            let hidden = entry.hidden;
            let before = self.items.len();
            self.add_one(files, source, path, entry, several)?;
            if hidden && self.items.len() == before {
                return Err(missing());
            }
        }
        Ok(())
    }

    /// Adds all of an archive's files, into a directory in any case.
    pub(crate) fn add_all(&mut self, files: &'a dyn Files) -> Result<(), CopyError> {
        self.sources.push(files);
        let (path, mut entry) = files.find(b"")?.ok_or_else(|| CopyError::NotFound("/".into()))?;
        // What the directory is like is not the archive's business, unless it says so.
        entry.attributes.mode = 0o755;
        self.add_directory(files, self.sources.len() - 1, path, entry, false)
    }

    /// Adds the destination itself, a directory.
    pub(crate) fn add_destination(&mut self) -> Result<(), CopyError> {
        let place = self.resolve(&self.destination.path.clone())?;
        if place.id.is_some_and(|id| self.root.tree.directory(id).is_none()) {
            return Err(CopyError::OverFile(shown(&place.path)));
        }
        self.make(&place.path);
        Ok(())
    }

    /// Adds a file whose content is in the Dockerfile.
    pub(crate) fn add_inline(
        &mut self,
        name: &str,
        content: Vec<u8>,
        several: bool,
    ) -> Result<(), CopyError> {
        let attributes =
            Attributes { mode: 0o644, mtime: self.destination.now, ..Attributes::default() };
        let target = self.file_target(name.as_bytes(), several)?;
        self.push(target, attributes, Made::Inline(content));
        Ok(())
    }

    fn add_one(
        &mut self,
        files: &dyn Files,
        named: &[u8],
        path: Vec<u8>,
        entry: Entry,
        several: bool,
    ) -> Result<(), CopyError> {
        let index = self.sources.len() - 1;
        if matches!(entry.kind, Kind::Directory) {
            return self.add_directory(files, index, path, entry, several);
        }
        let name = named.rsplit(|byte| *byte == b'/').next().unwrap_or(named);
        let target = self.file_target(name, several)?;
        let content = made(files, index, path, entry.kind)?;
        self.push(target, entry.attributes, content);
        Ok(())
    }

    /// Where a file of this name goes. Directories above are made.
    fn file_target(&mut self, name: &[u8], several: bool) -> Result<Vec<u8>, CopyError> {
        let place = self.resolve(&self.destination.path.clone())?;
        let existing = place.id.map(|id| self.root.tree.directory(id).is_some());
        let directory = self.destination.path.ends_with(b"/") || existing == Some(true);
        if !directory && several {
            return Err(CopyError::NeedDirectory);
        }
        if directory && existing == Some(false) {
            return Err(CopyError::OverFile(shown(&place.path)));
        }
        if directory {
            self.make(&place.path);
        } else if let Some(at) = place.path.iter().rposition(|byte| *byte == b'/') {
            self.make(&place.path[..at]);
        }
        let target = if directory { join(&place.path, name) } else { place.path };
        self.check(&target, false)?;
        Ok(target)
    }

    fn resolve(&self, path: &[u8]) -> Result<super::root::Place, CopyError> {
        let found = self.root.resolve(path, true);
        found.map_err(|source| CopyError::Destination { path: shown(path), source })
    }

    /// What is in a directory goes into the destination, which is one then.
    fn add_directory(
        &mut self,
        files: &dyn Files,
        index: usize,
        path: Vec<u8>,
        entry: Entry,
        several: bool,
    ) -> Result<(), CopyError> {
        let place = self.resolve(&self.destination.path.clone())?;
        match place.id.map(|id| self.root.tree.directory(id).is_some()) {
            Some(false) => return Err(CopyError::OverFile(shown(&place.path))),
            None if several && !self.destination.path.ends_with(b"/") => {
                return Err(CopyError::NeedDirectory);
            }
            _ => {}
        }
        let first = self.items.len();
        let mut shells = HashSet::new();
        let mut open = vec![(path, place.path.clone())];
        while let Some((from, to)) = open.pop() {
            for (name, child) in files.list(&from)?.into_iter().rev() {
                let (from, to) = (join(&from, name.as_bytes()), join(&to, name.as_bytes()));
                let directory = matches!(child.kind, Kind::Directory);
                self.check(&to, directory)?;
                if directory {
                    if child.hidden {
                        shells.insert(to.clone());
                    }
                    self.push(to.clone(), child.attributes, Made::Directory);
                    open.push((from, to));
                } else {
                    let content = made(files, index, from, child.kind)?;
                    self.push(to, child.attributes, content);
                }
            }
        }
        self.drop_empty_shells(first, &shells);
        if self.items.len() == first && entry.hidden {
            return Ok(());
        }
        // In front, since what is above comes first.
        let made_here = self.items.split_off(first);
        if place.id.is_none() {
            let parent = place.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            self.make(&place.path[..parent]);
            if self.made.insert(place.path.clone()) {
                self.push(place.path, entry.attributes, Made::Directory);
            }
        }
        self.items.extend(made_here);
        Ok(())
    }

    /// Removes hidden directories in which nothing is seen.
    fn drop_empty_shells(&mut self, first: usize, shells: &HashSet<Vec<u8>>) {
        if shells.is_empty() {
            return;
        }
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for item in self.items[first..].iter().filter(|item| !shells.contains(&item.target)) {
            let slashes = (1..item.target.len()).rev().filter(|at| item.target[*at] == b'/');
            for end in slashes {
                if !seen.insert(item.target[..end].to_vec()) {
                    break;
                }
            }
        }
        self.items.retain(|item| !shells.contains(&item.target) || seen.contains(&item.target));
    }

    /// Makes the directories of a path without links that are missing.
    fn make(&mut self, path: &[u8]) {
        let ends = (1..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        for end in ends.collect::<Vec<_>>() {
            let above = &path[..end];
            let there = end == 0
                || above == b"/"
                || self.root.resolve(above, false).is_ok_and(|place| place.id.is_some())
                || !self.made.insert(above.to_vec());
            if !there {
                let attributes = Attributes {
                    mode: 0o755,
                    mtime: self.destination.now,
                    ..Attributes::default()
                };
                let (uid, gid) = self.destination.owner.unwrap_or((0, 0));
                let attributes = Attributes { uid, gid, ..attributes };
                self.items.push(Item {
                    target: above.to_vec(),
                    attributes,
                    content: Made::Directory,
                });
            }
        }
    }

    /// A directory and anything else cannot take each other's place.
    fn check(&self, target: &[u8], directory: bool) -> Result<(), CopyError> {
        let found = self.root.resolve(target, false).ok().and_then(|place| place.id);
        match found.map(|id| self.root.tree.directory(id).is_some()) {
            Some(true) if !directory => Err(CopyError::OverDirectory(shown(target))),
            Some(false) if directory => Err(CopyError::OverFile(shown(target))),
            _ => Ok(()),
        }
    }

    fn push(&mut self, target: Vec<u8>, mut attributes: Attributes, content: Made) {
        if let Some((uid, gid)) = self.destination.owner {
            (attributes.uid, attributes.gid) = (uid, gid);
        }
        if let Some(mode) = self.destination.mode
            && !matches!(content, Made::Symlink(_))
        {
            attributes.mode = mode;
        }
        self.items.push(Item { target, attributes, content });
    }

    /// Adds all that the layer depends on, times of files excepted, as a fresh checkout has others.
    pub(crate) fn describe(&self, key: &mut Key) {
        key.number(self.items.len() as u64);
        for Item { target, attributes, content } in &self.items {
            key.bytes(target);
            for number in [u32::from(attributes.mode), attributes.uid, attributes.gid] {
                key.number(number.into());
            }
            for (name, value) in &attributes.xattrs {
                key.bytes(name);
                key.bytes(value);
            }
            match content {
                Made::Directory => key.text("directory"),
                Made::Symlink(text) => {
                    key.text("symlink");
                    key.bytes(text);
                }
                Made::Node(kind) => key.text(&format!("{kind:?}")),
                Made::File(_, _, digest) => key.text(&digest.to_string()),
                Made::Inline(content) => key.text(&Digest::of(content).to_string()),
            }
        }
    }
}
