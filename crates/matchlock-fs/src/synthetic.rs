//! A fixed tree of directories and links, with providers at its leaves.
//!
//! Node numbers say whose a node is ([`IdSpace`]), so a request is passed on as it came. Renames and
//! links between two providers have nothing to be passed on to: `EXDEV`.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::abi::Opcode;
use crate::context::Context;
use crate::open::{Caching, Changed, OpenDir, OpenFile, OpenedDir, OpenedFile};
use crate::pool::SYNTHETIC_INODES;
use crate::provider::{CachePolicy, Features, Lane, Provider};
use crate::reply::{DirBuffer, DirItem};
use crate::request::{Change, Name};
use crate::types::{Attr, Entry, Errno, FileKind, FsStats, IdSpace, Lookup, NodeId, Result};

/// Providers in one tree; the upper bits of a node id take no more.
const MAX_MOUNTS: usize = u16::MAX as usize;

/// A tree of providers.
#[derive(Debug)]
pub struct Tree(Arc<Nodes>);

/// The tree itself, which its open directories share.
#[derive(Debug)]
struct Nodes {
    cache: CachePolicy,
    nodes: Vec<Node>,
    mounts: Vec<Arc<dyn Provider>>,
}

/// A directory or link of the tree itself. Its index is its node number less one.
#[derive(Debug)]
struct Node {
    attr: Attr,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Directory(BTreeMap<Vec<u8>, Child>),
    Link(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Child {
    Node(usize),
    Mount(usize),
}

/// Puts a [`Tree`] together. Parents come before what is in them.
#[derive(Debug)]
pub struct TreeBuilder(Nodes);

impl Node {
    fn children(&self) -> Result<&BTreeMap<Vec<u8>, Child>> {
        match &self.content {
            Content::Directory(children) => Ok(children),
            Content::Link(_) => Err(Errno::ENOTDIR),
        }
    }
}

/// A tree that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A parent is missing or no directory, or the name is taken or none.
    #[error("{0} has no place in the tree")]
    Misplaced(PathBuf),
    /// More providers than node numbers can tell apart.
    #[error("more than {MAX_MOUNTS} providers in one tree")]
    TooMany,
}

impl TreeBuilder {
    /// A tree with an empty root directory, 0755.
    #[must_use]
    pub fn new(cache: CachePolicy) -> Self {
        let mut tree = Nodes { cache, nodes: Vec::new(), mounts: Vec::new() };
        tree.add(FileKind::Directory, 0o755, Content::Directory(BTreeMap::new()));
        Self(tree)
    }

    /// Adds an empty directory of root's.
    ///
    /// # Errors
    /// [`TreeError::Misplaced`]
    pub fn directory(&mut self, path: &Path, permissions: u32) -> Result<(), TreeError> {
        let content = Content::Directory(BTreeMap::new());
        self.place(path, |tree| Child::Node(tree.add(FileKind::Directory, permissions, content)))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// [`TreeError::Misplaced`]
    pub fn link(&mut self, path: &Path, target: &[u8]) -> Result<(), TreeError> {
        let content = Content::Link(target.to_vec());
        self.place(path, |tree| Child::Node(tree.add(FileKind::Symlink, 0o777, content)))
    }

    /// The node numbers that the next mounted provider must use.
    ///
    /// # Errors
    /// [`TreeError::TooMany`]
    pub fn next_space(&self) -> Result<IdSpace, TreeError> {
        let number = u16::try_from(self.0.mounts.len() + 1).map_err(|_| TreeError::TooMany)?;
        Ok(IdSpace(number))
    }

    /// Mounts a provider whose node numbers are of [`TreeBuilder::next_space`].
    ///
    /// # Errors
    /// [`TreeError::Misplaced`]
    pub fn mount(&mut self, path: &Path, provider: Arc<dyn Provider>) -> Result<(), TreeError> {
        self.place(path, |tree| {
            tree.mounts.push(provider);
            Child::Mount(tree.mounts.len() - 1)
        })
    }

    /// The finished tree.
    #[must_use]
    pub fn build(self) -> Tree {
        Tree(Arc::new(self.0))
    }

    fn place(
        &mut self,
        path: &Path,
        child: impl FnOnce(&mut Nodes) -> Child,
    ) -> Result<(), TreeError> {
        let misplaced = || TreeError::Misplaced(path.to_path_buf());
        let parent = self.0.find(path.parent().ok_or_else(misplaced)?).ok_or_else(misplaced)?;
        let name = path.file_name().ok_or_else(misplaced)?.as_encoded_bytes().to_vec();
        if self.0.nodes[parent].children().is_ok_and(|children| children.contains_key(&name)) {
            return Err(misplaced());
        }
        let child = child(&mut self.0);
        match &mut self.0.nodes[parent].content {
            Content::Directory(children) => children.insert(name, child),
            Content::Link(_) => return Err(misplaced()),
        };
        self.0.nodes[parent].attr.nlink += 1;
        Ok(())
    }
}

impl Nodes {
    fn add(&mut self, kind: FileKind, permissions: u32, content: Content) -> usize {
        let size = match &content {
            Content::Link(target) => target.len() as u64,
            Content::Directory(_) => 0,
        };
        let attr = Attr {
            ino: SYNTHETIC_INODES + self.nodes.len() as u64 + 1,
            size,
            mode: kind.mode_bits() | permissions,
            nlink: 1,
            blksize: 4096,
            ..Attr::default()
        };
        self.nodes.push(Node { attr, content });
        self.nodes.len() - 1
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut at = 0;
        for part in path.components() {
            let std::path::Component::Normal(name) = part else {
                continue;
            };
            match self.nodes[at].children().ok()?.get(name.as_encoded_bytes())? {
                Child::Node(index) => at = *index,
                Child::Mount(_) => return None,
            }
        }
        Some(at)
    }

