//! Layers on top of each other become one tree (OCI image spec, layer.md, "Applying Changesets").

use crate::tree::{Content, Directory, Inode, InodeId, Name, Tree};

/// What all layers of an image may have together. They are in memory until its index is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and whiteouts; and, counted apart, their names.
    pub entries: u64,
    /// Bytes of names, link texts and extended attributes.
    pub metadata_bytes: u64,
}

/// Twice what one layer may have.
impl Default for Limits {
    fn default() -> Self {
        let layer = crate::layer::Limits::default();
        Self { entries: 2 * layer.entries, metadata_bytes: 2 * layer.metadata_bytes }
    }
}

/// The layers of an image are too large together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its layers have more than {} files or {} MiB of names together",
    .0.entries,
    .0.metadata_bytes >> 20
)]
pub struct TooLarge(Limits);

/// Layers that were applied on each other, the lowest first. The result has no whiteouts, and every
/// [`FileData::layer`](crate::tree::FileData::layer) is the place of its layer.
///
/// A directory on a directory keeps the entries of both and takes the upper one's attributes, unless
/// those are only [implied](Directory::implied); anything else replaces what had its name. Names of
/// one inode in a layer are names of one inode in the result.
///
#[derive(Debug)]
pub struct Merged {
    tree: Tree,
    layers: u16,
    left: Limits,
    limits: Limits,
}

impl Merged {
    /// Nothing but a root.
    #[must_use]
    pub fn within(limits: Limits) -> Self {
        let tree = Tree::new(crate::tree::Attributes { mode: 0o755, ..Default::default() });
        Self { tree, layers: 0, left: limits, limits }
    }

    /// Applies the next layer.
    ///
    /// # Errors
    /// [`TooLarge`].
    ///
    /// # Panics
    /// With more than 65,535 layers; manifests have a far lower bound.
    pub fn apply(&mut self, layer: Tree) -> Result<(), TooLarge> {
        let (entries, metadata) = layer.weight();
        let left = |left: u64, taken: u64| left.checked_sub(taken).ok_or(TooLarge(self.limits));
        self.left = Limits {
            entries: left(self.left.entries, entries)?,
            metadata_bytes: left(self.left.metadata_bytes, metadata)?,
        };
        let index = self.layers;
        self.layers = index.checked_add(1).expect("manifests bound the layers");
        let known = vec![None; layer.len()];
        Applier { layer, index, known, merged: &mut self.tree }.apply();
        Ok(())
    }

    /// What all of them give.
    #[must_use]
    pub fn into_tree(self) -> Tree {
        self.tree
    }
}

/// The layers applied on each other, within the default limits.
///
/// # Panics
/// Beyond them: for trees that are known.
#[cfg(test)]
pub(crate) fn merge(layers: Vec<Tree>) -> Tree {
    let mut merged = Merged::within(Limits::default());
    for layer in layers {
        merged.apply(layer).expect("small layers");
    }
    merged.into_tree()
}

struct Applier<'a> {
    layer: Tree,
    index: u16,
    /// By inode of the layer: its inode in the result.
    known: Vec<Option<InodeId>>,
    merged: &'a mut Tree,
}

impl Applier<'_> {
    fn apply(mut self) {
        // Not by recursion: a hostile layer is as deep as it likes.
        let mut pairs = vec![(Tree::ROOT, Tree::ROOT)];
        while let Some((upper, lower)) = pairs.pop() {
            let entries = self.take_directory(upper, lower);
            for (name, id) in entries {
                pairs.extend(self.entry(lower, name, id).map(|lower| (id, lower)));
            }
        }
    }

    /// Puts the attributes of the layer's directory `upper` on `lower`; returns its entries.
    fn take_directory(&mut self, upper: InodeId, lower: InodeId) -> Vec<(Name, InodeId)> {
        let inode = self.layer.inode_mut(upper);
        let Content::Directory(directory) = &mut inode.content else { return Vec::new() };
        let Directory { entries, opaque, implied } = std::mem::take(directory);
        let attributes = std::mem::take(&mut inode.attributes);
        if !implied {
            self.merged.inode_mut(lower).attributes = attributes;
        }
        if let Some(below) = self.merged.directory_mut(lower).filter(|_| opaque) {
            below.entries.clear();
        }
        entries.into_iter().collect()
    }

    /// Applies one name. Returns the directory of the result that the layer's directory `id` goes on.
    fn entry(&mut self, parent: InodeId, name: Name, id: InodeId) -> Option<InodeId> {
        match &self.layer.inode(id).content {
            Content::Whiteout => {
                self.merged.unlink(parent, &name);
                None
            }
            Content::Directory(_) => {
                let below = self.merged.lookup(parent, &name);
                let below = below.filter(|below| self.merged.directory(*below).is_some());
                Some(below.unwrap_or_else(|| self.new_directory(parent, name, id)))
            }
            _ => {
                let merged = self.inode(id);
                self.merged.link(parent, name, merged);
                None
            }
        }
    }

    fn new_directory(&mut self, parent: InodeId, name: Name, id: InodeId) -> InodeId {
        // Its attributes are taken now: an implied one has no other.
        let attributes = self.layer.inode(id).attributes.clone();
        let directory = self.merged.add(Inode::directory(attributes));
        self.merged.link(parent, name, directory);
        directory
    }

    fn inode(&mut self, id: InodeId) -> InodeId {
        if let Some(known) = self.known[id.index()] {
            return known;
        }
        let mut inode = self.layer.inode(id).clone();
        if let Content::File(data) = &mut inode.content
            && data.size > 0
        {
            data.layer = self.index;
        }
        let merged = self.merged.add(inode);
        self.known[id.index()] = Some(merged);
        merged
    }
}

#[cfg(test)]
mod tests;
