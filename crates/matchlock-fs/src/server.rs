//! The dispatcher: one request in, one reply out.

mod handles;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;

use crate::abi::{self, Opcode, init};
use crate::context::{Call, Calls, Context};
use crate::open::Changed;
use crate::provider::{Features, Provider};
use crate::reply::{DirBuffer, Reply};
use crate::request::{Copy, CopyRange, FileChange, Header, Init, Operation};
use crate::types::{Attr, Errno, Handle, Lookup, NodeId, Result};
use handles::{DirRef, FileRef, Handles, MAX_HANDLES};

/// What we ask for, of what the client offers.
///
/// - `ASYNC_READ`, `PARALLEL_DIROPS`: nothing here depends on order.
/// - `AUTO_INVAL_DATA`: fresher attributes drop stale pages; costs no message before they expire.
/// - `DO_READDIRPLUS`, `READDIRPLUS_AUTO`: `ls -l` without a LOOKUP for each name.
/// - `MAX_PAGES`: reads of 1 MiB instead of 128 KiB.
/// - `CACHE_SYMLINKS`: a link is text; most exec paths begin with one (`/bin`, `/lib64`).
///
/// `POSIX_LOCKS` and `FLOCK_LOCKS` follow from [`Features::locks`].
const WANTED: u64 = init::ASYNC_READ
    | init::AUTO_INVAL_DATA
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::PARALLEL_DIROPS
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::INIT_EXT;

/// Set in [`Server::session`] once INIT succeeded; the bit is none of fuse.h's (`FUSE_INIT_RESERVED`).
const READY: u64 = 1 << 31;

/// Answers FUSE requests from a [`Provider`].
#[derive(Debug)]
pub struct Server<P: ?Sized> {
    /// Flags of the client with [`READY`], or zero before INIT.
    session: AtomicU64,
    handles: Handles,
    calls: Arc<Calls>,
    provider: Arc<P>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The reply is complete; it is empty for what has none.
    Done,
    /// Nothing was appended. It is to be asked again when its call was woken.
    Wait,
}

impl<P: Provider + ?Sized> Server<P> {
    /// A server that awaits INIT.
    #[must_use]
    pub fn new(provider: Arc<P>) -> Self {
        Self {
            session: AtomicU64::new(0),
            handles: Handles::new(MAX_HANDLES),
            calls: Arc::default(),
            provider,
        }
    }

    /// Answers `request`, one whole message, by appending one whole message to `reply`. An operation that
    /// waits holds the thread; [`crate::Service`] has threads for that.
    ///
    /// Nothing is appended for what has no reply (FORGET, BATCH_FORGET, NOTIFY_REPLY, and INTERRUPT of a
    /// request that is under way) and for a message too short to have a header, which cannot be answered. The
    /// request may hold anything; work and memory for it are bounded by 1 MiB of data or of entries.
    pub fn handle(&self, request: &[u8], reply: &mut Vec<u8>) {
        let Some(header) = Header::parse(request) else {
            return;
        };
        let waker = Waker::from(Arc::new(Parked(std::thread::current())));
        let entered = self.calls.enter(header.unique, waker);
        while self.answer(&header, request, Some(entered.call()), reply) == Outcome::Wait {
            // A wake-up for nothing asks once more, which is harmless.
            std::thread::park();
        }
    }

    /// As [`Server::handle`], for a message whose header was read, without waiting. Only an operation that
    /// has a call can be woken and interrupted.
    pub(crate) fn answer(
        &self,
        header: &Header,
        request: &[u8],
        call: Option<&Arc<Call>>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let mut reply = Reply::begin(reply, header.unique);
        let operation = Operation::parse(header, request);
        let silent = match Opcode::from_number(header.opcode) {
            Some(Opcode::Forget | Opcode::BatchForget | Opcode::NotifyReply) => true,
            // The only reply that means something has the client ask again (`fuse_dev_do_write`).
            Some(Opcode::Interrupt) => match operation {
                Ok(Operation::Interrupt { unique }) => self.calls.interrupt(unique),
                _ => true,
            },
            _ => false,
        };
        let ctx = Context::of(header.caller, header.unique, call);
        let result =
            operation.and_then(|operation| self.dispatch(&ctx, header.node, operation, &mut reply));
        match result {
            _ if silent => reply.abandon(),
            Err(Errno::ERESTARTSYS) => {
                reply.abandon();
                return Outcome::Wait;
            }
            result => reply.finish(result),
        }
        Outcome::Done
    }

    pub(crate) fn provider(&self) -> &P {
        &self.provider
    }