    fn node(&self, node: NodeId) -> Result<&Node> {
        let index = usize::try_from(node.0).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.nodes.get(index)).ok_or(Errno::ESTALE)
    }

    fn entry(&self, child: Child) -> Result<Entry> {
        match child {
            Child::Mount(index) => self.mounts.get(index).ok_or(Errno::EIO)?.root(),
            Child::Node(index) => {
                let CachePolicy { entry, attr, .. } = self.cache;
                let node = IdSpace::ROOT.node(index as u64 + 1);
                Ok(Entry { node, attr: self.node(node)?.attr, entry_ttl: entry, attr_ttl: attr })
            }
        }
    }

    /// The provider that a node is of; `None` for the tree's own.
    fn mount(&self, node: NodeId) -> Result<Option<&dyn Provider>> {
        match usize::from(node.space().0).checked_sub(1) {
            None => Ok(None),
            Some(index) => Ok(Some(&**self.mounts.get(index).ok_or(Errno::ESTALE)?)),
        }
    }

    /// For operations that the tree's own nodes have not.
    fn mounted(&self, node: NodeId, otherwise: Errno) -> Result<&dyn Provider> {
        self.mount(node)?.ok_or(otherwise)
    }

    /// Positions: 1 and 2 follow `.` and `..`, then one for each child in order of name.
    fn list(&self, node: NodeId, offset: u64, out: &mut DirBuffer<'_>) -> Result<()> {
        let directory = self.node(node)?;
        let own = directory.attr.ino;
        let dots = [&b"."[..], b".."].map(|name| (name, None));
        let children = directory.children()?.iter().map(|(name, child)| (&name[..], Some(*child)));
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, child)) in dots.into_iter().chain(children).enumerate().skip(skipped) {
            if !out.fits(name) {
                break;
            }
            let entry = child.map(|child| self.entry(child)).transpose()?;
            let (ino, mode) = entry.map_or((own, FileKind::Directory.mode_bits()), |entry| {
                (entry.attr.ino, entry.attr.mode)
            });
            let kind = FileKind::from_mode(mode);
            out.push(&DirItem { name, ino, next: index as u64 + 1, kind }, entry.as_ref());
        }
        Ok(())
    }
}

/// An open directory of the tree's own.
#[derive(Debug)]
struct TreeDir {
    nodes: Arc<Nodes>,
    node: NodeId,
}

impl OpenDir for TreeDir {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        Ok((self.nodes.node(self.node)?.attr, self.nodes.cache.attr))
    }

    fn readdir(&self, _: &Context, offset: u64, out: &mut DirBuffer<'_>) -> Result<()> {
        self.nodes.list(self.node, offset, out)
    }
}

impl Tree {
    /// Opens a directory of the tree's own.
    fn own(&self, node: NodeId) -> Result<Arc<dyn OpenDir>> {
        self.0.node(node)?.children()?;
        Ok(Arc::new(TreeDir { nodes: Arc::clone(&self.0), node }))
    }
}

impl Provider for Tree {
    fn root(&self) -> Result<Entry> {
        self.0.entry(Child::Node(0))
    }

    fn features(&self) -> Features {
        let mounts = self.0.mounts.iter().map(|mount| mount.features());
        mounts.fold(Features { stateless: true, ..Features::default() }, Features::and)
    }

