//! A machine under QEMU for tests of the devices: our back ends, and a guest that only serves them.
#![expect(clippy::disallowed_methods, reason = "a test asks for its surroundings")]

mod cpio;
pub(crate) mod fuse;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use matchlock_testkit::{TEST_KERNEL, skip, wait_until};
use matchlock_vmm::vhost_user::fs::FsBackend;
use matchlock_vmm::vhost_user::vsock::VsockDevice;

const CID: u64 = 3;
/// Long enough for a software-emulated boot on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running machine; dropping it kills QEMU.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) qemu: Child,
    initramfs: PathBuf,
    console: PathBuf,
    pub(crate) vsock: VsockDevice,
    _fs: FsBackend,
}

impl Machine {
    /// Boots, or says why it cannot.
    pub(crate) fn boot() -> Option<Self> {
        let Some(kernel) = std::env::var_os(TEST_KERNEL) else {
            skip("MATCHLOCK_TEST_KERNEL names no guest kernel (a vmlinux)");
            return None;
        };
        if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
            skip("no qemu-system-x86_64");
            return None;
        }
        let init = build_init()?;
        Some(Self::start(&kernel, &init).expect("start QEMU"))
    }

    fn start(kernel: &std::ffi::OsStr, init: &std::path::Path) -> io::Result<Self> {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let name = format!("{}-{:?}", std::process::id(), std::thread::current().id());
        let (initramfs, console) =
            (dir.join(format!("{name}.cpio")), dir.join(format!("{name}.console")));
        cpio::write(&initramfs, &std::fs::read(init)?)?;
        let (vsock, vsock_fd) = VsockDevice::start(CID)?;
        let (fs, fs_fd) = FsBackend::start("root", Arc::new(fuse::OneFile))?;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args("-nodefaults -no-user-config -display none -no-reboot".split(' '))
            // Without "enhanced rep movsb" Linux copies eight bytes a step, which emulation needs.
            // One vCPU, because before 8.1 QEMU may run stale code where a Linux with several patches
            // itself ("Oops: int3" at boot, about once in 15).
            .args("-accel tcg -cpu max,-erms -smp 1 -m 512M".split(' '))
            .args(["-M", "microvm,acpi=off,memory-backend=mem"])
            .args(["-object", "memory-backend-memfd,id=mem,size=512M,share=on"])
            .args(["-global", "virtio-mmio.force-legacy=false"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", "console=ttyS0 panic=-1 random.trust_cpu=on"])
            .arg("-serial")
            .arg({
                let mut file = OsString::from("file:");
                file.push(&console);
                file
            })
            .args(["-device", "virtio-rng-device"])
            .args(["-chardev", &format!("socket,id=vs,fd={}", inherit(&vsock_fd)?)])
            .args(["-device", "vhost-user-vsock-device,chardev=vs"])
            .args(["-chardev", &format!("socket,id=fs0,fd={}", inherit(&fs_fd)?)])
            .args([
                "-device",
                "vhost-user-fs-device,chardev=fs0,tag=root,queue-size=1024,num-request-queues=1",
            ])
            .stdin(Stdio::null());
        let qemu = command.spawn()?;
        Ok(Self { qemu, initramfs, console, vsock, _fs: fs })
    }

    /// Connects to a port of the guest; while it boots nobody listens yet.
    pub(crate) fn connect(&self, port: u32) -> UnixStream {
        let deadline = Instant::now() + PATIENCE;
        wait_until(&format!("a guest that listens on {port}"), PATIENCE, || {
            match self.vsock.connector().connect(port, deadline) {
                Ok(stream) => Some(stream),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => None,
                Err(error) => panic!("connect: {error}; console: {}", self.console()),
            }
        })
    }

    pub(crate) fn console(&self) -> String {
        let mut text = Vec::new();
        let _ = File::open(&self.console).and_then(|mut file| file.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        for file in [&self.initramfs, &self.console] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Lets the child have the descriptor under its number here.
fn inherit(fd: &OwnedFd) -> io::Result<i32> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    Ok(fd.as_raw_fd())
}

/// Compiles the guest's PID 1 into a static binary.
fn build_init() -> Option<PathBuf> {
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guest-init");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/init.rs");
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args("--edition 2024 --target x86_64-unknown-linux-musl -O -C panic=abort".split(' '))
        .arg(source)
        .arg("-o")
        .arg(&output)
        .status();
    if status.is_ok_and(|status| status.success()) {
        return Some(output);
    }
    skip("rustc cannot build for x86_64-unknown-linux-musl");
    None
}