    pub(crate) const fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    fn dispatch(
        &self,
        ctx: &Context,
        node: NodeId,
        op: Operation<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let fs = &*self.provider;
        let early = matches!(op, Operation::Init(_) | Operation::Interrupt { .. });
        if self.session.load(Ordering::Acquire) == 0 && !early {
            return Err(Errno::EIO);
        }
        match op {
            Operation::Init(init) => self.init(&init, reply)?,
            Operation::Destroy => {
                self.session.store(0, Ordering::Release);
                self.reset();
            }
            Operation::Lookup { name } => reply.lookup(&fs.lookup(ctx, node, name)?),
            Operation::Forget { count } => fs.forget(node, count),
            Operation::BatchForget(forgets) => {
                forgets.iter().for_each(|(node, count)| fs.forget(node, count));
            }
            Operation::GetAttr { handle, statx } => {
                let (attr, ttl) = self.attributes(ctx, node, handle)?;
                if statx { reply.statx(&attr, ttl) } else { reply.attr(&attr, ttl) }
            }
            Operation::ReadLink => reply.out.extend(fs.readlink(ctx, node)?),
            Operation::Access { mask } => fs.access(ctx, node, mask)?,
            Operation::GetXattr { name, size } => {
                self.only_with(|features| features.xattrs)?;
                reply.xattr(&fs.getxattr(ctx, node, name)?, size)?;
            }
            Operation::ListXattr { size } => {
                self.only_with(|features| features.xattrs)?;
                reply.xattr(&fs.listxattr(ctx, node)?, size)?;
            }
            Operation::StatFs => reply.statfs(&fs.statfs(ctx, node)?),
            Operation::SyncFs => fs.syncfs(ctx)?,
            Operation::Change(change) => {
                let changed = fs.change(ctx, node, &change)?;
                self.changed(changed, reply)?;
            }
            Operation::Interrupt { .. } => return Err(Errno::EAGAIN),
            Operation::Unanswered => {}
            Operation::Refused(errno) => return Err(errno),
            op => self.dispatch_open(ctx, node, &op, reply)?,
        }
        Ok(())
    }

    /// Operations of what is open, and those that open.
    fn dispatch_open(
        &self,
        ctx: &Context,
        node: NodeId,
        op: &Operation<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let fs = &*self.provider;
        match *op {
            Operation::Open { flags } => {
                self.unless_stateless(init::NO_OPEN_SUPPORT)?;
                let opened = fs.open(ctx, node, flags)?;
                reply.opened(self.handles.insert_file(node, opened.file)?, opened.caching, false);
            }
            Operation::OpenDir { flags } => {
                self.unless_stateless(init::NO_OPENDIR_SUPPORT)?;
                let opened = fs.opendir(ctx, node, flags)?;
                let handle = self.handles.insert_directory(node, opened.directory)?;
                reply.opened(handle, opened.caching, true);
            }
            Operation::Read(range) => {
                let file = self.file(ctx, node, range.handle)?;
                file.read(ctx, range.offset, range.size, reply.out)?;
            }
            Operation::ReadDir { range, plus } => {
                let directory = self.directory(ctx, node, range.handle)?;
                let mut buffer = DirBuffer::new(reply.out, range.size, plus);
                directory.readdir(ctx, range.offset, &mut buffer)?;
                if buffer.too_small() {
                    return Err(Errno::EINVAL);
                }
            }
            Operation::Lseek { handle, offset, whence } => {
                reply.number(self.file(ctx, node, handle)?.lseek(ctx, offset, whence)?);
            }
            Operation::Flush { handle, owner } => {
                self.only_with(|features| features.writes || features.locks)?;
                self.file(ctx, node, handle)?.flush(ctx, owner)?;
            }
            Operation::Fsync { handle, data_only } => {
                self.only_with(|features| features.writes)?;
                self.file(ctx, node, handle)?.fsync(ctx, data_only)?;
            }
            Operation::FsyncDir { handle, data_only } => {
                self.only_with(|features| features.writes)?;
                self.directory(ctx, node, handle)?.fsync(ctx, data_only)?;
            }
            Operation::GetLock { handle, lock } => {
                self.only_with(|features| features.locks)?;
                let held = self.file(ctx, node, handle)?.get_lock(ctx, &lock)?;
                reply.lock(&lock, held.as_ref());
            }
            Operation::SetLock { handle, lock, wait } => {
                self.only_with(|features| features.locks)?;
                self.file(ctx, node, handle)?.set_lock(ctx, &lock, wait)?;
            }
            Operation::Release { handle, release } => {
                self.handles.remove(ctx, node, handle, release)?;
            }
            Operation::ReleaseDir { handle } => {
                self.handles.remove(ctx, node, handle, crate::request::Release::default())?;
            }
            Operation::ChangeFile(handle, change) => {
                let changed = self.file(ctx, node, handle)?.change(ctx, &change)?;
                self.changed(changed, reply)?;
            }
            Operation::Copy(range) => self.copy(ctx, node, &range, reply)?,
            // The others are dispatched above.
            _ => return Err(Errno::ENOSYS),
        }
        Ok(())
    }