    fn lane(&self, node: NodeId, opcode: Opcode) -> Lane {
        match (self.0.mount(node), opcode) {
            (Ok(Some(mount)), _) => mount.lane(node, opcode),
            // Those are about every provider.
            (Ok(None), Opcode::Init | Opcode::Destroy | Opcode::SyncFs) => {
                let inline = |(index, mount): (usize, &Arc<dyn Provider>)| {
                    let space = u16::try_from(index + 1).map_or(IdSpace::ROOT, IdSpace);
                    mount.lane(space.root(), opcode) == Lane::Inline
                };
                let all = self.0.mounts.iter().enumerate().all(inline);
                if all { Lane::Inline } else { Lane::Queue(IdSpace::ROOT.0) }
            }
            _ => Lane::Inline,
        }
    }

    fn lookup(&self, ctx: &Context, parent: NodeId, name: Name<'_>) -> Result<Lookup> {
        if let Some(mount) = self.0.mount(parent)? {
            return mount.lookup(ctx, parent, name);
        }
        match self.0.node(parent)?.children()?.get(name.as_bytes()) {
            Some(child) => self.0.entry(*child).map(Lookup::Found),
            None => Ok(Lookup::Absent(self.0.cache.negative)),
        }
    }

    fn forget(&self, node: NodeId, count: u64) {
        if let Ok(Some(mount)) = self.0.mount(node) {
            mount.forget(node, count);
        }
    }

    fn reset(&self) {
        self.0.mounts.iter().for_each(|mount| mount.reset());
    }

    fn getattr(&self, ctx: &Context, node: NodeId) -> Result<(Attr, Duration)> {
        match self.0.mount(node)? {
            Some(mount) => mount.getattr(ctx, node),
            None => Ok((self.0.node(node)?.attr, self.0.cache.attr)),
        }
    }

    fn access(&self, ctx: &Context, node: NodeId, mask: u32) -> Result<()> {
        self.0.mount(node)?.map_or(Ok(()), |mount| mount.access(ctx, node, mask))
    }

    fn readlink(&self, ctx: &Context, node: NodeId) -> Result<Vec<u8>> {
        if let Some(mount) = self.0.mount(node)? {
            return mount.readlink(ctx, node);
        }
        match &self.0.node(node)?.content {
            Content::Link(target) => Ok(target.clone()),
            Content::Directory(_) => Err(Errno::EINVAL),
        }
    }

    fn open(&self, ctx: &Context, node: NodeId, flags: u32) -> Result<OpenedFile> {
        self.0.mounted(node, Errno::EISDIR)?.open(ctx, node, flags)
    }

    fn opendir(&self, ctx: &Context, node: NodeId, flags: u32) -> Result<OpenedDir> {
        if let Some(mount) = self.0.mount(node)? {
            return mount.opendir(ctx, node, flags);
        }
        let caching = if self.0.cache.keep { Caching::Keep } else { Caching::Renew };
        Ok(OpenedDir { directory: self.own(node)?, caching })
    }

    fn file(&self, ctx: &Context, node: NodeId) -> Result<Arc<dyn OpenFile>> {
        self.0.mounted(node, Errno::EISDIR)?.file(ctx, node)
    }

    fn directory(&self, ctx: &Context, node: NodeId) -> Result<Arc<dyn OpenDir>> {
        match self.0.mount(node)? {
            Some(mount) => mount.directory(ctx, node),
            None => self.own(node),
        }
    }

    fn getxattr(&self, ctx: &Context, node: NodeId, name: &CStr) -> Result<Vec<u8>> {
        self.0.mounted(node, Errno::EOPNOTSUPP)?.getxattr(ctx, node, name)
    }

    fn listxattr(&self, ctx: &Context, node: NodeId) -> Result<Vec<u8>> {
        self.0.mounted(node, Errno::EOPNOTSUPP)?.listxattr(ctx, node)
    }

    fn statfs(&self, ctx: &Context, node: NodeId) -> Result<FsStats> {
        match self.0.mount(node)? {
            Some(mount) => mount.statfs(ctx, node),
            None => Ok(FsStats { bsize: 4096, frsize: 4096, namelen: 255, ..FsStats::default() }),
        }
    }

    fn syncfs(&self, ctx: &Context) -> Result<()> {
        self.0.mounts.iter().try_for_each(|mount| mount.syncfs(ctx))
    }

    fn change(&self, ctx: &Context, node: NodeId, change: &Change<'_>) -> Result<Changed> {
        let other = match change {
            Change::Rename { new_parent, .. } => *new_parent,
            Change::Link { source, .. } => *source,
            _ => node,
        };
        if other.space() != node.space() {
            return Err(Errno::EXDEV);
        }
        self.0.mounted(node, change.refusal())?.change(ctx, node, change)
    }
}
