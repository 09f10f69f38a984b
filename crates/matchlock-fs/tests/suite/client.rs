//! A FUSE client of bytes: it says what it is told to and takes replies apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use matchlock_fs::{Opcode, Provider, ROOT_ID, Server};

pub(crate) const ENOENT: i32 = 2;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EBADF: i32 = 9;
pub(crate) const ENOTDIR: i32 = 20;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EROFS: i32 = 30;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const ESTALE: i32 = 116;

/// What a LOOKUP found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) node: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mode: u32,
}

/// A name of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) ino: u64,
    pub(crate) next: u64,
    pub(crate) kind: u32,
    /// Zero unless READDIRPLUS gave a node.
    pub(crate) node: u64,
}

#[derive(Debug)]
pub(crate) struct Client<P: ?Sized> {
    server: Server<P>,
    unique: AtomicU64,
}

impl<P: Provider + ?Sized> Client<P> {
    /// A client after INIT, as Linux 6.12 sends it but without the offer to do without OPEN.
    pub(crate) fn new(provider: Arc<P>) -> Self {
        let client = Self { server: Server::new(provider), unique: AtomicU64::new(1) };
        client
            .ask(Opcode::Init, 0, &init(7, 41, u64::from(u32::MAX) & !(1 << 17 | 1 << 24)))
            .expect("INIT");
        client
    }

    /// One request with a valid header; the payload of its reply, or the error number.
    pub(crate) fn ask(&self, opcode: Opcode, node: u64, payload: &[u8]) -> Result<Vec<u8>, i32> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let mut reply = Vec::new();
        self.server.handle(&message(opcode as u32, unique, node, payload), &mut reply);
        if reply.is_empty() {
            return Ok(reply);
        }
        assert_eq!(u32_at(&reply, 0) as usize, reply.len(), "length");
        assert_eq!(u64_at(&reply, 8), unique, "unique");
        match u32_at(&reply, 4).cast_signed() {
            0 => Ok(reply.split_off(16)),
            error => {
                assert_eq!(reply.len(), 16, "an error has no payload");
                Err(-error)
            }
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &str) -> Result<Found, i32> {
        let entry = self.ask(Opcode::Lookup, parent, &[name.as_bytes(), b"\0"].concat())?;
        assert_eq!(entry.len(), 128);
        match u64_at(&entry, 0) {
            0 => Err(ENOENT),
            node => Ok(found(node, &entry[40..])),
        }
    }

