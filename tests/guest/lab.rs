//! The machines that the cases share.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use matchlock_core::image::store::RootImage;
use matchlock_core::vmm::AcceleratorRequest;
use matchlock_core::{
    Artefacts, Attachments, ConfinementSpec, CoreError, Cpus, DescribeChain, DiskSize,
    DiskTemplate, HostSetup, ImageSpec, KernelSource, Launcher, Level, Lifetime, Limits,
    MemorySize, NetworkSpec, SandboxHandle, SandboxSpec, StateRoot,
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
type Shared = OnceCell<Result<SandboxHandle, String>>;

/// Runtime, state and shared machines.
#[derive(Debug)]
pub(crate) struct Lab {
    runtime: Option<Runtime>,
    home: TempDir,
    plain: Shared,
    privileged: Shared,
    hardened: Shared,
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
            hardened: Shared::new(),
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
    pub(crate) async fn plain(&self) -> &SandboxHandle {
        self.shared(&self.plain, spec().into()).await
    }

    /// A sandbox with `privileged`.
    pub(crate) async fn privileged(&self) -> &SandboxHandle {
        self.shared(
            &self.privileged,
            SandboxSpec { confinement: ConfinementSpec::privileged(), ..spec() }.into(),
        )
        .await
    }

    /// A hardened sandbox.
    pub(crate) async fn hardened(&self) -> &SandboxHandle {
        let confinement = ConfinementSpec { level: Level::Hardened, ..ConfinementSpec::default() };
        let spec = SandboxSpec { confinement, network: None, ..spec() };
        self.shared(&self.hardened, spec.into()).await
    }

    /// A sandbox with half of a CPU.
    pub(crate) async fn half(&self) -> &SandboxHandle {
        let cpus = Cpus::new(0.5, 1).expect("valid");
        // Without a network too: one machine less to boot.
        self.shared(&self.half, SandboxSpec { cpus, network: None, ..spec() }.into()).await
    }

    /// A sandbox without a network device.
    pub(crate) async fn offline(&self) -> &SandboxHandle {
        self.half().await
    }

    /// A sandbox for one case, who has to end it.
    pub(crate) async fn own(&self, wanted: Wanted) -> Result<SandboxHandle, Arc<CoreError>> {
        self.own_with(wanted, "").await
    }

    /// The same with parameters for its kernel.
    pub(crate) async fn own_with(
        &self,
        wanted: Wanted,
        kernel_parameters: &str,
    ) -> Result<SandboxHandle, Arc<CoreError>> {
        let setup = HostSetup {
            state: StateRoot::in_home(self.home()),
            cache: self.home().join("cache"),
            qemu: None,
            path: std::env::var_os("PATH"),
            // This machine's KVM, if any, must not decide what a test sees.
            accelerator: AcceleratorRequest::Tcg,
            kernel: KernelSource::Embedded,
            kernel_parameters: kernel_parameters.to_owned(),
            artefacts: *ARTEFACTS,
        };
        let Wanted { spec, with } = wanted;
        Launcher::open(setup).await?.start(spec, with).await
    }

    async fn shared<'a>(&'a self, cell: &'a Shared, wanted: Wanted) -> &'a SandboxHandle {
        let booted = cell.get_or_init(|| async {
            self.own(wanted).await.map_err(|error| DescribeChain(&error).to_string())
        });
        booted.await.as_ref().unwrap_or_else(|error| panic!("no sandbox: {error}"))
    }

    /// Ends everything and checks that nothing is left.
    pub(crate) fn tear_down(&mut self, before: &Footprint, limit: Duration) {
        let runtime = self.runtime.take().expect("torn down once");
        for shared in [&mut self.plain, &mut self.privileged, &mut self.hardened, &mut self.half] {
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

/// A sandbox that a case asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) spec: SandboxSpec,
    pub(crate) with: Attachments,
}

impl From<SandboxSpec> for Wanted {
    /// Without attachments.
    fn from(spec: SandboxSpec) -> Self {
        Self { spec, with: Attachments::default() }
    }
}

impl Wanted {
    /// An image for the root.
    pub(crate) fn of_image(root: RootImage, spec: SandboxSpec) -> Self {
        let spec = SandboxSpec { image: ImageSpec::of(&root), ..spec };
        Self { spec, with: Attachments { root: Some(Box::new(root)), ..Attachments::default() } }
    }
}

/// What sandboxes have when a case asks for nothing else: a network that nothing can be reached over.
pub(crate) fn spec() -> SandboxSpec {
    let (name, value) = SANDBOX_VARIABLE;
    SandboxSpec {
        name: None,
        image: ImageSpec::Host,
        cpus: Cpus::new(1.0, 1).expect("valid"),
        memory: MemorySize::new(512, 512).expect("valid"),
        disk: DiskSize::new(1024).expect("valid"),
        disks: Vec::new(),
        export: false,
        hostname: Some(HOSTNAME.parse().expect("valid")),
        confinement: ConfinementSpec::default(),
        limits: Limits::default(),
        env: vec![(name.to_vec(), value.to_vec())],
        hosts: Vec::new(),
        network: Some(NetworkSpec::default()),
        audit_log: None,
        start: None,
        lifetime: Lifetime::default(),
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
