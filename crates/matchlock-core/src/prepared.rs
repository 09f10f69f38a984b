//! What a machine needs of the host, each taken together with its way back.
//!
//! ```text
//!   directory ─► trail ─► writable disk, image, disks ─► network ─► Prepared ─► power_on ─► Live
//! ```
//! Whatever fails, what was taken before goes in the reverse order: each is a value that gives itself
//! back. All of this may block, and so runs on threads that may.

mod storage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use matchlock_net::{Audit, Network, Refusal};
use matchlock_proto::{BootConfig, HostEntry, PROTOCOL_VERSION, Realtime};
use matchlock_vmm::{DiskFault, VmSpec};

use crate::artefacts::GuestFiles;
use crate::audit::{EndReason, Lifecycle, Start, Trail};
use crate::control::ControlSocket;
use crate::error::CoreError;
use crate::id::{SandboxId, random};
use crate::launcher::Parts;
use crate::log::{self, Log};
use crate::machine::{FirstConnection, Machine};
use crate::network::{self, NetworkSettings, Running};
use crate::observer::Observed;
use crate::phase::EndCause;
use crate::spec::{Attachments, ImageSpec, SandboxSpec};
use crate::state::{StateDir, StateRoot};
pub(crate) use storage::Defaults;
use storage::{Mounts, Storage};

/// The file of a kept sandbox that says which image it was made of.
pub const KEPT_IMAGE: &str = "image.json";

/// Which sandbox it is going to be.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) id: SandboxId,
    /// A kept one, with its disk.
    pub(crate) again: bool,
    /// Whether what happens to it is ours to write down. A kept one may be somebody else's by now.
    pub(crate) entered: Arc<AtomicBool>,
}

impl Origin {
    pub(crate) fn new(id: SandboxId, again: bool) -> Self {
        Self { id, again, entered: Arc::new(AtomicBool::new(!again)) }
    }
}

/// Everything is there but the machine.
#[derive(Debug)]
pub(crate) struct Prepared {
    // Dropped in this order.
    machine: VmSpec,
    network: Option<Network>,
    recording: Recording,
    control: ControlSocket,
    log: Arc<Log>,
    state: StateDir,
    /// What the guest is told of itself, but for the time.
    pub(crate) boot: BootConfig,
    pub(crate) defaults: Defaults,
    /// Disks that stay are mounted for writing.
    pub(crate) writes_disks: bool,
}

/// A machine that runs, and all that it uses. Dropping it blocks.
#[derive(Debug)]
pub(crate) struct Live {
    // Dropped in this order: the machine ends before its network, then nothing happens any more that
    // the trail could miss, and the directory goes last.
    pub(crate) machine: Machine,
    network: Option<Arc<Network>>,
    recording: Recording,
    log: Arc<Log>,
    _state: StateDir,
}

/// A trail that is closed with this value.
#[derive(Debug)]
struct Recording {
    trail: Arc<Trail>,
    reason: EndReason,
    cause: EndCause,
}

impl Drop for Recording {
    fn drop(&mut self) {
        // A loss stays with the trail, where its reader finds it.
        let _ = self.trail.close(self.reason, &self.cause);
    }
}

impl Prepared {
    /// Takes everything.
    pub(crate) fn acquire(
        origin: &Origin,
        spec: &SandboxSpec,
        mut with: Attachments,
        parts: &Parts,
    ) -> Result<Self, CoreError> {
        let Origin { id, again, entered } = origin;
        spec.check(&with)?;
        let settings = NetworkSettings::new(spec, &mut with)?;
        crate::descriptors::check()?;
        let GuestFiles { kernel, initramfs, .. } = parts.guest.try_clone()?;
        let state = match again {
            true => parts.state.resume(id, spec)?,
            false => parts.state.register(id, spec)?,
        };
        entered.store(true, Ordering::Release);
        let kept = spec.is_kept();
        if let (true, Some(images), Some(root)) = (kept, &with.images, &with.root) {
            // Nobody else deletes it from here on.
            let path = state.path().join(KEPT_IMAGE);
            images.keep_image(root, id.as_str(), &path).map_err(CoreError::Image)?;
        }
        let control = ControlSocket::bind(state.path())
            .map_err(CoreError::file("make the control socket in", state.path()))?;
        let log = Log::open(state.path());
        let trail = match &spec.audit_log {
            Some(path) => Trail::keep(path, id)?,
            None if *again => Trail::resume(&state.path().join("audit.jsonl"), id)?,
            None => Trail::create(&state.path().join("audit.jsonl"), id)?,
        };
        let trail = Arc::new(trail);
        trail.lifecycle(&Lifecycle::Start(summary(spec, settings.as_ref())))?;
        let recording = Recording {
            trail: Arc::clone(&trail),
            reason: EndReason::StartFailed,
            cause: EndCause::StartFailed,
        };
        let observer = with.observer.take();
        let make = if kept { crate::disk::keep } else { crate::disk::create };
        let upper = make(state.path(), parts.artefacts.disk_templates, spec.disk)?;
        let storage = Storage::new(spec, with, upper)?;
        let audit: Arc<dyn Audit> = match observer {
            Some(client) => Arc::new(Observed::new(trail, client)),
            None => trail,
        };
        let started = settings.map(|settings| network::start(settings, audit));
        let (running, nic) = started.transpose()?.unzip();
        let boot = boot_config(spec, id, storage.mounts, &storage.defaults, running.as_ref())?;
        let machine = VmSpec {
            name: id.to_string(),
            kernel,
            initramfs,
            cmdline: parts.kernel_parameters.clone(),
            vcpus: spec.cpus.vcpus(),
            memory_mib: spec.memory.mib(),
            disks: storage.disks,
            filesystems: storage.filesystems,
            nic,
            console: Some(log::sink(Arc::clone(&log))),
        };
        let network = running.map(|running| running.network);
        let (defaults, writes_disks) = (storage.defaults, kept || spec.writes_disks());
        Ok(Self { machine, network, recording, control, log, state, boot, defaults, writes_disks })
    }

