//! What is in an image: names looked up as its own processes would, users, bytes of files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use matchlock_image::tree::{Content, FileData, InodeId, Name, Tree};

/// Most symbolic links in one path (Linux's own bound).
const MAX_LINKS: u32 = 40;
/// Longest /etc/passwd and /etc/group that are read, in bytes.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// The merged file system of some layers.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// Names and attributes.
    pub(crate) tree: Arc<Tree>,
    /// Blobs of the layers, the lowest first.
    pub(crate) layers: Arc<[File]>,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Absolute, without symbolic links as far as it exists; `/` is the root.
    pub(crate) path: Vec<u8>,
    /// What is there.
    pub(crate) id: Option<InodeId>,
}

/// A path that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A chain of links.
    #[error("too many symbolic links")]
    Links,
    /// A component that is a file.
    #[error("a component of the path is not a directory")]
    NotDirectory,
    /// A component that no file can have as its name.
    #[error("a component of the path is not a file name")]
    Name,
}

impl Root {
    /// Nothing but an empty directory.
    pub(crate) fn empty() -> Self {
        let tree =
            Tree::new(matchlock_image::tree::Attributes { mode: 0o755, ..Default::default() });
        Self { tree: Arc::new(tree), layers: Arc::new([]) }
    }

    /// Follows symbolic links, the last one only with `follow`; `..` of the root is the root. What does
    /// not exist is kept as it is written.
    pub(crate) fn resolve(&self, path: &[u8], follow: bool) -> Result<Place, PathError> {
        let mut open: VecDeque<Vec<u8>> = components(path);
        let mut done: Vec<(Name, Option<InodeId>)> = Vec::new();
        let mut links = 0;
        while let Some(component) = open.pop_front() {
            if component == b".." {
                done.pop();
                continue;
            }
            let name = Name::new(&component).map_err(|_| PathError::Name)?;
            let parent = done.last().map_or(Some(Tree::ROOT), |(_, id)| *id);
            if parent.is_some_and(|parent| self.tree.directory(parent).is_none()) {
                return Err(PathError::NotDirectory);
            }
            let id = parent.and_then(|parent| self.tree.lookup(parent, &name));
            match id.map(|id| &self.tree.inode(id).content) {
                Some(Content::Symlink(text)) if follow || !open.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(PathError::Links);
                    }
                    if text.starts_with(b"/") {
                        done.clear();
                    }
                    for component in components(text).into_iter().rev() {
                        open.push_front(component);
                    }
                }
                _ => done.push((name, id)),
            }
        }
        let mut absolute = Vec::new();
        for (name, _) in &done {
            absolute.push(b'/');
            absolute.extend_from_slice(name.as_bytes());
        }
        if absolute.is_empty() {
            absolute.push(b'/');
        }
        Ok(Place { path: absolute, id: done.last().map_or(Some(Tree::ROOT), |(_, id)| *id) })
    }

    /// The bytes of a file.
    pub(crate) fn open(&self, data: FileData) -> FileReader {
        FileReader { layers: Arc::clone(&self.layers), data, done: 0 }
    }

    /// The file at `path`, when it is one and not too long.
    fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let place = self.resolve(path, true).ok().and_then(|place| place.id);
        match place.map(|id| &self.tree.inode(id).content) {
            Some(Content::File(data)) if data.size <= MAX_ACCOUNTS => {
                let mut bytes = Vec::new();
                self.open(*data).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Numbers of `user`, `user:group`: names are those of the image. A number without a group is its own
    /// group; a name's is the one of its entry. `None` when a name is unknown.
    pub(crate) fn owner(&self, spec: &str) -> io::Result<Option<(u32, u32)>> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (spec, None),
        };
        let known = match user.parse::<u32>() {
            Ok(number) => Some((number, number)),
            Err(_) => account(&self.read(b"/etc/passwd")?, user, 4).map(|f| (f[2], f[3])),
        };
        let Some((uid, gid)) = known else { return Ok(None) };
        let gid = match group {
            None => Some(gid),
            Some(group) => match group.parse() {
                Ok(number) => Some(number),
                Err(_) => account(&self.read(b"/etc/group")?, group, 3).map(|fields| fields[2]),
            },
        };
        Ok(gid.map(|gid| (uid, gid)))
    }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}

/// The line of `name` in passwd(5) or group(5): its fields as numbers, 0 for those that are none. The
/// numbers from the third on must be some.
fn account(file: &[u8], name: &str, needed: usize) -> Option<[u32; 4]> {
    file.split(|byte| *byte == b'\n').find_map(|line| {
        let line = std::str::from_utf8(line).ok()?;
        let fields: Vec<&str> = line.split(':').collect();
        if fields.first() != Some(&name) || fields.len() < needed || name.is_empty() {
            return None;
        }
        let mut numbers = [0; 4];
        for at in 2..needed {
            numbers[at] = fields[at].parse().ok()?;
        }
        Some(numbers)
    })
}

