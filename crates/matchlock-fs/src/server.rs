//! The dispatcher: one request in, one reply out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{self, init};
use crate::provider::Provider;
use crate::reply::{DirBuffer, Reply};
use crate::request::{Changed, Header, Init, Operation};
use crate::types::{Errno, Lookup, Result};

/// What we ask for, of what the client offers.
///
/// - `ASYNC_READ`, `PARALLEL_DIROPS`: nothing here depends on order.
/// - `AUTO_INVAL_DATA`: fresher attributes drop stale pages; costs no message before they expire.
/// - `DO_READDIRPLUS`, `READDIRPLUS_AUTO`: `ls -l` without a LOOKUP for each name.
/// - `MAX_PAGES`: reads of 1 MiB instead of 128 KiB.
/// - `CACHE_SYMLINKS`: a link is text; most exec paths begin with one (`/bin`, `/lib64`).
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
    provider: Arc<P>,
}

impl<P: Provider + ?Sized> Server<P> {
    /// A server that awaits INIT.
    #[must_use]
    pub const fn new(provider: Arc<P>) -> Self {
        Self { session: AtomicU64::new(0), provider }
    }

    /// Answers `request`, one whole message, by appending one whole message to `reply`.
    ///
    /// Nothing is appended for what has no reply (FORGET, BATCH_FORGET, INTERRUPT) and for a message too
    /// short to have a header, which cannot be answered. The request may hold anything; work and memory for
    /// it are bounded by 1 MiB of data or of entries.
    pub fn handle(&self, request: &[u8], reply: &mut Vec<u8>) {
        let Some(header) = Header::parse(request) else {
            return;
        };
        let mut reply = Reply::begin(reply, header.unique);
        let operation = Operation::parse(&header, request);
        let silent = [abi::Opcode::Forget, abi::Opcode::BatchForget, abi::Opcode::Interrupt]
            .iter()
            .chain(&[abi::Opcode::NotifyReply])
            .any(|opcode| *opcode as u32 == header.opcode);
        let result = operation.and_then(|operation| self.dispatch(&header, operation, &mut reply));
        if silent {
            reply.abandon();
        } else {
            reply.finish(result);
        }
    }

    fn dispatch(&self, header: &Header, op: Operation<'_>, reply: &mut Reply<'_>) -> Result<()> {
        let (node, fs) = (header.node, &*self.provider);
        if self.session.load(Ordering::Acquire) == 0 && !matches!(op, Operation::Init(_)) {
            return Err(Errno::EIO);
        }
        match op {
            Operation::Init(init) => self.init(&init, reply)?,
            Operation::Destroy => {
                self.session.store(0, Ordering::Release);
                fs.reset();
            }
            Operation::Lookup { name } => reply.lookup(&fs.lookup(node, name)?),
            Operation::Forget { count } => fs.forget(node, count),
            Operation::BatchForget(forgets) => {
                forgets.iter().for_each(|(node, count)| fs.forget(node, count));
            }
            Operation::GetAttr { handle } => {
                let (attr, ttl) = fs.getattr(node, handle)?;
                reply.attr(&attr, ttl);
            }
            Operation::ReadLink => reply.out.extend(fs.readlink(node)?),
            Operation::Open { flags } => {
                self.unless_stateless(init::NO_OPEN_SUPPORT)?;
                reply.opened(fs.open(node, flags)?, false);
            }
            Operation::Read(range) => {
                fs.read(node, range.handle, range.offset, range.size, reply.out)?;
            }
            Operation::Lseek { handle, offset, whence } => {
                reply.number(fs.lseek(node, handle, offset, whence)?);
            }
            Operation::Release { handle } => fs.release(node, handle),
            Operation::OpenDir => {
                self.unless_stateless(init::NO_OPENDIR_SUPPORT)?;
                reply.opened(fs.opendir(node)?, true);
            }
            Operation::ReadDir { range, plus } => {
                let mut buffer = DirBuffer::new(reply.out, range.size, plus);
                fs.readdir(node, range.handle, range.offset, &mut buffer)?;
                if buffer.too_small() {
                    return Err(Errno::EINVAL);
                }
            }
            Operation::ReleaseDir { handle } => fs.releasedir(node, handle),
            Operation::StatFs => reply.statfs(&fs.statfs(node)?),
            Operation::Change(change) => self.change(header, &change, reply)?,
            Operation::Unanswered => {}
            Operation::Unsupported => return Err(Errno::ENOSYS),
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
        self.provider.reset();
        let mut wanted = WANTED;
        if self.provider.stateless() {
            wanted |= init::NO_OPEN_SUPPORT | init::NO_OPENDIR_SUPPORT;
        }
        let granted = client.flags & wanted;
        self.session.store(granted | READY, Ordering::Release);
        reply.init(client.max_readahead, granted);
        Ok(())
    }

    /// ENOSYS to the first open makes the client read by node from then on, for all files.
    fn unless_stateless(&self, flag: u64) -> Result<()> {
        if self.session.load(Ordering::Acquire) & flag == 0 { Ok(()) } else { Err(Errno::ENOSYS) }
    }

    fn change(
        &self,
        header: &Header,
        change: &crate::request::Change<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        match self.provider.change(header.node, change)? {
            Changed::Done => {}
            Changed::Attr(attr, ttl) => reply.attr(&attr, ttl),
            Changed::Entry(entry) => reply.lookup(&Lookup::Found(entry)),
            Changed::Created(entry, opened) => {
                reply.lookup(&Lookup::Found(entry));
                reply.opened(opened, false);
            }
            // `struct fuse_write_out` is a count and four bytes of padding.
            Changed::Written(count) => reply.number(u64::from(count)),
        }
        Ok(())
    }
}
