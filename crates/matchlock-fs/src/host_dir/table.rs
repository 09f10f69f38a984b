//! The nodes that a guest refers to.
//!
//! A node is an inode of the host, so that hard links are one node and one cache in the guest. It
//! remembers where it was last found, a parent node and a name, which is how it is opened again. Life:
//!
//! ```text
//! lookup ──► references ≥ 1 ──forget──► references 0, children ≥ 1 ──last child gone──► removed
//!                                  └──► references 0, no children ─────────────────────► removed
//! ```

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex};

use crate::pool::{Pool, lock};
use crate::types::{Errno, FileKind, IdSpace, NodeId, Result};

/// Deepest path that is walked: deeper ones cannot be named in one system call anyway.
const MAX_DEPTH: usize = 2048;

/// Which inode a node is. A number that the host gave to another file of the same kind cannot be told
/// from a file rewritten in place, and is treated as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) ino: u64,
    pub(super) kind: FileKind,
}

/// A node and where to find it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) identity: Identity,
    pub(super) parent: NodeId,
    pub(super) name: CString,
}

/// Every node of one host directory.
#[derive(Debug)]
pub(super) struct NodeTable {
    space: IdSpace,
    pool: Arc<Pool>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    nodes: HashMap<NodeId, Node>,
    by_identity: HashMap<Identity, NodeId>,
}

#[derive(Debug)]
struct Node {
    identity: Identity,
    parent: NodeId,
    name: Box<CStr>,
    references: u64,
    children: u32,
}

impl NodeTable {
    pub(super) fn new(space: IdSpace, pool: Arc<Pool>) -> Self {
        let inner = Inner { last: space.root().0, ..Inner::default() };
        Self { space, pool, inner: Mutex::new(inner) }
    }

    /// The node of an inode found as `name` in `parent`, with one reference more.
    pub(super) fn enter(&self, parent: NodeId, name: &CStr, identity: Identity) -> Result<NodeId> {
        let root = self.space.root();
        let mut inner = lock(&self.inner);
        if parent != root && !inner.nodes.contains_key(&parent) {
            return Err(Errno::ESTALE);
        }
        if let Some(&id) = inner.by_identity.get(&identity) {
            let removed = inner.relocate(root, id, parent, name);
            self.pool.nodes.give_back(removed);
            let node = inner.nodes.get_mut(&id).ok_or(Errno::EIO)?;
            node.references = node.references.saturating_add(1);
            return Ok(id);
        }
        self.pool.nodes.take(Errno::ENOMEM)?;
        inner.last += 1;
        let id = self.space.node(inner.last);
        let node = Node { identity, parent, name: name.into(), references: 1, children: 0 };
        inner.nodes.insert(id, node);
        inner.by_identity.insert(identity, id);
        inner.adopt(parent);
        Ok(id)
    }

    /// Takes references back; says whether the node itself is gone.
    pub(super) fn forget(&self, id: NodeId, count: u64) -> bool {
        let mut inner = lock(&self.inner);
        let Some(node) = inner.nodes.get_mut(&id) else {
            return false;
        };
        node.references = node.references.saturating_sub(count);
        let removed = inner.sweep(id);
        self.pool.nodes.give_back(removed);
        removed > 0
    }

    pub(super) fn place(&self, id: NodeId) -> Result<Place> {
        let inner = lock(&self.inner);
        let node = inner.nodes.get(&id).ok_or(Errno::ESTALE)?;
        Ok(Place { identity: node.identity, parent: node.parent, name: node.name.clone().into() })
    }

    /// The path from the root, without a leading `/`; empty for the root.
    pub(super) fn path(&self, id: NodeId) -> Result<Vec<u8>> {
        let inner = lock(&self.inner);
        let mut names = Vec::new();
        let mut at = id;
        while at != self.space.root() {
            let node = inner.nodes.get(&at).ok_or(Errno::ESTALE)?;
            names.push(node.name.to_bytes());
            if names.len() > MAX_DEPTH {
                return Err(Errno::ENAMETOOLONG);
            }
            at = node.parent;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }

    pub(super) fn clear(&self) {
        let mut inner = lock(&self.inner);
        self.pool.nodes.give_back(inner.nodes.len());
        inner.nodes = HashMap::new();
        inner.by_identity = HashMap::new();
    }
}

impl Drop for NodeTable {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Inner {
    fn adopt(&mut self, parent: NodeId) {
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children += 1;
        }
    }

    /// Notes a newer place; returns how many nodes only the old place kept.
    ///
    /// A directory that the host moved below one of its own former children would make a circle of
    /// old and new places; the old one then stays, and is found stale when it is used.
    fn relocate(&mut self, root: NodeId, id: NodeId, parent: NodeId, name: &CStr) -> usize {
        let Some(node) = self.nodes.get(&id) else {
            return 0;
        };
        let old = node.parent;
        if (old == parent && *node.name == *name) || self.is_below(root, parent, id) {
            return 0;
        }
        self.adopt(parent);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.parent = parent;
            node.name = name.into();
        }
        self.disown(old)
    }

    /// Whether `at` is `above` or somewhere below it; yes in doubt.
    fn is_below(&self, root: NodeId, mut at: NodeId, above: NodeId) -> bool {
        for _ in 0..MAX_DEPTH {
            if at == above {
                return true;
            }
            match self.nodes.get(&at) {
                Some(node) => at = node.parent,
                None => return at != root,
            }
        }
        true
    }

