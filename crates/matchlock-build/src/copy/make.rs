//! From a plan to a layer.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};

use super::{CopyError, Item, Made, Plan};
use crate::files::{Files, FilesError, Kind, shown};
use matchlock_image::digest::Hasher;
use matchlock_image::layer::{Builder, Layer, LayerError};
use matchlock_image::tree::{Content, Name, Tree};

impl Plan<'_> {
    /// Makes the layer in `file`. With `opaque` the destination's directory hides what is below it.
    pub(crate) fn carry_out(self, file: File, opaque: bool) -> Result<Layer, CopyError> {
        let mut builder = Builder::new(file)?;
        let mut passed = HashSet::new();
        for item in &self.items {
            self.existing_parents(&mut builder, &item.target, &mut passed)?;
        }
        for Item { target, attributes, content } in &self.items {
            let attributes = attributes.clone();
            match content {
                Made::Directory => builder.add_dir(target, attributes)?,
                Made::Symlink(text) => builder.add_symlink(target, attributes, text)?,
                Made::Node(kind) => builder.add_node(target, attributes, *kind)?,
                Made::Inline(bytes) => builder.add_file(target, attributes, bytes.as_slice())?,
                Made::File(index, path, digest) => {
                    let mut reader = Hashing {
                        inner: self.sources[*index].open(path)?,
                        hasher: Hasher::default(),
                    };
                    builder.add_file(target, attributes, &mut reader)?;
                    if reader.hasher.finish() != *digest {
                        return Err(CopyError::Changed(shown(path)));
                    }
                }
            }
        }
        if opaque {
            builder.add_whiteout(&self.destination.path)?;
        }
        Ok(builder.finish()?)
    }

    /// Directories that the layer passes through keep the attributes that they have below.
    fn existing_parents<'i>(
        &self,
        builder: &mut Builder,
        target: &'i [u8],
        passed: &mut HashSet<&'i [u8]>,
    ) -> Result<(), LayerError> {
        let mut at = Tree::ROOT;
        if passed.insert(b"/") {
            builder.add_dir(b"/", self.root.tree.inode(at).attributes.clone())?;
        }
        for end in (1..target.len()).filter(|at| target[*at] == b'/') {
            let name = target[..end].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let name = Name::new(name).ok();
            let Some(id) = name.and_then(|name| self.root.tree.lookup(at, &name)) else { break };
            if !matches!(self.root.tree.inode(id).content, Content::Directory(_)) {
                break;
            }
            if passed.insert(&target[..end]) {
                builder.add_dir(&target[..end], self.root.tree.inode(id).attributes.clone())?;
            }
            at = id;
        }
        Ok(())
    }
}

/// What an entry of a source is made of; a file is read for its digest.
pub(super) fn made(
    files: &dyn Files,
    index: usize,
    path: Vec<u8>,
    kind: Kind,
) -> Result<Made, CopyError> {
    Ok(match kind {
        Kind::Directory => Made::Directory,
        Kind::Symlink(text) => Made::Symlink(text),
        Kind::Node(kind) => Made::Node(kind),
        Kind::File => {
            let mut reader = Hashing { inner: files.open(&path)?, hasher: Hasher::default() };
            io::copy(&mut reader, &mut io::sink())
                .map_err(|source| FilesError::Io { path: shown(&path), source })?;
            Made::File(index, path, reader.hasher.finish())
        }
    })
}

struct Hashing {
    inner: Box<dyn Read + Send>,
    hasher: Hasher,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
