//! A machine without a machine: for tests of everything above the back ends.
//!
//! What would be the guest is a function of the test's own; it is given each connection that the
//! host dials, on a thread of its own.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::VmmError;
use crate::{Vm, VmExit, VmSpec, Vmm};

/// Called with the port and the guest's end of each connection; `false` refuses it.
type Guest = dyn Fn(u32, UnixStream) -> bool + Send + Sync;

/// A back end whose guests are a function.
#[derive(Clone)]
pub struct Fake {
    guest: Arc<Guest>,
}

impl Fake {
    /// Machines whose guest is `guest`.
    pub fn new(guest: impl Fn(u32, UnixStream) -> bool + Send + Sync + 'static) -> Self {
        Self { guest: Arc::new(guest) }
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Vmm for Fake {
    fn start(&self, spec: VmSpec) -> Result<Box<dyn Vm>, VmmError> {
        Ok(Box::new(FakeVm {
            guest: self.clone(),
            _spec: spec,
            ended: Mutex::new(false),
            changed: Condvar::new(),
        }))
    }
}

/// Holds the description, so that what it owns lives as long as with a real machine.
#[derive(Debug)]
struct FakeVm {
    guest: Fake,
    _spec: VmSpec,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Vm for FakeVm {
    fn connect(&self, port: u32, _deadline: Instant) -> io::Result<UnixStream> {
        if *self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (host, guest) = UnixStream::pair()?;
        if (self.guest.guest)(port, guest) {
            Ok(host)
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    fn wait(&self, timeout: Duration) -> Option<VmExit> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (ended, _) = self
            .changed
            .wait_timeout_while(ended, timeout.min(Duration::from_secs(3600)), |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        ended.then(|| VmExit { clean: true, diagnostics: String::new() })
    }

    fn kill(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn console_tail(&self) -> String {
        String::new()
    }

    fn pid(&self) -> Option<u32> {
        None
    }
}
