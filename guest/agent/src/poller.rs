//! epoll with interest as a function of state.
//!
//! A descriptor without interest is not registered at all: epoll reports hang-ups even for an empty
//! set of events, and a level-triggered loop would spin on them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

pub(crate) use rustix::event::epoll::EventFlags;

/// Events fetched with one call.
const BATCH: usize = 64;

/// A set of descriptors to wait for.
#[derive(Debug, Clone)]
pub(crate) struct Poller {
    epoll: Rc<OwnedFd>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?) })
    }

    /// Watches `fd` under `token`; nothing is reported until [`Watched::want`] asks for it.
    pub(crate) fn watch(&self, fd: OwnedFd, token: u64) -> Watched {
        Watched { fd, token, armed: EventFlags::empty(), epoll: Rc::clone(&self.epoll) }
    }

    /// Waits until something is ready or the time has passed, and appends the tokens.
    pub(crate) fn wait(
        &self,
        timeout: Option<std::time::Duration>,
        ready: &mut Vec<(u64, EventFlags)>,
    ) -> io::Result<()> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        let mut events = Vec::with_capacity(BATCH);
        match epoll::wait(&*self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        ready.extend(events.iter().map(|event| (event.data.u64(), event.flags)));
        Ok(())
    }
}

/// A descriptor that belongs to a [`Poller`].
#[derive(Debug)]
pub(crate) struct Watched {
    fd: OwnedFd,
    token: u64,
    armed: EventFlags,
    epoll: Rc<OwnedFd>,
}

impl Watched {
    /// Reports these events from now on, and no others.
    pub(crate) fn want(&mut self, wanted: EventFlags) -> io::Result<()> {
        if wanted == self.armed {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(self.token);
        match (self.armed.is_empty(), wanted.is_empty()) {
            (true, _) => epoll::add(&*self.epoll, &self.fd, data, wanted)?,
            (false, true) => epoll::delete(&*self.epoll, &self.fd)?,
            (false, false) => epoll::modify(&*self.epoll, &self.fd, data, wanted)?,
        }
        self.armed = wanted;
        Ok(())
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A child that was just cloned may hold a copy, which would keep the registration alive.
        let _gone_with_the_descriptor = self.want(EventFlags::empty());
    }
}
