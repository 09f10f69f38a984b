//! A pump between the kernel's own FUSE client and a server: the same messages as from a guest.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use matchlock_fs::{Provider, Server};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A mounted server. Dropping it unmounts and ends the pump.
#[derive(Debug)]
pub(crate) struct Mounted {
    directory: tempfile::TempDir,
    pumps: Vec<JoinHandle<()>>,
    messages: Arc<[AtomicU64; 64]>,
}

impl Mounted {
    /// Mounts `provider`, or says why that is not possible here.
    pub(crate) fn new<P: Provider + ?Sized + 'static>(provider: Arc<P>) -> Result<Self, String> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let device = rustix::fs::open("/dev/fuse", flags, Mode::empty())
            .map_err(|error| format!("/dev/fuse: {error}"))?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
        mount("matchlock", directory.path(), "fuse.matchlock", flags, &*options)
            .map_err(|error| format!("mount: {error}"))?;
        let (server, device) = (Arc::new(Server::new(provider)), Arc::new(device));
        let messages = Arc::new([const { AtomicU64::new(0) }; 64]);
        let pumps = (0..2).map(|_| {
            let (server, device, messages) = (server.clone(), device.clone(), messages.clone());
            std::thread::spawn(move || pump(&server, &device, &messages))
        });
        Ok(Self { directory, pumps: pumps.collect(), messages })
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Messages with an operation number so far.
    pub(crate) fn messages(&self, opcode: usize) -> u64 {
        self.messages[opcode].load(Ordering::Relaxed)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(self.directory.path(), UnmountFlags::DETACH).expect("unmounts");
        for pump in self.pumps.drain(..) {
            pump.join().expect("pump ends by itself");
        }
    }
}

/// Answers until the mount is gone (`ENODEV`).
fn pump<P: Provider + ?Sized>(server: &Server<P>, device: &OwnedFd, counts: &[AtomicU64; 64]) {
    let device = File::from(device.try_clone().expect("descriptor"));
    let (mut request, mut reply) = (vec![0; 1024 * 1024 + 65536], Vec::new());
    loop {
        let len = match std::io::Read::read(&mut &device, &mut request) {
            Ok(len) => len,
            Err(error) if error.raw_os_error() == Some(19) => return,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => {
                continue;
            }
            Err(error) => panic!("/dev/fuse: {error}"),
        };
        if let Some(count) = counts.get(usize::from(request[4])) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        reply.clear();
        server.handle(&request[..len], &mut reply);
        if !reply.is_empty() {
            // An interrupted request is gone (ENOENT); everything else must be a valid reply.
            match std::io::Write::write(&mut &device, &reply) {
                Ok(written) => assert_eq!(written, reply.len()),
                Err(error) if matches!(error.raw_os_error(), Some(2 | 19)) => {}
                Err(error) => panic!(
                    "the kernel refuses a reply of {} bytes to {}: {error}",
                    reply.len(),
                    request[4]
                ),
            }
        }
    }
}
