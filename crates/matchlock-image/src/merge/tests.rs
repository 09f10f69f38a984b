use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::fixture::{Maker, attributes, listing_without_data};
use crate::tree::{Attributes, FileData};

use super::*;

fn file(start: u64) -> Content {
    Content::File(FileData { size: 1, layer: 0, start: start * 512 })
}

fn paths(tree: &Tree) -> Vec<String> {
    let lines = listing_without_data(tree);
    let paths = lines.iter().filter_map(|line| line.rsplit(' ').next());
    let mut paths: Vec<_> = paths.filter(|path| !path.is_empty()).map(str::to_owned).collect();
    paths.sort_unstable();
    paths
}

fn at<'a>(tree: &'a Tree, path: &str) -> &'a Inode {
    let names = path.split('/').map(|name| Name::new(name.as_bytes()).expect("a name"));
    let id = names.fold(Tree::ROOT, |id, name| tree.lookup(id, &name).expect("an entry"));
    tree.inode(id)
}

/// Directories `a` and `a/b`, files `a/b/one` and `a/two`.
fn lower() -> Tree {
    let mut maker = Maker::new();
    let a = maker.directory(Tree::ROOT, b"a");
    let b = maker.directory(a, b"b");
    maker.add(b, b"one", attributes(0o644), file(1));
    maker.add(a, b"two", attributes(0o644), file(2));
    maker.tree
}

#[test]
fn no_layers_are_an_empty_root() {
    let merged = merge(Vec::new());
    assert_eq!((merged.len(), merged.inode(Tree::ROOT).attributes.mode), (1, 0o755));
}

#[test]
fn directories_are_united_and_take_the_upper_attributes() {
    let mut upper = Maker::new();
    let a =
        upper.add(Tree::ROOT, b"a", attributes(0o1777), Content::Directory(Directory::default()));
    upper.add(a, b"three", attributes(0o600), file(3));
    let merged = merge(vec![lower(), upper.tree]);
    assert_eq!(paths(&merged), ["/a", "/a/b", "/a/b/one", "/a/three", "/a/two"]);
    assert_eq!(at(&merged, "a").attributes.mode, 0o1777);
    assert_eq!(at(&merged, "a/b/one").content, file(1));
    let data = FileData { size: 1, layer: 1, start: 3 * 512 };
    assert_eq!(at(&merged, "a/three").content, Content::File(data));
}

#[test]
fn an_implied_directory_leaves_the_attributes_of_the_one_below() {
    let implied = Directory { implied: true, ..Directory::default() };
    let mut lower = Maker::new();
    lower.add(Tree::ROOT, b"tmp", attributes(0o1777), Content::Directory(Directory::default()));
    lower.tree.inode_mut(Tree::ROOT).attributes.uid = 7;
    let mut upper = Maker::new();
    upper.tree.inode_mut(Tree::ROOT).content = Content::Directory(implied.clone());
    for name in [b"tmp", b"new"] {
        let id =
            upper.add(Tree::ROOT, name, attributes(0o755), Content::Directory(implied.clone()));
        upper.add(id, b"x", attributes(0o600), Content::Fifo);
    }
    let merged = merge(vec![lower.tree, upper.tree]);
    assert_eq!(merged.inode(Tree::ROOT).attributes.uid, 7);
    assert_eq!(at(&merged, "tmp").attributes.mode, 0o1777);
    assert_eq!(at(&merged, "new").attributes.mode, 0o755);
    assert_eq!(paths(&merged), ["/new", "/new/x", "/tmp", "/tmp/x"]);
    assert!(!merged.directory(Tree::ROOT).expect("the root").implied);
}

#[test]
fn a_whiteout_removes_and_is_not_there_itself() {
    let mut upper = Maker::new();
    let a = upper.directory(Tree::ROOT, b"a");
    upper.add(a, b"b", attributes(0), Content::Whiteout);
    upper.add(a, b"nothing", attributes(0), Content::Whiteout);
    let new = upper.directory(Tree::ROOT, b"new");
    upper.add(new, b"nothing", attributes(0), Content::Whiteout);
    assert_eq!(paths(&merge(vec![lower(), upper.tree])), ["/a", "/a/two", "/new"]);
}

#[test]
fn an_opaque_directory_hides_what_is_below_only() {
    let mut upper = Maker::new();
    let opaque = Directory { opaque: true, ..Directory::default() };
    let a = upper.add(Tree::ROOT, b"a", attributes(0o700), Content::Directory(opaque));
    upper.add(a, b"own", attributes(0o600), file(1));
    let merged = merge(vec![lower(), upper.tree, lower()]);
    assert_eq!(paths(&merged), ["/a", "/a/b", "/a/b/one", "/a/own", "/a/two"]);
    assert!(matches!(
        &at(&merged, "a").content,
        Content::Directory(Directory { opaque: false, .. })
    ));
    let Content::File(data) = at(&merged, "a/two").content else { panic!("a file") };
    assert_eq!(data.layer, 2);
}

#[test]
fn other_kinds_replace_each_other() {
    let mut upper = Maker::new();
    upper.add(Tree::ROOT, b"a", attributes(0o777), Content::Symlink((*b"b").into()));
    let merged = merge(vec![lower(), upper.tree.clone()]);
    assert_eq!(paths(&merged), ["/a"]);
    // A link is not followed: what the layer has behind it comes in its place.
    let merged = merge(vec![upper.tree, lower()]);
    assert_eq!(paths(&merged), ["/a", "/a/b", "/a/b/one", "/a/two"]);
}