    fn disown(&mut self, parent: NodeId) -> usize {
        let Some(node) = self.nodes.get_mut(&parent) else {
            return 0;
        };
        node.children -= 1;
        self.sweep(parent)
    }

    /// Removes a node that nothing needs, and its parents likewise; returns how many.
    fn sweep(&mut self, mut id: NodeId) -> usize {
        let mut removed = 0;
        while let Some(node) = self.nodes.get(&id) {
            if node.references > 0 || node.children > 0 {
                break;
            }
            let (identity, parent) = (node.identity, node.parent);
            self.nodes.remove(&id);
            self.by_identity.remove(&identity);
            removed += 1;
            if let Some(parent) = self.nodes.get_mut(&parent) {
                parent.children -= 1;
            }
            id = parent;
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Limits;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Steps of a client that finds inodes in directories, at any place, and forgets them.
    #[derive(Debug, Clone)]
    enum Step {
        Enter { parent: usize, ino: u64, directory: bool },
        Forget { node: usize, count: u64 },
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (0usize..20, 2u64..14, any::<bool>())
                .prop_map(|(parent, ino, directory)| Step::Enter { parent, ino, directory }),
            8 => (0usize..20, 0u64..4).prop_map(|(node, count)| Step::Forget { node, count }),
            1 => Just(Step::Clear),
        ]
    }

    /// Every link of the table has its other end, and every count is right.
    fn check(table: &NodeTable, references: &HashMap<NodeId, u64>) {
        let inner = lock(&table.inner);
        let mut children: HashMap<NodeId, u32> = HashMap::new();
        for (id, node) in &inner.nodes {
            assert_eq!(inner.by_identity.get(&node.identity), Some(id));
            assert!(node.parent == table.space.root() || inner.nodes.contains_key(&node.parent));
            *children.entry(node.parent).or_default() += 1;
        }
        for (id, node) in &inner.nodes {
            assert_eq!(node.children, children.get(id).copied().unwrap_or(0));
            assert_eq!(node.references, references.get(id).copied().unwrap_or(0));
            assert!(node.references + u64::from(node.children) > 0, "kept for nothing");
        }
        assert_eq!(inner.by_identity.len(), inner.nodes.len());
        assert_eq!(table.pool.nodes.used(), inner.nodes.len());
        for id in references.keys().filter(|id| references[id] > 0) {
            assert!(inner.nodes.contains_key(id), "a node was lost that is referred to");
        }
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_the_table_whole(steps in prop::collection::vec(step(), 0..200)) {
            let pool = Pool::new(Limits { nodes: 10, handles: 0, cached_fds: 0 });
            let table = NodeTable::new(IdSpace(3), pool);
            let mut references: HashMap<NodeId, u64> = HashMap::new();
            let mut known = vec![table.space.root()];
            for step in steps {
                match step {
                    Step::Enter { parent, ino, directory } => {
                        let kind = if directory { FileKind::Directory } else { FileKind::Regular };
                        let identity = Identity { device: 1, ino, kind };
                        let parent = known[parent % known.len()];
                        let name = CString::new(format!("n{ino}")).expect("name");
                        match table.enter(parent, &name, identity) {
                            Ok(id) => {
                                *references.entry(id).or_default() += 1;
                                known.push(id);
                                prop_assert!(table.path(id).is_ok(), "no circle");
                            }
                            Err(error) => prop_assert!([Errno::ENOMEM, Errno::ESTALE].contains(&error)),
                        }
                    }
                    Step::Forget { node, count } => {
                        let id = known[node % known.len()];
                        table.forget(id, count);
                        references.entry(id).and_modify(|held| *held = held.saturating_sub(count));
                    }
                    Step::Clear => {
                        table.clear();
                        references.clear();
                    }
                }
                check(&table, &references);
            }
        }
    }

    /// LOOKUPs and FORGETs from several threads, as a client sends them that forgets only what it was told:
    /// no node goes that somebody still refers to, and in the end nothing is left.
    #[test]
    fn lookups_and_forgets_may_race() {
        let pool = Pool::new(Limits { nodes: 1000, handles: 0, cached_fds: 0 });
        let table = NodeTable::new(IdSpace(3), pool);
        let root = table.space.root();
        let identity = |ino, kind| Identity { device: 1, ino, kind };
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..3000 {
                        let (of, file) = ((round + thread) % 3, (round * 5 + thread) % 7);
                        let directory = identity(10 + of, FileKind::Directory);
                        let parent = table.enter(root, c"d", directory).expect("room");
                        let child =
                            table.enter(parent, c"f", identity(20 + file, FileKind::Regular));
                        let child = child.expect("its parent is referred to");
                        assert!(table.place(child).is_ok() && table.path(child).is_ok());
                        if round % 2 == 0 {
                            table.forget(parent, 1);
                            assert!(table.path(child).is_ok(), "a child keeps its parents");
                            table.forget(child, 1);
                        } else {
                            table.forget(child, 1);
                            assert!(table.place(parent).is_ok(), "still referred to");
                            table.forget(parent, 1);
                        }
                    }
                });
            }
        });
        check(&table, &HashMap::new());
        assert!(lock(&table.inner).nodes.is_empty());
    }
}
