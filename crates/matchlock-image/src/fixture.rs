//! A tree with one of everything, and its listing as text: for tests of what reads images, the guest
//! kernel first of all.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::digest::Digest;
use crate::erofs::BlobWriter;
use crate::tree::{
    Attributes, Content, DeviceNumber, Directory, FileData, Inode, InodeId, Name, Tree,
};

/// Of a larger file, only the first and the last as many bytes are in the listing.
pub const LISTED_BYTES: u64 = 1 << 20;

/// A capability set as `setcap cap_net_raw=ep` writes it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An access list: `u::rwx,u:1000:r--,g::r-x,m::r-x,o::r-x`.
const ACCESS_LIST: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 0xff,
    0xff, 0xff, 0xff, 0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
];

/// Names and values.
type Xattrs<'a> = &'a [(&'a [u8], &'a [u8])];

/// Makes trees.
#[derive(Debug)]
pub struct Maker {
    /// What was made so far.
    pub tree: Tree,
}

impl Maker {
    /// An empty root.
    #[must_use]
    pub fn new() -> Self {
        Self { tree: Tree::new(attributes(0o755)) }
    }

    /// Adds an inode under a name.
    ///
    /// # Panics
    /// When `name` is none, or `parent` is no directory.
    pub fn add(
        &mut self,
        parent: InodeId,
        name: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> InodeId {
        let id = self.tree.add(Inode { attributes, content });
        self.link(parent, name, id);
        id
    }

    /// Adds a name.
    ///
    /// # Panics
    /// As [`Maker::add`].
    pub fn link(&mut self, parent: InodeId, name: &[u8], id: InodeId) {
        let name = Name::new(name).expect("a file name");
        assert!(self.tree.link(parent, name, id), "the parent is a directory");
    }

    /// Adds an empty directory, `rwxr-xr-x`.
    pub fn directory(&mut self, parent: InodeId, name: &[u8]) -> InodeId {
        self.add(parent, name, attributes(0o755), Content::Directory(Directory::default()))
    }

    /// Adds a file, `rw-r--r--`.
    ///
    /// # Errors
    /// Of the blob.
    pub fn file(
        &mut self,
        blob: &mut BlobWriter,
        parent: InodeId,
        name: &[u8],
        bytes: &[u8],
    ) -> io::Result<InodeId> {
        let data = data(blob, bytes)?;
        Ok(self.add(parent, name, attributes(0o644), Content::File(data)))
    }
}

impl Default for Maker {
    fn default() -> Self {
        Self::new()
    }
}

/// A tree with every kind of file and the limits of each: modes, owners, times, attributes, names,
/// sizes, hard links, large directories, a sparse file of 5 GiB.
///
/// # Errors
/// Of the blob.
pub fn everything(blob: &mut BlobWriter) -> io::Result<Tree> {
    let mut maker = small(blob)?;
    sparse(&mut maker, blob)?;
    Ok(maker.tree)
}

/// [`everything`] but the sparse file.
///
/// # Errors
/// Of the blob.
pub fn small(blob: &mut BlobWriter) -> io::Result<Maker> {
    let mut maker = Maker::new();
    files(&mut maker, blob)?;
    modes(&mut maker, blob)?;
    special(&mut maker);
    links(&mut maker);
    extended(&mut maker, blob)?;
    directories(&mut maker, blob)?;
    Ok(maker)
}

/// Paths of all that `tree` holds, a line each, sorted, as the kernel would tell them: kind, mode,
/// owners, time, names, size or device, digest or text, attributes, path. `layers` hold the data.
///
/// # Errors
/// Of the files.
pub fn listing(tree: &Tree, layers: &[&File]) -> io::Result<Vec<String>> {
    list(tree, &|data| content_digest(data, layers))
}

/// [`listing`] with the place of data instead of its digest.
#[must_use]
pub fn listing_without_data(tree: &Tree) -> Vec<String> {
    list(tree, &|data| Ok(format!("{data:?}"))).unwrap_or_default()
}

type Describe<'a> = &'a dyn Fn(&FileData) -> io::Result<String>;

fn list(tree: &Tree, describe: Describe<'_>) -> io::Result<Vec<String>> {
    let mut names = vec![0_u32; tree.len()];
    let mut paths = vec![(Vec::new(), Tree::ROOT)];
    let mut at = 0;
    while let Some((path, id)) = paths.get(at).cloned() {
        at += 1;
        let Some(directory) = tree.directory(id) else { continue };
        // Two names of a directory are `.` and the one above; `..` of each directory in it is another.
        names[id.index()] += 1;
        for (name, child) in &directory.entries {
            names[child.index()] += 1;
            if tree.directory(*child).is_some() {
                names[id.index()] += 1;
            }
            paths.push(([path.as_slice(), b"/", name.as_bytes()].concat(), *child));
        }
    }
    names[Tree::ROOT.index()] += 1;
    let mut lines = Vec::new();
    for (path, id) in paths {
        lines.push(line(tree.inode(id), &path, names[id.index()], describe)?);
    }
    lines.sort_unstable();
    Ok(lines)
}

fn line(inode: &Inode, path: &[u8], links: u32, describe: Describe<'_>) -> io::Result<String> {
    let Attributes { mode, uid, gid, mtime, xattrs } = &inode.attributes;
    let mut xattrs = xattrs.clone();
    let (kind, detail) = match &inode.content {
        Content::Directory(directory) => {
            if directory.opaque {
                xattrs.insert((*b"trusted.overlay.opaque").into(), (*b"y").into());
            }
            if directory.implied {
                xattrs.insert((*b"trusted.matchlock.implied").into(), (*b"y").into());
            }
            ('d', "-".to_owned())
        }
        Content::File(file) => {
            let digest = describe(file)?;
            ('f', format!("{} {digest}", file.size))
        }
        Content::Symlink(text) => ('l', escaped(text)),
        Content::CharDevice(DeviceNumber { major, minor }) => ('c', format!("{major}:{minor}")),
        Content::BlockDevice(DeviceNumber { major, minor }) => ('b', format!("{major}:{minor}")),
        Content::Fifo => ('p', "-".to_owned()),
        Content::Socket => ('s', "-".to_owned()),
        Content::Whiteout => ('c', "0:0".to_owned()),
    };
    let mut attributes = String::new();
    for (name, value) in &xattrs {
        let _infallible = write!(attributes, "{}={},", escaped(name), Digest::of(value).hex());
    }
    Ok(format!(
        "{kind} {mode:o} {uid} {gid} {}.{:09} {links} {detail} [{attributes}] {}",
        mtime.0,
        mtime.1,
        escaped(path)
    ))
}

fn content_digest(data: &FileData, layers: &[&File]) -> io::Result<String> {
    let Some(file) = layers.get(usize::from(data.layer)) else {
        return Err(io::Error::other("no such layer"));
    };
    let read = |from: u64, length: u64| {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, data.start + from)?;
        Ok::<_, io::Error>(bytes)
    };
    let mut bytes = read(0, data.size.min(LISTED_BYTES))?;
    if data.size > LISTED_BYTES {
        bytes.extend(read(data.size - LISTED_BYTES, LISTED_BYTES)?);
    }
    Ok(Digest::of(&bytes).hex())
}

