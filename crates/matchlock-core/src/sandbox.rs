//! One sandbox from its start to its end.
//!
//! ```text
//!  start ─► booting ─► running ─► stopping ─► gone
//!              │          │           │
//!              └──────────┴───────────┴─► drop: VMM killed, devices ended, directory removed
//! ```
//! Every state is left by ending the machine first and the host's resources after it, in the order
//! of the fields of [`Sandbox`]; an error on the way to `running` takes the same way.

mod storage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use matchlock_net::Network;
use matchlock_proto::{
    AGENT_PORT, AgentFrame, BootConfig, BootReport, ExecRequest, HostEntry, HostFrame,
    PROTOCOL_VERSION, Request, WireMessage,
};
use matchlock_vmm::{DiskFault, Vm, VmSpec, Vmm};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::artefacts::{Artefacts, GuestFiles};
use crate::audit::{EndReason, ExecSpan, Lifecycle, Start, Trail};
use crate::config::{ExtraDisk, Image, SandboxConfig};
use crate::error::CoreError;
use crate::exec::{ExecError, Execution, FrameReader, Streams};
use crate::export::Export;
use crate::forward::{Listeners, Published};
use crate::id::{SandboxId, random};
use crate::network::{self, NetworkSettings, Running};
use crate::state::{StateDir, StateRoot};
use storage::{Defaults, Mounts, Storage};

/// How long a guest may take from power-on to its agent. Emulated on a loaded machine it needs
/// several seconds; a guest that is silent for this long will not speak.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a guest may take to answer beyond the time that its programs have.
const ANSWER: Duration = Duration::from_secs(1);

/// The same for one that has to write to disks what it still holds in memory.
const WRITE_BACK: Duration = Duration::from_secs(60);

/// How long a killed monitor may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a monitor that has closed its devices may take to be seen as ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running sandbox. Dropping it ends the machine and removes everything of it.
#[derive(Debug)]
pub struct Sandbox {
    // Dropped in this order: the machine ends before its network, then nothing happens any more that
    // the trail could miss, and the directory goes last.
    machine: Machine,
    network: Option<Network>,
    trail: Recording,
    _state: StateDir,
    id: SandboxId,
    times: BootTimes,
    defaults: Defaults,
    executions: AtomicU64,
    /// Disks of the user's are mounted for writing.
    writes_disks: bool,
}

/// A trail that is closed with this value.
#[derive(Debug)]
struct Recording {
    trail: Arc<Trail>,
    reason: EndReason,
}

impl Drop for Recording {
    fn drop(&mut self) {
        // A loss stays with the trail, where whoever keeps it asks for it.
        let _ = self.trail.close(self.reason);
    }
}

/// A machine that ends with this value, even while a thread still dials it.
#[derive(Debug)]
struct Machine(Arc<dyn Vm>);

impl Drop for Machine {
    fn drop(&mut self) {
        self.0.kill();
        // A killed process is gone in milliseconds; one that the kernel cannot end must not hang us.
        drop(self.0.wait(END_TIMEOUT));
    }
}

/// When the parts of the start were done.
#[derive(Debug, Clone)]
pub struct BootTimes {
    /// The monitor was about to be started.
    pub prepared: Instant,
    /// The monitor's process existed.
    pub vmm_started: Instant,
    /// The agent accepted the first connection.
    pub agent_reached: Instant,
    /// The agent had set the guest up.
    pub ready: Instant,
    /// The same seen from the guest.
    pub guest: BootReport,
}

impl Sandbox {
    /// Makes and boots a sandbox.
    ///
    /// # Errors
    /// [`CoreError`]; nothing of the sandbox is left then.
    pub async fn start(
        mut config: SandboxConfig,
        vmm: &dyn Vmm,
        files: GuestFiles,
        artefacts: &Artefacts,
        root: &StateRoot,
    ) -> Result<Self, CoreError> {
        crate::descriptors::check()?;
        let id = SandboxId::random()?;
        let state = root.create(&id)?;
        let trail = match &config.audit_log {
            Some(path) => Trail::keep(path, &id)?,
            None => Trail::create(&state.path().join("audit.jsonl"), &id)?,
        };
        let trail = Arc::new(trail);
        trail.lifecycle(&Lifecycle::Start(summary(&config)))?;
        // Locals are dropped in the reverse of their order, which is that of the fields.
        let writes_disks = config.disks.iter().any(ExtraDisk::is_writable);
        let mut recording = Recording { trail: Arc::clone(&trail), reason: EndReason::StartFailed };
        let upper = crate::disk::create(state.path(), artefacts.disk_templates, config.disk)?;
        let storage = Storage::new(&mut config, upper)?;
        let started = config.network.take().map(|settings| network::start(settings, trail));
        let (running, nic) = started.transpose()?.unzip();
        let spec = VmSpec {
            name: id.to_string(),
            kernel: files.kernel,
            initramfs: files.initramfs,
            cmdline: config.extra_cmdline.clone(),
            vcpus: config.cpus.vcpus(),
            memory_mib: config.memory.mib(),
            disks: storage.disks,
            filesystems: storage.filesystems,
            nic,
        };
        let prepared = Instant::now();
        let machine = Machine(Arc::from(vmm.start(spec).map_err(CoreError::Vmm)?));
        let vmm_started = Instant::now();
        if let Some(pid) = machine.0.pid() {
            state.record_vmm(pid)?;
        }
        let guest =
            Guest { config: &config, id: &id, mounts: storage.mounts, network: running.as_ref() };
        let (agent_reached, guest) = boot(&machine.0, guest, &storage.defaults).await?;
        let ready = Instant::now();
        let times = BootTimes { prepared, vmm_started, agent_reached, ready, guest };
        recording.reason = EndReason::Ended;
        Ok(Self {
            machine,
            network: running.map(|running| running.network),
            trail: recording,
            _state: state,
            id,
            times,
            defaults: storage.defaults,
            executions: AtomicU64::new(1),
            writes_disks,
        })
    }

