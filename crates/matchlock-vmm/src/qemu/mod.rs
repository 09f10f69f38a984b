//! The QEMU back end: its microvm machine, with our devices at the other end of vhost-user sockets.

mod args;
mod disks;
mod events;
mod jail;
mod locate;
mod process;
mod vmdk;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use locate::QemuBinary;

use self::args::{Arguments, Machine, Timers};
use self::events::Events;
use self::process::Process;
use crate::accel::Accelerator;
use crate::error::VmmError;
use crate::vhost_user::fs::FsBackend;
use crate::vhost_user::vsock::{VsockConnector, VsockDevice};
use crate::{Answered, Backend, DiskFault, Proof, Vm, VmExit, VmSpec, Vmm};

/// Context id of the guest; each machine has a vsock device of its own, so ids need not differ.
const GUEST_CID: u64 = 3;

/// Pause between two attempts to reach a port that nobody listens on, unless the guest rings. Each
/// attempt interrupts a guest that is busy booting.
const REDIAL: Duration = Duration::from_millis(50);

/// A killed process is gone in milliseconds; a kernel that cannot end it must not hang us.
const GONE: Duration = Duration::from_secs(5);

/// Memory of a probe machine in MiB.
const PROBE_MEMORY_MIB: u32 = 128;

/// A QEMU that runs machines with one accelerator.
#[derive(Debug, Clone)]
pub struct Qemu {
    binary: QemuBinary,
    accelerator: Accelerator,
}

impl Qemu {
    /// Machines of this QEMU with this accelerator.
    #[must_use]
    pub fn new(binary: QemuBinary, accelerator: Accelerator) -> Self {
        Self { binary, accelerator }
    }

    fn timers(&self) -> Option<Timers> {
        let is_emulated = self.accelerator == Accelerator::Tcg;
        is_emulated.then(|| self.binary.tsc_khz()).flatten().map(|tsc_khz| Timers { tsc_khz })
    }

    /// Boots `kernel` with an initramfs that answers `matchlock.probe=TOKEN`.
    fn probe(&self, kernel: &File, initramfs: &File) -> Result<Probe, VmmError> {
        let mut token = [0; 16];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| VmmError::host("get random bytes")(errno.into()))?;
        let token = format!("{:032x}", u128::from_ne_bytes(token));
        let clone =
            |file: &File| file.try_clone().map_err(VmmError::host("duplicate a descriptor"));
        let machine = Machine {
            name: "probe",
            accelerator: self.accelerator,
            vcpus: 1,
            memory_mib: PROBE_MEMORY_MIB,
            timers: self.timers(),
            cmdline: &format!("matchlock.probe={token}"),
        };
        let arguments =
            Arguments::machine(machine, clone(kernel)?.into(), clone(initramfs)?.into());
        let process = Process::start(&self.binary, arguments, None)?;
        Ok(Probe { process, answer: format!("matchlock-probe-ok {token}") })
    }
}

/// A machine that is to answer on its console.
#[derive(Debug)]
struct Probe {
    process: Process,
    answer: String,
}

impl Probe {
    fn reason(exit: Option<VmExit>) -> String {
        let said = exit.map(|exit| exit.diagnostics).unwrap_or_default();
        match said.lines().next() {
            Some(line) if !line.is_empty() => line.to_owned(),
            _ => "a guest kernel does not boot on it".to_owned(),
        }
    }
}

impl Proof for Probe {
    fn wait(&self, limit: Duration) -> Option<Result<(), String>> {
        let deadline = Instant::now() + limit;
        if self.process.console().wait_for(&self.answer, deadline) {
            return Some(Ok(()));
        }
        // A console ends a moment before its process.
        let exit = self.process.wait(deadline.saturating_duration_since(Instant::now()))?;
        let answered = self.process.console().wait_for(&self.answer, deadline);
        Some(if answered { Ok(()) } else { Err(Self::reason(Some(exit))) })
    }

