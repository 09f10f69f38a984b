//! A machine without a machine: for tests of everything above the back ends.
//!
//! What would be the guest is a function of the test's own; it is given each connection that the
//! host dials. [`Fake::seen`] is what the machines were asked to be.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::VmmError;
use crate::{Accelerator, Answered, Backend, DiskSource, Proof, Vm, VmExit, VmSpec, Vmm};

/// Called with the port and the guest's end of each connection; `false` refuses it.
type Guest = dyn Fn(u32, UnixStream) -> bool + Send + Sync;

/// Called when a machine is to end, with what it was given.
type Farewell = dyn Fn(&VmSpec) + Send + Sync;

/// A back end whose guests are a function.
#[derive(Clone)]
pub struct Fake {
    guest: Arc<Guest>,
    farewell: Arc<Farewell>,
    console: Arc<[u8]>,
    seen: Arc<Mutex<Vec<Seen>>>,
    ends: Arc<Mutex<Vec<Arc<End>>>>,
}

/// What a machine was asked to be: a [`VmSpec`] without its descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Shown in process listings.
    pub name: String,
    /// Kernel command line beyond what the back end itself needs.
    pub cmdline: String,
    /// Number of virtual CPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Of each disk: its length in bytes, whether it refuses writes, whether it ends with the machine.
    pub disks: Vec<(u64, bool, bool)>,
    /// Tags of the virtio-fs devices.
    pub filesystems: Vec<String>,
    /// MTU of the network device.
    pub mtu: Option<u16>,
}

/// Whether a machine has ended, and how.
#[derive(Debug, Default)]
struct End {
    exit: Mutex<Option<VmExit>>,
    changed: Condvar,
}

impl Fake {
    /// Machines whose guest is `guest`.
    pub fn new(guest: impl Fn(u32, UnixStream) -> bool + Send + Sync + 'static) -> Self {
        let farewell: Arc<Farewell> = Arc::new(|_| {});
        let (console, seen, ends) = Default::default();
        Self { guest: Arc::new(guest), farewell, console, seen, ends }
    }

    /// Looks around each time that a machine is told to end, while it still runs.
    #[must_use]
    pub fn at_end(self, farewell: impl Fn(&VmSpec) + Send + Sync + 'static) -> Self {
        Self { farewell: Arc::new(farewell), ..self }
    }

    /// Each machine writes this to its console when it starts.
    #[must_use]
    pub fn saying(self, console: &[u8]) -> Self {
        Self { console: console.into(), ..self }
    }

    /// What the machines were asked to be, in the order of their starts.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// Lets every machine end by itself. A monitor that says something has died.
    pub fn end_all(&self, diagnostics: &str) {
        for end in lock(&self.ends).iter() {
            let clean = diagnostics.is_empty();
            end.now(VmExit { clean, diagnostics: diagnostics.to_owned() });
        }
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Backend for Fake {
    fn fingerprint(&self) -> String {
        "fake".to_owned()
    }

    fn prove(
        &self,
        _accelerator: Accelerator,
        _kernel: &File,
        _initramfs: &File,
    ) -> Result<Box<dyn Proof>, VmmError> {
        Ok(Box::new(Proven))
    }

    fn on(&self, _accelerator: Accelerator) -> Arc<dyn Vmm> {
        Arc::new(self.clone())
    }
}

#[derive(Debug)]
struct Proven;

impl Proof for Proven {
    fn wait(&self, _limit: Duration) -> Option<Result<(), String>> {
        Some(Ok(()))
    }

    fn give_up(self: Box<Self>) -> String {
        String::new()
    }
}

impl Vmm for Fake {
    fn start(&self, mut spec: VmSpec) -> Result<Box<dyn Vm>, VmmError> {
        if let Some(sink) = &mut spec.console {
            sink.put(&self.console);
        }
        lock(&self.seen).push(Seen::of(&spec));
        let end = Arc::new(End::default());
        lock(&self.ends).push(Arc::clone(&end));
        Ok(Box::new(FakeVm { guest: self.clone(), spec, end }))
    }
}

impl Seen {
    fn of(spec: &VmSpec) -> Self {
        let length = |file: &File| file.metadata().map_or(0, |meta| meta.len());
        let disks = spec.disks.iter().map(|disk| {
            let bytes = match &disk.source {
                DiskSource::File(file) => length(file),
                DiskSource::Concatenated(parts) => parts.iter().map(|(_, bytes)| bytes).sum(),
            };
            (bytes, disk.read_only, disk.ephemeral)
        });
        Self {
            name: spec.name.clone(),
            cmdline: spec.cmdline.clone(),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disks: disks.collect(),
            filesystems: spec.filesystems.iter().map(|device| device.tag.clone()).collect(),
            mtu: spec.nic.as_ref().map(|nic| nic.mtu),
        }
    }
}

impl End {
    /// The first end counts.
    fn now(&self, exit: VmExit) {
        lock(&self.exit).get_or_insert(exit);
        self.changed.notify_all();
    }
}

/// Holds the description, so that what it owns lives as long as with a real machine.
#[derive(Debug)]
struct FakeVm {
    guest: Fake,
    spec: VmSpec,
    end: Arc<End>,
}

impl Vm for FakeVm {
    fn dial(&self, port: u32, answered: Answered) -> io::Result<UnixStream> {
        if lock(&self.end.exit).is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (host, guest) = UnixStream::pair()?;
        let refused = || io::ErrorKind::ConnectionRefused.into();
        answered.tell(if (self.guest.guest)(port, guest) { Ok(()) } else { Err(refused()) });
        Ok(host)
    }

    fn connect(&self, port: u32, _deadline: Instant) -> io::Result<UnixStream> {
        let (answer, answered) = std::sync::mpsc::channel();
        let stream = self.dial(port, Answered::new(move |result| drop(answer.send(result))))?;
        answered.recv().map_err(io::Error::other)?.map(|()| stream)
    }

    fn wait(&self, timeout: Duration) -> Option<VmExit> {
        let exit = lock(&self.end.exit);
        let timeout = timeout.min(Duration::from_secs(3600));
        let waited = self.end.changed.wait_timeout_while(exit, timeout, |exit| exit.is_none());
        let (exit, _) = waited.unwrap_or_else(PoisonError::into_inner);
        exit.clone()
    }

    fn kill(&self) {
        (self.guest.farewell)(&self.spec);
        self.end.now(VmExit { clean: true, diagnostics: String::new() });
    }

    fn console_tail(&self) -> String {
        String::new()
    }

    fn pid(&self) -> Option<u32> {
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