    /// Negotiates. A client with a newer major version sends INIT again for the one we name; one that
    /// begins anew, as after a reboot of the guest, has forgotten what it referred to.
    fn init(&self, client: &Init, reply: &mut Reply<'_>) -> Result<()> {
        if client.major > abi::MAJOR {
            reply.init(0, 0);
            return Ok(());
        }
        if client.major < abi::MAJOR || client.minor < abi::MIN_MINOR {
            return Err(Errno::EPROTO);
        }
        self.reset();
        let mut wanted = WANTED;
        let features = self.provider.features();
        if features.stateless {
            wanted |= init::NO_OPEN_SUPPORT | init::NO_OPENDIR_SUPPORT;
        }
        if features.locks {
            wanted |= init::POSIX_LOCKS | init::FLOCK_LOCKS;
        }
        let granted = client.flags & wanted;
        self.session.store(granted | READY, Ordering::Release);
        reply.init(client.max_readahead, granted);
        Ok(())
    }

    fn reset(&self) {
        self.handles.clear();
        self.provider.reset();
    }

    /// ENOSYS to the first open makes the client read by node from then on, for all files.
    fn unless_stateless(&self, flag: u64) -> Result<()> {
        if self.session.load(Ordering::Acquire) & flag == 0 { Ok(()) } else { Err(Errno::ENOSYS) }
    }

    /// ENOSYS for what no provider has ([`Features`]).
    fn only_with(&self, has: impl FnOnce(Features) -> bool) -> Result<()> {
        if has(self.provider.features()) { Ok(()) } else { Err(Errno::ENOSYS) }
    }

    fn file(&self, ctx: &Context, node: NodeId, handle: Handle) -> Result<FileRef> {
        if handle == Handle::NONE {
            return self.provider.file(ctx, node).map(FileRef::of_node);
        }
        self.handles.file(node, handle)
    }

    fn directory(&self, ctx: &Context, node: NodeId, handle: Handle) -> Result<DirRef> {
        if handle == Handle::NONE {
            return self.provider.directory(ctx, node).map(DirRef::of_node);
        }
        self.handles.directory(node, handle)
    }

    /// Of what is open, if the client names it: its node may have lost its name.
    fn attributes(
        &self,
        ctx: &Context,
        node: NodeId,
        handle: Option<Handle>,
    ) -> Result<(Attr, std::time::Duration)> {
        match handle {
            None => self.provider.getattr(ctx, node),
            Some(handle) => match self.handles.file(node, handle) {
                Ok(file) => file.getattr(ctx),
                Err(_) => self.handles.directory(node, handle)?.getattr(ctx),
            },
        }
    }

    /// Between two providers there is nothing that could copy: the client then reads and writes.
    fn copy(
        &self,
        ctx: &Context,
        node: NodeId,
        range: &CopyRange,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        if range.node.space() != node.space() {
            return Err(Errno::EXDEV);
        }
        let source = self.file(ctx, node, range.source)?;
        let target = self.file(ctx, range.node, range.target)?;
        let copy = Copy {
            source: &*source,
            source_offset: range.source_offset,
            offset: range.offset,
            length: range.length,
        };
        let changed = target.change(ctx, &FileChange::CopyFrom(copy))?;
        self.changed(changed, reply)
    }

    fn changed(&self, changed: Changed, reply: &mut Reply<'_>) -> Result<()> {
        match changed {
            Changed::Done => {}
            Changed::Attr(attr, ttl) => reply.attr(&attr, ttl),
            Changed::Entry(entry) => reply.lookup(&Lookup::Found(entry)),
            Changed::Created(entry, opened) => {
                let handle = self.handles.insert_file(entry.node, opened.file)?;
                reply.lookup(&Lookup::Found(entry));
                reply.opened(handle, opened.caching, false);
            }
            // `struct fuse_write_out` is a count and four bytes of padding.
            Changed::Written(count) => reply.number(u64::from(count)),
        }
        Ok(())
    }
}

/// Wakes a thread that waits in [`Server::handle`].
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