    /// The sandbox's id.
    #[must_use]
    pub fn id(&self) -> &SandboxId {
        &self.id
    }

    /// When the parts of the start were done.
    #[must_use]
    pub fn boot_times(&self) -> &BootTimes {
        &self.times
    }

    /// The network; `None` when the machine has no network device.
    #[must_use]
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// The audit trail. It outlives the sandbox for those who want to know whether it is whole.
    #[must_use]
    pub fn audit(&self) -> &Arc<Trail> {
        &self.trail.trail
    }

    /// Serves published ports until the result is dropped; `failed` is told of each connection that
    /// could not be made.
    ///
    /// # Errors
    /// [`CoreError::Host`] when the runtime does not take the listeners.
    pub fn publish(
        &self,
        listeners: Listeners,
        failed: impl Fn(&ExecError) + Send + Sync + 'static,
    ) -> Result<Published, CoreError> {
        Published::serve(listeners, &self.machine.0, &self.trail.trail, failed)
            .map_err(CoreError::host("serve the published ports"))
    }

    /// Starts a program in the guest. A user and a working directory that the request does not name
    /// are those of the image.
    ///
    /// # Errors
    /// [`ExecError`] when the program cannot be started.
    pub async fn exec(&self, mut request: ExecRequest) -> Result<(Execution, Streams), ExecError> {
        self.defaults.complete(&mut request);
        let (stream, span) = self.begin(&request).await?;
        Execution::start(stream, request, span).await
    }

    /// Starts to read what programs have left in the writable layer, as an uncompressed layer of the OCI
    /// image spec. Programs that still run may change it meanwhile.
    ///
    /// # Errors
    /// [`ExecError`]; always when [`SandboxConfig::export`] was not set.
    pub async fn export(&self) -> Result<Export, ExecError> {
        let shown =
            ExecRequest { argv: vec![b"matchlock:export".to_vec()], ..ExecRequest::default() };
        let (stream, span) = self.begin(&shown).await?;
        let (execution, streams) = Execution::open(stream, Request::Export, false, span).await?;
        Ok(Export::new(execution, streams))
    }

    /// A connection for a new execution, which the trail already knows.
    async fn begin(&self, request: &ExecRequest) -> Result<(UnixStream, ExecSpan), ExecError> {
        let number = self.executions.fetch_add(1, Ordering::Relaxed);
        let span = ExecSpan::begin(&self.trail.trail, number, request).map_err(ExecError::Audit)?;
        match dial(&self.machine.0, Instant::now() + BOOT_TIMEOUT).await {
            Ok(stream) => Ok((stream, span)),
            Err(error) => Err(span.failed(ExecError::Lost(Some(error)))),
        }
    }

    /// Asks the guest to end its programs (`SIGTERM`, then `SIGKILL` after `grace`) and ends the
    /// machine. A guest that does not answer is ended all the same.
    pub async fn stop(mut self, grace: Duration) {
        self.trail.reason = EndReason::Stopped;
        // The guest's own limit first, then ours: a little longer, so that it can answer.
        let patience = grace + if self.writes_disks { WRITE_BACK } else { ANSWER };
        drop(tokio::time::timeout(patience, shut_down(&self.machine.0, grace)).await);
        self.end().await;
    }

    /// Whether disks of the user's are mounted for writing. What was written to them is safe only
    /// after [`Sandbox::stop`].
    #[must_use]
    pub fn writes_disks(&self) -> bool {
        self.writes_disks
    }

    /// The first operation of a disk that failed on the host, if one did: its file system may be full.
    #[must_use]
    pub fn disk_fault(&self) -> Option<DiskFault> {
        self.machine.0.disk_fault()
    }

    /// Ends the machine at once and waits until nothing of it is left.
    pub async fn end(self) {
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }

