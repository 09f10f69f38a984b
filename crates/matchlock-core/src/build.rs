//! Steps of image builds, each in a sandbox of its own on top of the layers so far.
//!
//! ```text
//!   layers so far ─► sandbox ─► command ─► status, output
//!                       │
//!                       └─ writable layer ─► archive ─► unpack ─► layer of the store
//! ```
//! The sandbox is a sandbox like any other: the archive that it gives is as hostile as one of a registry.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use matchlock_build::{BoxError, Output, RunResult, RunStep, Runner, Stream};
use matchlock_image::erofs::BlobWriter;
use matchlock_image::layer::{Compression, Layer, LayerError, Limits, unpack};
use matchlock_image::store::{RootImage, Store, StoreError};
use matchlock_net::{ProxySettings, Refusal};
use matchlock_policy::HostName;
use matchlock_proto::ExecRequest;
use matchlock_vmm::DiskFault;

use crate::classified::{Classified, ErrorKind, Hint};
use crate::error::CoreError;
use crate::exec::{ExecError, Streams};
use crate::handle::SandboxHandle;
use crate::launcher::Launcher;
use crate::spec::{
    Attachments, ConfinementSpec, ImageSpec, Lifetime, NetworkSpec, SandboxSpec, SecretValues,
};
use crate::values::{Cpus, DiskSize, MemorySize};

/// What the sandboxes of all steps have in common.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// CPU share.
    pub cpus: Cpus,
    /// Memory.
    pub memory: MemorySize,
    /// Writable layer: the most that one step can write.
    pub disk: DiskSize,
    /// Names with addresses of the user's choice.
    pub hosts: Vec<(HostName, IpAddr)>,
    /// `None`: no step has a network device.
    pub network: Option<NetworkSpec>,
    /// The network's secrets.
    pub secrets: SecretValues,
    /// Proxies between the host and the network.
    pub proxy: ProxySettings,
    /// Where the audit trails of all steps are kept, one after the other; `None`: nowhere.
    pub audit_log: Option<PathBuf>,
}

/// Runs steps in sandboxes.
#[derive(Debug)]
pub struct SandboxRunner<'a> {
    /// Starts the sandboxes.
    pub launcher: &'a Launcher,
    /// Store of the layers that the steps make.
    pub store: &'a Store,
    /// What the sandboxes are like.
    pub settings: StepSettings,
    /// What the steps were refused by the network's policy, in their order.
    pub refusals: Vec<Refusal>,
}

