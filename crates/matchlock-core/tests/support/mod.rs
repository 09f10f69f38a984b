//! A scripted guest, and a sandbox around it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use matchlock_core::vmm::{AcceleratorRequest, Fake};
use matchlock_core::{
    Artefacts, Attachments, ConfinementSpec, CoreError, Cpus, DiskSize, DiskTemplate, GuestFiles,
    HostSetup, ImageSpec, KernelSource, Launcher, Lifetime, Limits, MemorySize, SandboxHandle,
    SandboxSpec, StateRoot,
};
use matchlock_proto::{AgentFrame, BootReport, Decoder, HostFrame, Request, WireMessage};

/// The guest's end of one connection.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    decoder: Decoder<HostFrame>,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
        Self { stream, decoder: Decoder::new() }
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<HostFrame> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next().expect("the host keeps the protocol") {
                return Some(frame);
            }
            match self.stream.read(&mut buffer).expect("read") {
                0 => return None,
                n => self.decoder.push(&buffer[..n]),
            }
        }
    }

    pub(crate) fn send(&mut self, frame: &AgentFrame) -> bool {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes).is_ok()
    }
}

/// A guest that hands every request to `handle`, on a thread of its own.
pub(crate) fn serve(handle: impl Fn(Request, Peer) + Clone + Send + Sync + 'static) -> Fake {
    Fake::new(move |_port, stream| {
        let handle = handle.clone();
        std::thread::spawn(move || {
            let mut peer = Peer::new(stream);
            match peer.receive() {
                // Every guest is told the time now and then.
                Some(HostFrame::Open(request)) if matches!(*request, Request::Clock(_)) => {
                    peer.send(&AgentFrame::Done);
                }
                Some(HostFrame::Open(request)) => handle(*request, peer),
                other => panic!("a request comes first, not {other:?}"),
            }
        });
        true
    })
}

pub(crate) fn report() -> BootReport {
    BootReport { agent_start_us: 1, config_us: 2, root_us: 3, ready_us: 4, kernel: "test".into() }
}

pub(crate) fn spec() -> SandboxSpec {
    SandboxSpec {
        name: None,
        image: ImageSpec::Host,
        cpus: Cpus::new(1.0, 1).expect("valid"),
        memory: MemorySize::new(64, 64).expect("valid"),
        disk: DiskSize::new(64).expect("valid"),
        disks: Vec::new(),
        export: false,
        hostname: None,
        confinement: ConfinementSpec::default(),
        limits: Limits::default(),
        env: Vec::new(),
        hosts: Vec::new(),
        network: None,
        audit_log: None,
        start: None,
        lifetime: Lifetime::default(),
    }
}

pub(crate) async fn start(
    spec: SandboxSpec,
    with: Attachments,
    home: &Path,
    vmm: &Fake,
) -> Result<SandboxHandle, Arc<CoreError>> {
    launcher(home, vmm).start(spec, with).await
}

/// Starts sandboxes whose state is below `home`.
pub(crate) fn launcher(home: &Path, vmm: &Fake) -> Launcher {
    let template = zstd::encode_all(&[][..], 1).expect("encode").leak();
    let volume_template = DiskTemplate { size: 4096, image: template };
    let artefacts = Artefacts {
        kernel: &[],
        initramfs: &[],
        disk_templates: vec![volume_template].leak(),
        volume_template,
        digest: "test",
    };
    let null = || File::open("/dev/null").expect("open");
    let guest = GuestFiles { kernel: null(), initramfs: null(), id: String::new() };
    let setup = HostSetup {
        state: StateRoot::in_home(home),
        cache: home.join("cache"),
        qemu: None,
        path: None,
        accelerator: AcceleratorRequest::Tcg,
        kernel: KernelSource::Embedded,
        kernel_parameters: String::new(),
        artefacts,
    };
    Launcher::with(&setup, vmm, guest).expect("a launcher")
}

/// Names of what is left in the directory of all sandboxes.
pub(crate) fn left(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home.join(".matchlock/vms")).expect("list").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