/// Printable ASCII without space and backslash as it is, the rest as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_graphic() && *byte != b'\\' {
            text.push(char::from(*byte));
        } else {
            let _infallible = write!(text, "\\x{byte:02x}");
        }
        text
    })
}

fn files(maker: &mut Maker, blob: &mut BlobWriter) -> io::Result<()> {
    let files = maker.directory(Tree::ROOT, b"files");
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 65_536, 1_000_001] {
        let bytes: Vec<u8> =
            (0..size).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        maker.file(blob, files, format!("size {size}").as_bytes(), &bytes)?;
    }
    Ok(())
}

fn modes(maker: &mut Maker, blob: &mut BlobWriter) -> io::Result<()> {
    let modes = maker.directory(Tree::ROOT, b"modes");
    let times =
        [(0, 0), (-1, 999_999_999), (i64::from(u32::MAX) + 1, 1), (1_700_000_000, 123_456_789)];
    for (index, mode) in [0, 0o4755, 0o2755, 0o1777, 0o7777, 0o444].into_iter().enumerate() {
        let mtime = times[index % times.len()];
        let owner = [0, 1000, 65_536, u32::MAX - 1][index % 4];
        let given = Attributes { mode, uid: owner, gid: owner / 2, mtime, ..Attributes::default() };
        let data = data(blob, b"#!/bin/true\n")?;
        maker.add(modes, format!("{mode:o}").as_bytes(), given, Content::File(data));
    }
    Ok(())
}

fn sparse(maker: &mut Maker, blob: &mut BlobWriter) -> io::Result<()> {
    let files = maker.directory(Tree::ROOT, b"sparse");
    blob.begin()?;
    blob.write(b"head")?;
    blob.skip((5 << 30) - 8)?;
    blob.write(b"tail")?;
    let sparse = blob.end()?;
    maker.add(files, b"sparse", attributes(0o600), Content::File(sparse));
    blob.begin()?;
    blob.skip(1 << 20)?;
    let hole = blob.end()?;
    maker.add(files, b"hole", attributes(0o600), Content::File(hole));
    Ok(())
}