/// Reads a file of an image.
#[derive(Debug)]
pub(crate) struct FileReader {
    layers: Arc<[File]>,
    data: FileData,
    done: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.data.size - self.done;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let missing =
            || io::Error::new(io::ErrorKind::InvalidData, "a file of a layer that is not there");
        let layer = self.layers.get(usize::from(self.data.layer)).ok_or_else(missing)?;
        let read = layer.read_at(&mut buffer[..wanted], self.data.start + self.done)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.done += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_image::tree::{Attributes, Inode};
    use proptest::prelude::*;

    fn put(tree: &mut Tree, path: &str, content: Content) {
        let mut at = Tree::ROOT;
        let mut parts: Vec<&str> = path.split('/').collect();
        let last = parts.pop().expect("a name");
        for part in parts {
            let name = Name::new(part.as_bytes()).expect("a name");
            at = tree.lookup(at, &name).unwrap_or_else(|| {
                let id = tree.add(Inode::directory(Attributes::default()));
                tree.link(at, name, id);
                id
            });
        }
        let id = tree.add(Inode { attributes: Attributes::default(), content });
        tree.link(at, Name::new(last.as_bytes()).expect("a name"), id);
    }

    fn link(text: &str) -> Content {
        Content::Symlink(text.as_bytes().into())
    }

    fn root(entries: &[(&str, Content)]) -> Root {
        let mut tree = Tree::new(Attributes::default());
        for (path, content) in entries {
            put(&mut tree, path, content.clone());
        }
        Root { tree: Arc::new(tree), layers: Arc::new([]) }
    }

    fn file() -> Content {
        Content::File(FileData::default())
    }

    #[test]
    fn links_are_followed_within_the_image() {
        let root = root(&[
            ("usr/lib/x", file()),
            ("lib", link("usr/lib")),
            ("a/abs", link("/lib")),
            ("a/up", link("../../../../lib/x")),
            ("a/gone", link("/nowhere/../new")),
            ("loop", link("loop")),
        ]);
        for (path, follow, expected, there) in [
            ("/", true, "/", true),
            ("lib/x", true, "/usr/lib/x", true),
            ("/a/abs/x", true, "/usr/lib/x", true),
            ("/a/up", true, "/usr/lib/x", true),
            ("/a/up", false, "/a/up", true),
            ("/lib/", true, "/usr/lib", true),
            ("/a/gone/y", true, "/new/y", false),
            ("/x/./y/../z", true, "/x/z", false),
            ("../..", true, "/", true),
        ] {
            let place = root.resolve(path.as_bytes(), follow).expect(path);
            assert_eq!(
                (place.path, place.id.is_some()),
                (expected.as_bytes().to_vec(), there),
                "{path}"
            );
        }
        assert_eq!(root.resolve(b"/loop", true), Err(PathError::Links));
        assert_eq!(root.resolve(b"/usr/lib/x/y", true), Err(PathError::NotDirectory));
    }

    #[test]
    fn owners_are_numbers_or_names_of_the_image() {
        use std::io::Write as _;
        let mut blob = tempfile::tempfile().expect("a file");
        let passwd = b"root:x:0:0::/:\nbad\napp:x:1000:1001::/home/app:/bin/sh\nodd:x:y:1:\n";
        let group = b"staff:x:50:app\n";
        blob.write_all(passwd).and_then(|()| blob.write_all(group)).expect("write");
        let data = |start: usize, bytes: &[u8]| {
            Content::File(FileData { size: bytes.len() as u64, layer: 0, start: start as u64 })
        };
        let mut root =
            root(&[("etc/passwd", data(0, passwd)), ("etc/group", data(passwd.len(), group))]);
        root.layers = Arc::new([blob]);
        for (spec, expected) in [
            ("0", Some((0, 0))),
            ("5", Some((5, 5))),
            ("5:6", Some((5, 6))),
            ("app", Some((1000, 1001))),
            ("app:", Some((1000, 1001))),
            ("app:staff", Some((1000, 50))),
            ("7:staff", Some((7, 50))),
            ("app:9", Some((1000, 9))),
            ("nobody", None),
            ("odd", None),
            ("app:none", None),
            ("", None),
        ] {
            assert_eq!(root.owner(spec).expect(spec), expected, "{spec}");
        }
        assert_eq!(Root::empty().owner("app").expect("no file"), None);
    }

    #[test]
    fn a_file_that_its_layer_does_not_have_is_an_error() {
        let root = Root::empty();
        let data = FileData { size: 1, layer: 3, start: 0 };
        assert!(root.open(data).read(&mut [0; 8]).is_err());
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_image(
            path in "(/|\\.\\.|a|b|l|m){0,12}", text in "(/|\\.\\.|a|b|l|m){1,8}"
        ) {
            let root = root(&[("a/b/f", file()), ("l", link(&text)), ("a/m", link("../l"))]);
            if let Ok(place) = root.resolve(path.as_bytes(), true) {
                prop_assert!(place.path.starts_with(b"/"));
                prop_assert!(!place.path.split(|byte| *byte == b'/').any(|part| part == b".."));
                let plain = root.resolve(&place.path, false).expect("resolved already");
                prop_assert_eq!(plain, place);
            }
        }
    }
}
