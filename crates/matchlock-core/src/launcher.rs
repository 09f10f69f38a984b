//! What this host starts sandboxes with: a monitor, an accelerator that is proven, and the guest's files.
//!
//! ```text
//!   HostSetup ─► guest()  ─────────┐
//!             ─► sweep()           ├─► choose() ─► Launcher ─► launch
//!             ─► monitor() ────────┘
//! ```
//! Each of these steps may block: it reads files, waits for a lock or boots a guest. [`Launcher::open`]
//! runs them on threads that may.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use matchlock_vmm::{
    AcceleratorChoice, AcceleratorRequest, Backend, ProofKit, QemuBinary, Vmm, choose,
};
use tokio::sync::watch;

use crate::artefacts::{Artefacts, GuestFiles, KernelSource};
use crate::error::CoreError;
use crate::handle::SandboxHandle;
use crate::id::SandboxId;
use crate::prepared::Origin;
use crate::spec::{Attachments, SandboxSpec};
use crate::state::{StateRoot, Swept};

/// What a front knows of this host.
#[derive(Debug, Clone)]
pub struct HostSetup {
    /// State of the sandboxes.
    pub state: StateRoot,
    /// Directory for what only saves time.
    pub cache: PathBuf,
    /// The QEMU to use; `None`: the first on `path`.
    pub qemu: Option<OsString>,
    /// Directories of programs, in the form of the variable `PATH`.
    pub path: Option<OsString>,
    /// What is to run guests.
    pub accelerator: AcceleratorRequest,
    /// The kernel to boot.
    pub kernel: KernelSource,
    /// Parameters for it beyond what matchlock needs; usually empty.
    pub kernel_parameters: String,
    /// What the binary carries.
    pub artefacts: Artefacts,
}

/// Starts sandboxes.
#[derive(Debug, Clone)]
pub struct Launcher {
    pub(crate) parts: Arc<Parts>,
}

/// What all sandboxes of a launcher share.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) vmm: Arc<dyn Vmm>,
    pub(crate) choice: AcceleratorChoice,
    pub(crate) guest: GuestFiles,
    pub(crate) kernel_parameters: String,
    pub(crate) artefacts: Artefacts,
    pub(crate) state: StateRoot,
    /// Sandboxes of which something is left.
    alive: watch::Sender<usize>,
}

/// Counts a sandbox as long as it is held.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Parts>);

impl Alive {
    fn begin(parts: &Arc<Parts>) -> Self {
        parts.alive.send_modify(|alive| *alive += 1);
        Self(Arc::clone(parts))
    }

    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.0
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.send_modify(|alive| *alive -= 1);
    }
}

impl HostSetup {
    /// Finds QEMU.
    ///
    /// # Errors
    /// [`CoreError::Monitor`].
    pub fn monitor(&self) -> Result<QemuBinary, CoreError> {
        QemuBinary::locate(self.qemu.as_deref(), self.path.as_deref(), Some(&self.cache))
            .map_err(CoreError::Monitor)
    }

    /// Unpacks the guest's files.
    ///
    /// # Errors
    /// As [`Artefacts::open`].
    pub fn guest(&self) -> Result<GuestFiles, CoreError> {
        self.artefacts.open(&self.kernel)
    }

    /// Decides what runs guests. Without `remember` a proof of earlier does not count.
    ///
    /// # Errors
    /// [`CoreError::Monitor`].
    pub fn choose(
        &self,
        monitor: &dyn Backend,
        guest: &GuestFiles,
        remember: bool,
    ) -> Result<AcceleratorChoice, CoreError> {
        let kit = ProofKit {
            kernel: &guest.kernel,
            kernel_id: &guest.id,
            initramfs: &guest.initramfs,
            cache: remember.then_some(&*self.cache),
        };
        choose(self.accelerator, monitor, kit).map_err(CoreError::Monitor)
    }

    /// Removes what supervisors left that no longer live.
    ///
    /// # Errors
    /// [`CoreError::State`].
    pub fn sweep(&self) -> Result<Swept, CoreError> {
        Ok(self.state.sweep()?)
    }
}

impl Launcher {
    /// Makes ready what every sandbox of this host needs. It can be cancelled at any time: a proof that
    /// runs goes on by itself, to its end or to that of this process.
    ///
    /// # Errors
    /// [`CoreError`]: what is wrong with this machine.
    pub async fn open(setup: HostSetup) -> Result<Self, CoreError> {
        let setup = Arc::new(setup);
        // The longest part goes on beside the others.
        let unpacking = Arc::clone(&setup);
        let unpacking = tokio::task::spawn_blocking(move || unpacking.guest());
        let finding = Arc::clone(&setup);
        let monitor = beside(move || {
            finding.sweep()?;
            finding.monitor()
        });
        let monitor = monitor.await?;
        let guest = unpacking.await.map_err(CoreError::thread)??;
        beside(move || Self::with(&setup, &monitor, guest)).await
    }

    /// A launcher with a monitor and files that are there already.
    ///
    /// # Errors
    /// [`CoreError::Monitor`].
    pub fn with(
        setup: &HostSetup,
        monitor: &dyn Backend,
        guest: GuestFiles,
    ) -> Result<Self, CoreError> {
        let choice = setup.choose(monitor, &guest, true)?;
        let parts = Parts {
            vmm: monitor.on(choice.accelerator),
            choice,
            guest,
            kernel_parameters: setup.kernel_parameters.clone(),
            artefacts: setup.artefacts,
            state: setup.state.clone(),
            alive: watch::channel(0).0,
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Has a sandbox made and booted, by a task of the current runtime. That owns it; the handle tells
    /// how it goes.
    ///
    /// # Errors
    /// [`CoreError::Host`]: there is no id for it.
    pub fn launch(&self, spec: SandboxSpec, with: Attachments) -> Result<SandboxHandle, CoreError> {
        let id = SandboxId::random().map_err(CoreError::host("get random bytes"))?;
        Ok(SandboxHandle::launch(Origin::new(id, false), spec, with, self.alive()))
    }

    /// The same with a kept sandbox, which has its id and its disk again. If somebody else has started it
    /// meanwhile, [`SandboxHandle::ready`] says so.
    #[must_use]
    pub fn launch_again(
        &self,
        id: SandboxId,
        spec: SandboxSpec,
        with: Attachments,
    ) -> SandboxHandle {
        SandboxHandle::launch(Origin::new(id, true), spec, with, self.alive())
    }

    fn alive(&self) -> Alive {
        Alive::begin(&self.parts)
    }

    /// Launches a sandbox, and waits until it is up.
    ///
    /// # Errors
    /// [`CoreError`]; nothing of the sandbox is left then.
    pub async fn start(
        &self,
        spec: SandboxSpec,
        with: Attachments,
    ) -> Result<SandboxHandle, Arc<CoreError>> {
        let sandbox = self.launch(spec, with)?;
        sandbox.ready().await?;
        Ok(sandbox)
    }

    /// Waits until nothing is left of any sandbox of this launcher.
    pub async fn settled(&self) {
        // The sender is ours, so it is not closed.
        let _ = self.parts.alive.subscribe().wait_for(|alive| *alive == 0).await;
    }

    /// What runs the guests, and why.
    #[must_use]
    pub fn accelerator(&self) -> &AcceleratorChoice {
        &self.parts.choice
    }
}

/// Runs what may block on a thread that may.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CoreError> + Send + 'static,
) -> Result<T, CoreError> {
    tokio::task::spawn_blocking(work).await.map_err(CoreError::thread)?
}