fn special(maker: &mut Maker) {
    let special = maker.directory(Tree::ROOT, b"special");
    for (major, minor) in [(1, 3), (5, 1), (254, 256), (4095, 0xf_ffff)] {
        let device = DeviceNumber { major, minor };
        let number = format!("{major}-{minor}");
        maker.add(
            special,
            format!("c{number}").as_bytes(),
            attributes(0o666),
            Content::CharDevice(device),
        );
        maker.add(
            special,
            format!("b{number}").as_bytes(),
            attributes(0o660),
            Content::BlockDevice(device),
        );
    }
    maker.add(special, b"fifo", attributes(0o600), Content::Fifo);
    maker.add(special, b"socket", attributes(0o600), Content::Socket);
}

fn links(maker: &mut Maker) {
    let links = maker.directory(Tree::ROOT, b"links");
    for length in [1, 63, 400, 448, 449, 512, 513, 4031, 4032, 4033, 4095] {
        let text = vec![b'x'; length].into();
        maker.add(
            links,
            format!("to {length}").as_bytes(),
            attributes(0o777),
            Content::Symlink(text),
        );
    }
    let fifo = maker.add(links, b"hard 0", attributes(0o640), Content::Fifo);
    for index in 1..300 {
        maker.link(links, format!("hard {index}").as_bytes(), fifo);
    }
}

fn extended(maker: &mut Maker, blob: &mut BlobWriter) -> io::Result<()> {
    let directory = maker.directory(Tree::ROOT, b"xattrs");
    let large = vec![b'v'; 65_535];
    let long = [b"user.".as_slice(), &[b'n'; 250]].concat();
    let cases: [(&str, Xattrs<'_>); 7] = [
        ("capability", &[(b"security.capability", CAPABILITY)]),
        ("acl", &[(b"system.posix_acl_access", ACCESS_LIST)]),
        ("user", &[(b"user.empty", b""), (b"user.a", b"1"), (b"user.b", b"22")]),
        ("trusted", &[(b"trusted.a", b"1")]),
        ("large", &[(b"user.large", &large)]),
        ("three large", &[(b"user.1", &large), (b"user.2", &large), (b"user.3", &large)]),
        ("long name", &[(&long, b"value")]),
    ];
    for (name, xattrs) in cases {
        let mode = if name == "acl" { 0o755 } else { 0o644 };
        let given = with_xattrs(mode, xattrs);
        let data = data(blob, name.as_bytes())?;
        maker.add(directory, name.as_bytes(), given, Content::File(data));
    }
    // Attributes before what is inline: all lengths around a block.
    for length in (300..520).step_by(4) {
        let given = with_xattrs(0o777, &[(b"trusted.pad", &large[..length])]);
        let text = vec![b'y'; 60].into();
        maker.add(directory, format!("link {length}").as_bytes(), given, Content::Symlink(text));
    }
    let acls = with_xattrs(0o755, &[(b"system.posix_acl_default", ACCESS_LIST)]);
    maker.add(directory, b"default acl", acls, Content::Directory(Directory::default()));
    Ok(())
}

fn directories(maker: &mut Maker, blob: &mut BlobWriter) -> io::Result<()> {
    let root = maker.directory(Tree::ROOT, b"directories");
    maker.directory(root, b"empty");
    let large = maker.directory(root, b"large");
    for index in 0..10_000 {
        maker.add(large, format!("entry {index}").as_bytes(), attributes(0o600), Content::Fifo);
    }
    // Directories of all sizes around a block, small or large.
    for count in (1..40).chain(330..345) {
        let parent = maker.directory(root, format!("{count}").as_bytes());
        for index in 0..count {
            maker.directory(parent, format!("{index}").as_bytes());
        }
    }
    let names = maker.directory(root, b"names");
    let longest = vec![b'l'; 255];
    let odd: [&[u8]; 9] = [b"!", b"-", b"..a", b"...", b" ", b"\\", b"\n", b"\xff\xfe", &longest];
    for name in odd {
        maker.file(blob, names, name, name)?;
    }
    for index in 0..20 {
        let mut name = longest.clone();
        name[0] = b'A' + index;
        maker.file(blob, names, &name, &name)?;
    }
    let mut deep = root;
    for _ in 0..100 {
        deep = maker.directory(deep, b"deep");
    }
    let opaque = maker.directory(root, b"opaque");
    if let Some(directory) = maker.tree.directory_mut(opaque) {
        directory.opaque = true;
    }
    maker.add(opaque, b"whiteout", attributes(0o600), Content::Whiteout);
    Ok(())
}

/// Root's, of a time with a fraction.
#[must_use]
pub fn attributes(mode: u16) -> Attributes {
    Attributes { mode, mtime: (1_600_000_000, 5), ..Attributes::default() }
}

fn with_xattrs(mode: u16, xattrs: Xattrs<'_>) -> Attributes {
    let xattrs = xattrs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Attributes { xattrs, ..attributes(mode) }
}

/// Writes content.
///
/// # Errors
/// Of the blob.
pub fn data(blob: &mut BlobWriter, bytes: &[u8]) -> io::Result<FileData> {
    blob.begin()?;
    blob.write(bytes)?;
    blob.end()
}