    /// Looks up each name of a path, as the kernel does.
    pub(crate) fn walk(&self, path: &str) -> Result<Found, i32> {
        let mut at = Found { node: ROOT_ID, ino: 0, size: 0, mode: 0o40755 };
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.lookup(at.node, name)?;
        }
        Ok(at)
    }

    pub(crate) fn getattr(&self, node: u64) -> Result<Found, i32> {
        let attr = self.ask(Opcode::GetAttr, node, &[0; 16])?;
        Ok(found(node, &attr[16..]))
    }

    /// Of what is open.
    pub(crate) fn fgetattr(&self, node: u64, handle: u64) -> Result<Found, i32> {
        let payload = [&1u64.to_le_bytes()[..], &handle.to_le_bytes()].concat();
        let attr = self.ask(Opcode::GetAttr, node, &payload)?;
        Ok(found(node, &attr[16..]))
    }

    pub(crate) fn readlink(&self, node: u64) -> Result<String, i32> {
        self.ask(Opcode::ReadLink, node, &[]).map(|text| String::from_utf8(text).expect("text"))
    }

    pub(crate) fn open(&self, node: u64, flags: u32) -> Result<u64, i32> {
        let payload = [flags.to_le_bytes(), [0; 4]].concat();
        self.ask(Opcode::Open, node, &payload).map(|opened| u64_at(&opened, 0))
    }

    pub(crate) fn read(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        size: u32,
    ) -> Result<Vec<u8>, i32> {
        self.ask(Opcode::Read, node, &range(handle, offset, size))
    }

    /// Opens, reads and closes a whole file.
    pub(crate) fn cat(&self, node: u64) -> Result<Vec<u8>, i32> {
        let handle = self.open(node, 0)?;
        let content = self.read(node, handle, 0, 1 << 20);
        self.close(Opcode::Release, node, handle)?;
        content
    }

    pub(crate) fn opendir(&self, node: u64) -> Result<u64, i32> {
        self.ask(Opcode::OpenDir, node, &[0; 8]).map(|opened| u64_at(&opened, 0))
    }

    /// Closes what `opcode`, RELEASE or RELEASEDIR, is for.
    pub(crate) fn close(&self, opcode: Opcode, node: u64, handle: u64) -> Result<(), i32> {
        self.ask(opcode, node, &[&handle.to_le_bytes()[..], &[0; 16]].concat()).map(drop)
    }

    /// The listing from `offset` in one reply of at most `size` bytes.
    pub(crate) fn list_once(
        &self,
        node: u64,
        handle: u64,
        offset: u64,
        size: u32,
        plus: bool,
    ) -> Result<Vec<Listed>, i32> {
        let opcode = if plus { Opcode::ReadDirPlus } else { Opcode::ReadDir };
        let reply = self.ask(opcode, node, &range(handle, offset, size))?;
        assert!(reply.len() <= size as usize);
        let (mut at, mut listed) = (0, Vec::new());
        while at < reply.len() {
            let node = if plus { u64_at(&reply, at) } else { 0 };
            at += if plus { 128 } else { 0 };
            let len = u32_at(&reply, at + 16) as usize;
            let name = reply[at + 24..at + 24 + len].to_vec();
            listed.push(Listed {
                name: String::from_utf8(name).expect("text"),
                ino: u64_at(&reply, at),
                next: u64_at(&reply, at + 8),
                kind: u32_at(&reply, at + 20),
                node,
            });
            at += (24 + len).next_multiple_of(8);
        }
        Ok(listed)
    }

    /// The whole listing, in replies of at most `size` bytes.
    pub(crate) fn list(&self, node: u64, size: u32, plus: bool) -> Result<Vec<Listed>, i32> {
        let handle = self.opendir(node)?;
        let (mut all, mut offset) = (Vec::new(), 0);
        let result = loop {
            let part = match self.list_once(node, handle, offset, size, plus) {
                Ok(part) => part,
                Err(error) => break Err(error),
            };
            let Some(last) = part.last() else {
                break Ok(all);
            };
            offset = last.next;
            all.extend(part);
        };
        self.close(Opcode::ReleaseDir, node, handle)?;
        result
    }

    /// Names of a listing without `.` and `..`, sorted.
    pub(crate) fn names(&self, node: u64) -> Result<Vec<String>, i32> {
        let listed = self.list(node, 4096, false)?.into_iter().map(|listed| listed.name);
        let mut names: Vec<_> = listed.filter(|name| name != "." && name != "..").collect();
        names.sort();
        Ok(names)
    }

    pub(crate) fn forget(&self, node: u64, count: u64) {
        let reply = self.ask(Opcode::Forget, node, &count.to_le_bytes());
        assert_eq!(reply, Ok(Vec::new()));
    }
}

pub(crate) fn message(opcode: u32, unique: u64, node: u64, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(40 + payload.len()).expect("short");
    let mut message = [len.to_le_bytes(), opcode.to_le_bytes()].concat();
    message.extend(unique.to_le_bytes());
    message.extend(node.to_le_bytes());
    message.extend([0; 16]);
    message.extend(payload);
    message
}

pub(crate) fn init(major: u32, minor: u32, flags: u64) -> Vec<u8> {
    let words = [major, minor, 128 * 1024, flags as u32, (flags >> 32) as u32];
    let mut payload: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    payload.extend([0; 44]);
    payload
}

pub(crate) fn range(handle: u64, offset: u64, size: u32) -> Vec<u8> {
    let mut payload = [handle.to_le_bytes(), offset.to_le_bytes()].concat();
    payload.extend(size.to_le_bytes());
    payload.extend([0; 20]);
    payload
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// `struct fuse_attr`.
fn found(node: u64, attr: &[u8]) -> Found {
    Found { node, ino: u64_at(attr, 0), size: u64_at(attr, 8), mode: u32_at(attr, 60) }
}