/// Why a step could not be run, or what it left is no layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The sandbox.
    #[error("starting the sandbox")]
    Start(#[source] Arc<CoreError>),
    /// The command was not started, or its guest ended.
    #[error("executing the command")]
    Execute(#[source] ExecError),
    /// The writable layer is not what the command has written.
    #[error("running the command")]
    Disk(#[source] DiskFault),
    /// What is not recorded must not have happened.
    #[error("the audit trail is incomplete: {0}")]
    AuditLost(String),
    /// The guest does not say what has changed.
    #[error("reading what the command changed")]
    Export(#[source] ExecError),
    /// What has changed cannot be a layer, or cannot be written.
    #[error("keeping what the command changed")]
    Layer(#[from] LayerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The thread that writes the layer.
    #[error("writing the layer has failed: {0}")]
    Thread(String),
}

impl Classified for RunnerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Start(error) => error.kind(),
            Self::Execute(error) | Self::Export(error) => error.kind(),
            Self::AuditLost(_) | Self::Disk(_) => ErrorKind::Io,
            Self::Layer(_) => ErrorKind::Guest,
            Self::Store(error) => error.kind(),
            Self::Thread(_) => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<Hint> {
        match self {
            Self::Start(error) => error.hint(),
            Self::Disk(fault) => fault.hint().map(Hint::Text),
            _ => None,
        }
    }
}

impl Runner for SandboxRunner<'_> {
    async fn run(&mut self, step: RunStep, output: &mut dyn Output) -> Result<RunResult, BoxError> {
        Ok(self.run_step(step, output).await?)
    }
}

impl SandboxRunner<'_> {
    async fn run_step(
        &mut self,
        step: RunStep,
        output: &mut dyn Output,
    ) -> Result<RunResult, RunnerError> {
        let RunStep { image, arguments, network, .. } = step;
        let sandbox = {
            let (spec, with) = self.settings.sandbox(image, network);
            self.launcher.start(spec, with).await
        };
        let sandbox = sandbox.map_err(RunnerError::Start)?;
        let result = self.command_and_layer(&sandbox, arguments, output).await;
        let ending = sandbox.end().await;
        self.refusals.extend(ending.refused);
        match (ending.audit_lost, ending.disk_fault) {
            (Some(why), _) => Err(RunnerError::AuditLost(why)),
            (None, Some(fault)) => Err(RunnerError::Disk(fault)),
            (None, None) => result,
        }
    }

    async fn command_and_layer(
        &self,
        sandbox: &SandboxHandle,
        arguments: Vec<String>,
        output: &mut dyn Output,
    ) -> Result<RunResult, RunnerError> {
        let status = execute(sandbox, arguments, output).await.map_err(RunnerError::Execute)?;
        if status != 0 {
            return Ok(RunResult { status, layer: None });
        }
        Ok(RunResult { status, layer: Some(self.layer(sandbox).await?) })
    }

    /// What the sandbox has written.
    async fn layer(&self, sandbox: &SandboxHandle) -> Result<Layer, RunnerError> {
        let archive = sandbox.export().await.map_err(RunnerError::Export)?.blocking();
        let store = self.store.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let blob = BlobWriter::new(store.new_blob()?).map_err(LayerError::Write)?;
            Ok(unpack(archive, Compression::None, None, blob, &Limits::default())?)
        });
        unpacking.await.map_err(|error| RunnerError::Thread(error.to_string()))?
    }
}

impl StepSettings {
    /// The sandbox of one step, whose changes can be exported.
    pub(crate) fn sandbox(&self, image: RootImage, network: bool) -> (SandboxSpec, Attachments) {
        let network = self.network.clone().filter(|_| network);
        let (secrets, proxy) = match network {
            Some(_) => (self.secrets.clone(), self.proxy.clone()),
            None => Default::default(),
        };
        let spec = SandboxSpec {
            name: None,
            image: ImageSpec::of(&image),
            cpus: self.cpus,
            memory: self.memory,
            disk: self.disk,
            disks: Vec::new(),
            export: true,
            hostname: None,
            // A Dockerfile's RUN may call sudo, with every other builder.
            confinement: ConfinementSpec {
                no_new_privileges: Some(false),
                ..ConfinementSpec::default()
            },
            limits: matchlock_proto::Limits::default(),
            env: Vec::new(),
            hosts: self.hosts.clone(),
            network,
            audit_log: self.audit_log.clone(),
            start: None,
            lifetime: Lifetime::default(),
        };
        (
            spec,
            Attachments { root: Some(Box::new(image)), secrets, proxy, ..Attachments::default() },
        )
    }
}

/// Runs a command to its end. User, working directory and environment are the image's.
async fn execute(
    sandbox: &SandboxHandle,
    arguments: Vec<String>,
    output: &mut dyn Output,
) -> Result<i32, ExecError> {
    let argv = arguments.into_iter().map(String::into_bytes).collect();
    let request = ExecRequest { argv, ..ExecRequest::default() };
    let (mut execution, streams) = sandbox.exec(request).await?;
    let Streams { mut stdout, mut stderr, .. } = streams;
    let (mut more_stdout, mut more_stderr) = (true, true);
    while more_stdout || more_stderr {
        let (stream, bytes) = tokio::select! {
            bytes = stdout.next(), if more_stdout => (Stream::Stdout, bytes),
            bytes = stderr.next(), if more_stderr => (Stream::Stderr, bytes),
        };
        match (bytes, stream) {
            (Some(bytes), stream) => output.write(stream, &bytes),
            (None, Stream::Stdout) => more_stdout = false,
            (None, Stream::Stderr) => more_stderr = false,
        }
    }
    execution.wait().await.map(|status| i32::from(status.shell_code()))
}
