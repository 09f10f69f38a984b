//! The machines that the cases share.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use matchlock_core::hooks::Rules;
use matchlock_core::net::ProxySettings;
use matchlock_core::policy::Policy;
use matchlock_core::vmm::{Accelerator, Qemu, QemuBinary};
use matchlock_core::{
    Artefacts, CoreError, Cpus, DescribeChain, DiskSize, DiskTemplate, Image, KernelSource,
    MemorySize, Mtu, NetworkSettings, Sandbox, SandboxConfig, StateRoot,
};
use matchlock_testkit::{leaks, repository, wait_until};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// How long a case may take. The largest runs 256 programs, and an emulated machine shares the host
/// with other tests.
const LIMIT: Duration = Duration::from_secs(600);

/// Host name of every sandbox.
pub(crate) const HOSTNAME: &str = "box-under-test";

/// A variable in the environment of every sandbox.
pub(crate) const SANDBOX_VARIABLE: (&[u8], &[u8]) = (b"SANDBOX_LEVEL", b"from the sandbox");

/// A machine that is booted by the first case that wants it; `Err` is why it could not be.
type Shared = OnceCell<Result<Sandbox, String>>;

/// Runtime, state and shared machines.
#[derive(Debug)]
pub(crate) struct Lab {
    runtime: Option<Runtime>,
    home: TempDir,
    plain: Shared,
    privileged: Shared,
    half: Shared,
}

/// What this process holds of the system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    descriptors: usize,
    threads: usize,
    children: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build();
        Self {
            runtime: Some(runtime.expect("a runtime")),
            home: tempfile::Builder::new().prefix("mlab").tempdir().expect("a directory"),
            plain: Shared::new(),
            privileged: Shared::new(),
            half: Shared::new(),
        }
    }

    /// Runs one case, for a limited time.
    pub(crate) fn block_on(&self, name: &str, case: impl Future<Output = ()>) {
        let runtime = self.runtime.as_ref().expect("not torn down yet");
        let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, case).await });
        assert!(ended.is_ok(), "not done within {LIMIT:?}: {name}");
    }

    /// The state of all sandboxes is below it.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A sandbox as users have it.
    pub(crate) async fn plain(&self) -> &Sandbox {
        self.shared(&self.plain, config()).await
    }

    /// A sandbox with `privileged`.
    pub(crate) async fn privileged(&self) -> &Sandbox {
        self.shared(&self.privileged, SandboxConfig { privileged: true, ..config() }).await
    }

    /// A sandbox with half of a CPU.
    pub(crate) async fn half(&self) -> &Sandbox {
        let cpus = Cpus::new(0.5, 1).expect("valid");
        // Without a network too: one machine less to boot.
        self.shared(&self.half, SandboxConfig { cpus, network: None, ..config() }).await
    }

    /// A sandbox without a network device.
    pub(crate) async fn offline(&self) -> &Sandbox {
        self.half().await
    }

    /// A sandbox for one case, who has to end it.
    pub(crate) async fn own(&self, config: SandboxConfig) -> Result<Sandbox, CoreError> {
        let files = ARTEFACTS.open(&KernelSource::Embedded)?;
        let path = std::env::var_os("PATH");
        let qemu = QemuBinary::locate(None, path.as_deref(), None).map_err(CoreError::Vmm)?;
        // Emulation always: this machine's KVM, if any, must not decide what a test sees.
        let vmm = Qemu::new(qemu, Accelerator::Tcg);
        let state = StateRoot::in_home(self.home());
        Sandbox::start(config, &vmm, files, &ARTEFACTS, &state).await
    }

    async fn shared<'a>(&'a self, cell: &'a Shared, config: SandboxConfig) -> &'a Sandbox {
        let booted = cell.get_or_init(|| async {
            self.own(config).await.map_err(|error| DescribeChain(&error).to_string())
        });
        booted.await.as_ref().unwrap_or_else(|error| panic!("no sandbox: {error}"))
    }

    /// Ends everything and checks that nothing is left.
    pub(crate) fn tear_down(&mut self, before: &Footprint, limit: Duration) {
        let runtime = self.runtime.take().expect("torn down once");
        for shared in [&mut self.plain, &mut self.privileged, &mut self.half] {
            if let Some(Ok(sandbox)) = shared.take() {
                runtime.block_on(sandbox.stop(Duration::from_millis(100)));
            }
        }
        drop(runtime);
        let deadline = Instant::now() + limit;
        let (left, now) = wait_until("an end to what is left", limit * 2, || {
            let (left, now) = (leaks(self.home.path()), Footprint::now());
            let is_clean = left.is_empty() && now == *before;
            (is_clean || Instant::now() > deadline).then_some((left, now))
        });
        assert!(left.is_empty(), "left of the sandboxes: {left:#?}");
        assert_eq!(now, *before, "left in this process");
    }
}

impl Footprint {
    /// As it is now, the descriptor of the listing included.
    pub(crate) fn now() -> Self {
        let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
        let children = entries("/proc/self/task")
            .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        Self {
            descriptors: entries("/proc/self/fd").count(),
            children: children.collect(),
            threads: entries("/proc/self/task").count(),
        }
    }
}

/// What sandboxes have when a case asks for nothing else.
pub(crate) fn config() -> SandboxConfig {
    let (name, value) = SANDBOX_VARIABLE;
    SandboxConfig {
        image: Image::Host,
        cpus: Cpus::new(1.0, 1).expect("valid"),
        memory: MemorySize::new(512, 512).expect("valid"),
        disk: DiskSize::new(1024).expect("valid"),
        disks: Vec::new(),
        export: false,
        hostname: Some(HOSTNAME.parse().expect("valid")),
        privileged: false,
        env: vec![(name.to_vec(), value.to_vec())],
        hosts: Vec::new(),
        network: Some(sealed()),
        audit_log: None,
        extra_cmdline: String::new(),
    }
}

/// A network that nothing can be reached over.
fn sealed() -> NetworkSettings {
    NetworkSettings {
        mtu: Mtu::default(),
        policy: Policy::default(),
        rules: Rules::default(),
        callback_socket: None,
        dns_servers: Vec::new(),
        upstream_ca: Vec::new(),
        proxy: ProxySettings::default(),
    }
}

/// What the binary would carry.
pub(crate) static ARTEFACTS: LazyLock<Artefacts> = LazyLock::new(|| {
    let initramfs = std::env::var_os("MATCHLOCK_INITRAMFS");
    Artefacts {
        kernel: read(&repository().join("guest/kernel/vmlinux-x86_64.zst")),
        initramfs: read(Path::new(&initramfs.expect("set by .cargo/config.toml"))),
        disk_templates: vec![
            DiskTemplate {
                size: 16 << 20,
                image: read(&repository().join("guest/rootfs/upper.ext4.zst")),
            },
            DiskTemplate {
                size: 2 << 30,
                image: read(&repository().join("guest/rootfs/upper-2g.ext4.zst")),
            },
        ]
        .leak(),
        volume_template: DiskTemplate {
            size: 64 << 20,
            image: read(&repository().join("guest/rootfs/volume.ext4.zst")),
        },
        digest: "end-to-end tests",
    }
});

fn read(path: &Path) -> &'static [u8] {
    let bytes = fs::read(path);
    bytes
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask guest`", path.display()))
        .leak()
}