#[test]
fn hard_links_of_a_layer_stay_one_inode() {
    let mut lower = Maker::new();
    let id = lower.add(Tree::ROOT, b"a", attributes(0o600), file(1));
    lower.link(Tree::ROOT, b"b", id);
    let directory = lower.directory(Tree::ROOT, b"d");
    lower.link(directory, b"c", id);
    let mut upper = Maker::new();
    upper.add(Tree::ROOT, b"b", attributes(0o600), file(1));
    let merged = merge(vec![lower.tree, upper.tree]);
    let lines = listing_without_data(&merged);
    let links = |path: &str| {
        let line = lines.iter().find(|line| line.ends_with(path)).expect("a line");
        line.split(' ').nth(5).expect("links").to_owned()
    };
    assert_eq!((links("/a"), links("/b"), links("/d/c")), ("2".into(), "1".into(), "2".into()));
}

#[test]
fn depth_is_no_danger() {
    let mut maker = Maker::new();
    let mut deep = Tree::ROOT;
    for _ in 0..200_000 {
        deep = maker.directory(deep, b"d");
    }
    assert_eq!(merge(vec![maker.tree.clone(), maker.tree]).len(), 200_001);
}

/// What a layer says of one path. Directories come before what is in them.
#[derive(Debug, Clone)]
enum Change {
    Directory { opaque: bool, implied: bool },
    File,
    Whiteout,
}

type Layer = BTreeMap<Vec<u8>, (Change, u16)>;

/// Paths of up to three names out of three, each a letter.
fn any_layer() -> impl Strategy<Value = Layer> {
    let change = prop_oneof![
        4 => (prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(opaque, implied)| Change::Directory { opaque, implied }),
        3 => Just(Change::File),
        2 => Just(Change::Whiteout),
    ];
    let path = prop::collection::vec(b'a'..=b'c', 1..=3);
    prop::collection::btree_map(path, (change, 0..0o1000_u16), 0..12).prop_map(|mut layer| {
        let is_directory = |layer: &Layer, path: &[u8]| {
            path.is_empty() || matches!(layer.get(path), Some((Change::Directory { .. }, _)))
        };
        let paths: Vec<_> = layer.keys().cloned().collect();
        // In the order of paths, so a parent is decided before its children.
        for path in paths {
            if !is_directory(&layer, &path[..path.len() - 1]) {
                layer.remove(&path);
            }
        }
        layer
    })
}

fn tree_of(layer: &Layer) -> Tree {
    let mut maker = Maker::new();
    let mut ids = BTreeMap::from([(Vec::new(), Tree::ROOT)]);
    for (path, (change, mode)) in layer {
        let (name, parent) = path.split_last().expect("not empty");
        let content = match change {
            Change::Directory { opaque, implied } => {
                let (opaque, implied) = (*opaque, *implied);
                Content::Directory(Directory { opaque, implied, ..Directory::default() })
            }
            Change::File => Content::Fifo,
            Change::Whiteout => Content::Whiteout,
        };
        let given = Attributes { mode: *mode, ..Attributes::default() };
        let id = maker.add(ids[parent], &[*name], given, content);
        ids.insert(path.clone(), id);
    }
    maker.tree
}

/// The same by paths alone: kind and mode of each.
fn model(layers: &[Layer]) -> BTreeMap<Vec<u8>, (bool, u16)> {
    let mut all: BTreeMap<Vec<u8>, (bool, u16)> = BTreeMap::new();
    for layer in layers {
        for (path, (change, mode)) in layer {
            let below = all.get(path).copied();
            let under = |other: &[u8]| other.starts_with(path) && other.len() > path.len();
            let keep = matches!(
                (change, below),
                (Change::Directory { opaque: false, .. }, Some((true, _)))
            );
            if !keep {
                all.retain(|other, _| !under(other));
            }
            match (change, below) {
                (Change::Whiteout, _) => {
                    all.remove(path);
                }
                (Change::Directory { implied: true, .. }, Some((true, _))) => {}
                (Change::Directory { .. }, _) => {
                    all.insert(path.clone(), (true, *mode));
                }
                (Change::File, _) => {
                    all.insert(path.clone(), (false, *mode));
                }
            }
        }
    }
    all
}

fn flat(tree: &Tree) -> BTreeMap<Vec<u8>, (bool, u16)> {
    let mut all = BTreeMap::new();
    let mut rest = vec![(Vec::new(), Tree::ROOT)];
    while let Some((path, id)) = rest.pop() {
        let entries = tree.directory(id).map(|directory| &directory.entries);
        for (name, child) in entries.into_iter().flatten() {
            let path = [path.as_slice(), name.as_bytes()].concat();
            let is_directory = tree.directory(*child).is_some();
            all.insert(path.clone(), (is_directory, tree.inode(*child).attributes.mode));
            rest.push((path, *child));
        }
    }
    all
}

#[test]
fn all_layers_together_are_bounded() {
    let (entries, metadata_bytes) = lower().weight();
    assert_eq!((entries, metadata_bytes), (5, 8));
    for limits in [
        Limits { entries: 3 * entries - 1, metadata_bytes: 3 * metadata_bytes },
        Limits { entries: 3 * entries, metadata_bytes: 3 * metadata_bytes - 1 },
    ] {
        let mut merged = Merged::within(limits);
        // Names that are there already count: the layers are what is in memory.
        merged.apply(lower()).expect("one");
        merged.apply(lower()).expect("two");
        assert_eq!(merged.apply(lower()), Err(TooLarge(limits)));
    }
}

proptest! {
    #[test]
    fn merging_is_applying_path_by_path(layers in prop::collection::vec(any_layer(), 0..5)) {
        let merged = merge(layers.iter().map(tree_of).collect());
        prop_assert_eq!(flat(&merged), model(&layers));
    }
}