    /// Waits until the machine has ended by itself.
    pub async fn ended(&self) {
        let vm = Arc::clone(&self.machine.0);
        drop(tokio::task::spawn_blocking(move || while vm.wait(Duration::MAX).is_none() {}).await);
    }
}

async fn shut_down(vm: &Arc<dyn Vm>, grace: Duration) -> Result<(), ExecError> {
    let deadline = Instant::now() + grace + ANSWER;
    let stream = dial(vm, deadline).await.map_err(|error| ExecError::Lost(Some(error)))?;
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    ask(stream, Request::Shutdown { grace_ms }).await.map(drop)
}

/// What a guest is told of itself.
struct Guest<'a> {
    config: &'a SandboxConfig,
    id: &'a SandboxId,
    mounts: Mounts,
    network: Option<&'a Running>,
}

async fn boot(
    vm: &Arc<dyn Vm>,
    guest: Guest<'_>,
    defaults: &Defaults,
) -> Result<(Instant, BootReport), CoreError> {
    let deadline = Instant::now() + BOOT_TIMEOUT;
    let failed =
        |problem: &str| CoreError::Boot { problem: problem.to_owned(), console: vm.console_tail() };
    // The devices see the end of a monitor before its parent does.
    let stream = dial(vm, deadline).await.map_err(|_| match vm.wait(LAST_WORDS) {
        Some(exit) if !exit.diagnostics.is_empty() => {
            failed(&format!("the virtual machine ended: {}", exit.diagnostics.trim()))
        }
        Some(_) => failed("the virtual machine ended"),
        None => failed("its agent did not answer in time"),
    })?;
    let reached = Instant::now();
    // Put together only now: the guest's clock starts with this message.
    let request = Request::Boot(Box::new(boot_config(guest, defaults)?));
    let left = deadline.saturating_duration_since(reached);
    match tokio::time::timeout(left, ask(stream, request)).await {
        Ok(Ok(AgentFrame::Booted(report))) => Ok((reached, report)),
        Ok(Err(ExecError::Refused(failure))) => Err(CoreError::GuestSetup(failure)),
        Ok(Ok(_) | Err(_)) => Err(failed("the connection to its agent was lost")),
        Err(_) => Err(failed("its agent did not finish in time")),
    }
}

/// Sends a request and returns the one frame that answers it.
async fn ask(stream: UnixStream, request: Request) -> Result<AgentFrame, ExecError> {
    let (reader, mut writer) = stream.into_split();
    let mut bytes = Vec::new();
    HostFrame::Open(Box::new(request)).encode(&mut bytes);
    writer.write_all(&bytes).await.map_err(|error| ExecError::Lost(Some(error)))?;
    match FrameReader::new(reader).next().await? {
        AgentFrame::Refused(failure) => Err(failure.into()),
        answer => Ok(answer),
    }
}

pub(crate) async fn dial(vm: &Arc<dyn Vm>, deadline: Instant) -> std::io::Result<UnixStream> {
    let vm = Arc::clone(vm);
    let dialled = tokio::task::spawn_blocking(move || vm.connect(AGENT_PORT, deadline)).await;
    let stream = dialled.map_err(std::io::Error::other)??;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn boot_config(guest: Guest<'_>, defaults: &Defaults) -> Result<BootConfig, CoreError> {
    let Guest { config, id, mounts, network } = guest;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let hostname = config.hostname.as_ref().map_or(id.as_str(), |name| name.as_str());
    let mut env = defaults.env.clone();
    env.extend(config.env.iter().cloned());
    // A placeholder that the user's own variable would hide could never be replaced.
    env.extend(network.into_iter().flat_map(|network| network.env.iter().cloned()));
    let hosts = config.hosts.iter();
    Ok(BootConfig {
        version: PROTOCOL_VERSION,
        hostname: hostname.to_owned(),
        realtime: (now.as_secs(), now.subsec_nanos()),
        entropy: random()?,
        root: mounts.root,
        disks: mounts.disks,
        working_dir: defaults.working_dir.clone(),
        hosts: hosts.map(|(name, ip)| HostEntry { ip: *ip, name: name.to_string() }).collect(),
        dns_servers: network.map(|network| network.dns_servers.clone()).unwrap_or_default(),
        network: network.map(|network| network.config.clone()),
        ca_pem: network.and_then(|network| network.ca_pem.clone()),
        cpu_limit: config.cpus.limit(),
        privileged: config.privileged,
        env,
    })
}

/// What the audit trail begins with.
fn summary(config: &SandboxConfig) -> Start {
    Start {
        version: env!("CARGO_PKG_VERSION"),
        image: match &config.image {
            Image::Host => "host".to_owned(),
            Image::Oci(image) => image.reference.clone(),
        },
        image_digest: match &config.image {
            Image::Host => None,
            Image::Oci(image) => Some(image.digest.to_string()),
        },
        privileged: config.privileged,
        network: config.network.as_ref().map(NetworkSettings::summary),
    }
}
