//! A provider that has every operation: it makes what it is asked for out of thin air.

use std::collections::HashSet;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use matchlock_fs::request::{Change, FileChange, Lock, LockOwner, Name, Release};
use matchlock_fs::{
    Attr, Caching, Changed, Context, DirBuffer, DirItem, Entry, Errno, Features, FileKind, FsStats,
    IdSpace, Lookup, NodeId, OpenDir, OpenFile, OpenedDir, OpenedFile, Provider, Result, Time,
};

/// Operations of an odd unique number wait once, and are woken by another thread.
#[derive(Debug)]
pub(super) struct Odd {
    space: IdSpace,
    stateless: bool,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting(Mutex<HashSet<u64>>);

#[derive(Debug)]
struct Open(Arc<Waiting>);

const TTL: Duration = Duration::from_secs(1);

impl Waiting {
    fn pass(&self, ctx: &Context) -> Result<()> {
        let mut waiting = self.0.lock().expect("nobody panics");
        if ctx.is_interrupted() {
            waiting.remove(&ctx.unique);
            return Err(Errno::EINTR);
        }
        if ctx.unique.is_multiple_of(2) || !waiting.insert(ctx.unique) {
            waiting.remove(&ctx.unique);
            return Ok(());
        }
        // Before and after the operation has come to rest, as it happens.
        let waker = ctx.waker();
        if ctx.unique.is_multiple_of(3) {
            waker.wake();
        } else {
            std::thread::spawn(move || waker.wake());
        }
        Err(Errno::ERESTARTSYS)
    }
}

impl Odd {
    pub(super) fn new(space: IdSpace, stateless: bool) -> Self {
        Self { space, stateless, waiting: Arc::default() }
    }

    fn entry(&self, node: NodeId) -> Entry {
        Entry { node, attr: attr(), entry_ttl: TTL, attr_ttl: TTL }
    }

    fn open(&self) -> Arc<Open> {
        Arc::new(Open(Arc::clone(&self.waiting)))
    }
}

fn attr() -> Attr {
    let mode = FileKind::Directory.mode_bits() | 0o755;
    Attr { ino: 7, size: 100, mode, nlink: 2, btime: Some(Time::default()), ..Attr::default() }
}

impl Provider for Odd {
    fn root(&self) -> Result<Entry> {
        Ok(self.entry(self.space.root()))
    }

    fn features(&self) -> Features {
        Features { stateless: self.stateless, writes: true, xattrs: true, locks: true }
    }

    fn lookup(&self, ctx: &Context, _: NodeId, name: Name<'_>) -> Result<Lookup> {
        self.waiting.pass(ctx)?;
        let number = 2 + u64::from(name.as_bytes()[0]);
        Ok(Lookup::Found(self.entry(self.space.node(number))))
    }

    fn forget(&self, _: NodeId, _: u64) {}

    fn reset(&self) {}

    fn getattr(&self, ctx: &Context, _: NodeId) -> Result<(Attr, Duration)> {
        self.waiting.pass(ctx)?;
        Ok((attr(), TTL))
    }

    fn readlink(&self, _: &Context, _: NodeId) -> Result<Vec<u8>> {
        Ok(b"target".to_vec())
    }

    fn open(&self, ctx: &Context, _: NodeId, _: u32) -> Result<OpenedFile> {
        self.waiting.pass(ctx)?;
        Ok(OpenedFile { file: self.open(), caching: Caching::None })
    }

    fn opendir(&self, _: &Context, _: NodeId, _: u32) -> Result<OpenedDir> {
        Ok(OpenedDir { directory: self.open(), caching: Caching::Keep })
    }

    fn file(&self, _: &Context, _: NodeId) -> Result<Arc<dyn OpenFile>> {
        Ok(self.open())
    }

    fn directory(&self, _: &Context, _: NodeId) -> Result<Arc<dyn OpenDir>> {
        Ok(self.open())
    }

    fn getxattr(&self, ctx: &Context, _: NodeId, name: &CStr) -> Result<Vec<u8>> {
        self.waiting.pass(ctx)?;
        Ok(name.to_bytes().to_vec())
    }

    fn listxattr(&self, _: &Context, _: NodeId) -> Result<Vec<u8>> {
        Ok(b"user.x\0".to_vec())
    }

    fn statfs(&self, _: &Context, _: NodeId) -> Result<FsStats> {
        Ok(FsStats::default())
    }

    fn change(&self, ctx: &Context, _: NodeId, change: &Change<'_>) -> Result<Changed> {
        self.waiting.pass(ctx)?;
        let entry = self.entry(self.space.node(9));
        Ok(match change {
            Change::SetAttr(_) => Changed::Attr(attr(), TTL),
            Change::Create { .. } | Change::TmpFile { .. } => {
                Changed::Created(entry, OpenedFile { file: self.open(), caching: Caching::Renew })
            }
            Change::MkNod { .. }
            | Change::MkDir { .. }
            | Change::Symlink { .. }
            | Change::Link { .. } => Changed::Entry(entry),
            _ => Changed::Done,
        })
    }
}

impl OpenFile for Open {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        Ok((attr(), TTL))
    }

    fn read(&self, ctx: &Context, _: u64, size: usize, out: &mut Vec<u8>) -> Result<()> {
        self.0.pass(ctx)?;
        out.resize(out.len() + size.min(100), 1);
        Ok(())
    }

    fn change(&self, ctx: &Context, change: &FileChange<'_>) -> Result<Changed> {
        self.0.pass(ctx)?;
        Ok(match change {
            FileChange::SetAttr(_) => Changed::Attr(attr(), TTL),
            FileChange::Write(write) => {
                Changed::Written(u32::try_from(write.data.len()).expect("at most 1 MiB"))
            }
            FileChange::CopyFrom(_) => Changed::Written(1),
            FileChange::Fallocate { .. } => Changed::Done,
        })
    }

    fn flush(&self, ctx: &Context, _: LockOwner) -> Result<()> {
        self.0.pass(ctx)
    }

    fn get_lock(&self, _: &Context, lock: &Lock) -> Result<Option<Lock>> {
        Ok(Some(*lock))
    }

    fn set_lock(&self, ctx: &Context, _: &Lock, _: bool) -> Result<()> {
        self.0.pass(ctx)
    }

    fn release(&self, _: &Context, _: &Release) {}
}

impl OpenDir for Open {
    fn getattr(&self, _: &Context) -> Result<(Attr, Duration)> {
        Ok((attr(), TTL))
    }

    fn readdir(&self, _: &Context, offset: u64, out: &mut DirBuffer<'_>) -> Result<()> {
        for next in (1..=3).filter(|next| *next > offset) {
            out.push(&DirItem { name: b"name", ino: 8, next, kind: None }, None);
        }
        Ok(())
    }
}