    /// Starts the machine. Returns it with what its guest is to be told, and when its process existed.
    pub(crate) fn power_on(self, parts: &Parts) -> Result<PoweredOn, CoreError> {
        // The rest of `self` is bound first, and so dropped last should the machine not start.
        let Self { state, log, control, recording, network, machine, boot, .. } = self;
        let (defaults, writes_disks) = (self.defaults, self.writes_disks);
        let prepared = Instant::now();
        let vm = parts.vmm.start(machine).map_err(CoreError::Vmm)?;
        let watched = Machine::watch(vm).map_err(CoreError::host("start a thread"));
        let (machine, first) = watched?;
        let started = Instant::now();
        if let Some(pid) = machine.vm.pid() {
            state.record_monitor(pid)?;
        }
        let network = network.map(Arc::new);
        let live = Live { machine, network, recording, log, _state: state };
        Ok(PoweredOn { live, control, first, boot, defaults, writes_disks, prepared, started })
    }
}

/// A machine whose agent has not answered yet.
#[derive(Debug)]
pub(crate) struct PoweredOn {
    pub(crate) live: Live,
    pub(crate) control: ControlSocket,
    pub(crate) first: FirstConnection,
    pub(crate) boot: BootConfig,
    pub(crate) defaults: Defaults,
    pub(crate) writes_disks: bool,
    pub(crate) prepared: Instant,
    pub(crate) started: Instant,
}

impl Live {
    pub(crate) fn network(&self) -> Option<&Arc<Network>> {
        self.network.as_ref()
    }

    /// The state, and the sandbox's id in it.
    pub(crate) fn entry(&self) -> (StateRoot, SandboxId) {
        self._state.entry()
    }

    pub(crate) fn trail(&self) -> &Arc<Trail> {
        &self.recording.trail
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Ends everything, in the order in which it must go.
    pub(crate) fn end(self, reason: EndReason, cause: EndCause) -> Remains {
        let Self { machine, network, mut recording, log, _state } = self;
        let disk_fault = machine.vm.disk_fault();
        drop(machine);
        let refused = network.as_deref().map(Network::refusals).unwrap_or_default();
        drop(network);
        log.close();
        (recording.reason, recording.cause) = (reason, cause);
        let trail = Arc::clone(&recording.trail);
        drop(recording);
        Remains { refused, audit_lost: trail.lost(), disk_fault }
    }
}

/// What is told of a sandbox that has gone.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) refused: Vec<Refusal>,
    pub(crate) audit_lost: Option<String>,
    pub(crate) disk_fault: Option<DiskFault>,
}

fn boot_config(
    spec: &SandboxSpec,
    id: &SandboxId,
    mounts: Mounts,
    defaults: &Defaults,
    network: Option<&Running>,
) -> Result<BootConfig, CoreError> {
    let hostname = spec.hostname.as_ref().map_or(id.as_str(), |name| name.as_str());
    let mut env = defaults.env.clone();
    env.extend(spec.env.iter().cloned());
    // A placeholder that the user's own variable would hide could never be replaced.
    env.extend(network.into_iter().flat_map(|network| network.env.iter().cloned()));
    let hosts = spec.hosts.iter();
    Ok(BootConfig {
        version: PROTOCOL_VERSION,
        hostname: hostname.to_owned(),
        realtime: Realtime::default(),
        entropy: random().map_err(CoreError::host("get random bytes"))?,
        root: mounts.root,
        disks: mounts.disks,
        working_dir: defaults.working_dir.clone(),
        hosts: hosts.map(|(name, ip)| HostEntry { ip: *ip, name: name.to_string() }).collect(),
        dns_servers: network.map(|network| network.dns_servers.clone()).unwrap_or_default(),
        network: network.map(|network| network.config.clone()),
        ca_pem: network.and_then(|network| network.ca_pem.clone()),
        cpu_limit: spec.cpus.limit(),
        confinement: spec.confinement.resolve(),
        limits: spec.limits.clone(),
        env,
    })
}

/// What the audit trail begins with.
fn summary(spec: &SandboxSpec, network: Option<&NetworkSettings>) -> Start {
    let (image, image_digest) = match &spec.image {
        ImageSpec::Host => ("host".to_owned(), None),
        ImageSpec::Stored { reference, digest } => (reference.clone(), Some(digest.to_string())),
    };
    Start {
        version: env!("CARGO_PKG_VERSION"),
        image,
        image_digest,
        privileged: spec.confinement.is_privileged(),
        network: network.map(|network| network::summary(&network.policy)),
    }
}