    fn give_up(self: Box<Self>) -> String {
        self.process.kill();
        Self::reason(self.process.wait(GONE))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.process.kill();
        drop(self.process.wait(GONE));
    }
}

impl Backend for QemuBinary {
    fn fingerprint(&self) -> String {
        self.fingerprint()
    }

    fn prove(
        &self,
        accelerator: Accelerator,
        kernel: &File,
        initramfs: &File,
    ) -> Result<Box<dyn Proof>, VmmError> {
        Ok(Box::new(Qemu::new(self.clone(), accelerator).probe(kernel, initramfs)?))
    }

    fn on(&self, accelerator: Accelerator) -> Arc<dyn Vmm> {
        Arc::new(Qemu::new(self.clone(), accelerator))
    }
}

impl Vmm for Qemu {
    fn start(&self, spec: VmSpec) -> Result<Box<dyn Vm>, VmmError> {
        disks::check(&spec)?;
        let VmSpec { name, kernel, initramfs, cmdline, vcpus, memory_mib, .. } = spec;
        let machine = Machine {
            name: &name,
            accelerator: self.accelerator,
            vcpus,
            memory_mib,
            timers: self.timers(),
            cmdline: &cmdline,
        };
        let mut arguments = Arguments::machine(machine, kernel.into(), initramfs.into());
        let (vsock, socket) =
            VsockDevice::start(GUEST_CID).map_err(VmmError::host("start the vsock device"))?;
        arguments.vsock(socket);
        let mut backends = Vec::new();
        for (index, device) in spec.filesystems.into_iter().enumerate() {
            let (backend, socket) = FsBackend::start(&device.tag, device.handler)
                .map_err(VmmError::host("start a file system device"))?;
            arguments.filesystem(index, &device.tag, socket);
            backends.push(backend);
        }
        for (index, disk) in spec.disks.into_iter().enumerate() {
            let source = disk.source.into();
            arguments
                .disk(index, source, disk.read_only, disk.ephemeral)
                .map_err(VmmError::host("describe a disk"))?;
        }
        if let Some(nic) = spec.nic {
            arguments.nic(nic.socket, nic.mac, nic.mtu);
        }
        let (ours, monitor) =
            UnixStream::pair().map_err(VmmError::host("make a socket pair for QEMU's monitor"))?;
        arguments.monitor(monitor.into());
        let process = Process::start(&self.binary, arguments, spec.console)?;
        let events = Events::follow(ours).map_err(VmmError::host("follow QEMU's monitor"))?;
        let connector = vsock.connector();
        Ok(Box::new(QemuVm { process, events, connector, _vsock: vsock, _filesystems: backends }))
    }
}

/// A machine of QEMU. The process is dropped, and so killed, before the devices that it uses.
#[derive(Debug)]
struct QemuVm {
    process: Process,
    events: Events,
    connector: VsockConnector,
    _vsock: VsockDevice,
    _filesystems: Vec<FsBackend>,
}

impl Vm for QemuVm {
    fn connect(&self, port: u32, deadline: Instant) -> io::Result<UnixStream> {
        loop {
            let seen = self.connector.guest_requests();
            match self.connector.connect(port, deadline) {
                // Nothing listens yet: the guest is between its driver's start and its agent's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    if self.process.has_ended() {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(error);
                    }
                    self.connector.wait_for_guest(seen, left.min(REDIAL));
                }
                other => return other,
            }
        }
    }

    fn dial(&self, port: u32, answered: Answered) -> io::Result<UnixStream> {
        self.connector.dial(port, answered)
    }

    fn wait(&self, timeout: Duration) -> Option<VmExit> {
        self.process.wait(timeout)
    }

    fn kill(&self) {
        self.process.kill();
    }

    fn console_tail(&self) -> String {
        self.process.console().text()
    }

    fn disk_fault(&self) -> Option<DiskFault> {
        self.events.first_fault()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }
}

impl Drop for QemuVm {
    fn drop(&mut self) {
        self.process.kill();
        drop(self.process.wait(GONE));
    }
}
