//! Builds by BuildKit, in a privileged sandbox that has BuildKit's image as its root.
//!
//! ```text
//!   host                         sandbox
//!   context ── tar, stdin ─────► /workspace/context, /workspace/dockerfile
//!   cache.ext4 ── disk ────────► /var/lib/buildkit
//!   output ◄── stdout, stderr ── buildkitd (native snapshotter), buildctl
//!   store  ◄── archive, stdout ─ /workspace/image.tar
//! ```
//! Neither the context nor the image is in a file of the host's on the way. What the sandbox sends is as
//! hostile as what a registry sends.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use matchlock_build::{BuildFiles, Output as Watcher, SendError, Stream};
use matchlock_image::store::RootImage;
use matchlock_proto::{ExecRequest, ExitStatus, Stdin};
use tokio::sync::mpsc;

use crate::build::StepSettings;
use crate::exec::{ExecError, Output, StdinSender, Streams};
use crate::export::{BlockingExport, Export};
use crate::handle::SandboxHandle;
use crate::spec::{Attachments, ConfinementSpec, DiskSource, DiskSpec, SandboxSpec};
use crate::values::InvalidConfig;
use crate::volume::Attached;

/// Where BuildKit keeps its cache.
const CACHE: &str = "/var/lib/buildkit";

const BUILD: &str = include_str!("buildkit/build.sh");
const UNPACK: &str = "mkdir -p /workspace && exec tar -x -f - -C /workspace";
const SEND: &str = "exec cat /workspace/image.tar";

/// Bytes of the context that are on their way at a time, in pieces of [`PIECE`].
const PIECES: usize = 8;
const PIECE: usize = 64 * 1024;

/// Most bytes of a program's complaint that an error quotes.
const QUOTED: usize = 4096;

/// What BuildKit is told beside the files.
#[derive(Clone, Default)]
pub struct BuildKitOptions {
    /// The stage to build; the last one without.
    pub target: Option<String>,
    /// Arguments for ARG. They are in no error, no `Debug` and no audit trail.
    pub args: BTreeMap<String, String>,
    /// Whether every step is carried out anew.
    pub no_cache: bool,
}

/// Why BuildKit has built nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildKitError {
    /// The context on this host.
    #[error("sending the build context")]
    Context(#[source] SendError),
    /// The guest did not take it. The text is the guest's, with control characters escaped.
    #[error("the sandbox did not take the build context: {0}")]
    Unpack(String),
    /// A program was not started, or its guest ended.
    #[error("executing BuildKit")]
    Execute(#[source] ExecError),
    /// Its output says why.
    #[error("BuildKit has failed with status {0}")]
    Failed(u8),
    /// The thread that reads the context.
    #[error("reading the build context has failed: {0}")]
    Thread(String),
}

/// The sandbox for a build by BuildKit's image, with the disk of its cache. Its writable layer holds the
/// context and the image. Privileged: BuildKit makes containers of its own in it.
///
/// # Errors
/// None that can happen: the mount point is a constant.
pub fn sandbox(
    settings: &StepSettings,
    image: RootImage,
    cache: Attached,
) -> Result<(SandboxSpec, Attachments), InvalidConfig> {
    let (source, target) = (DiskSource::BuildCache, CACHE.parse()?);
    let disk = DiskSpec { source, target, access: cache.access(), owner: None };
    let (spec, with) = settings.sandbox(image, true);
    let spec = SandboxSpec {
        disks: vec![disk],
        export: false,
        confinement: ConfinementSpec::privileged(),
        ..spec
    };
    Ok((spec, Attachments { disks: vec![cache], ..with }))
}

/// Builds in a sandbox that [`sandbox`] describes; returns the archive of the image, an OCI
/// layout, as the guest sends it.
///
/// # Errors
/// [`BuildKitError`].
pub async fn build(
    sandbox: &SandboxHandle,
    files: BuildFiles,
    options: &BuildKitOptions,
    watcher: &mut dyn Watcher,
) -> Result<BlockingExport, BuildKitError> {
    send(sandbox, files).await?;
    let request = ExecRequest { env: environment(options), ..shell(BUILD) };
    let (mut execution, streams) = sandbox.exec(request).await.map_err(BuildKitError::Execute)?;
    let Streams { stdout, stderr, .. } = streams;
    watch(stdout, stderr, watcher).await;
    match execution.wait().await.map_err(BuildKitError::Execute)? {
        ExitStatus::Code(0) => {}
        status => return Err(BuildKitError::Failed(status.shell_code())),
    }
    let (execution, streams) = sandbox.exec(shell(SEND)).await.map_err(BuildKitError::Execute)?;
    Ok(Export::new(execution, streams).blocking())
}

/// A script as root, whatever the image's user is.
fn shell(script: &str) -> ExecRequest {
    let words = ["/bin/sh", "-c", script, "build"];
    ExecRequest {
        argv: words.map(|word| word.as_bytes().to_vec()).into(),
        working_dir: Some(b"/".to_vec()),
        user: Some("0:0".to_owned()),
        env: root_environment(),
        ..ExecRequest::default()
    }
}

/// The image that is made for a user without privileges has that user's directories.
fn root_environment() -> Vec<(Vec<u8>, Vec<u8>)> {
    let variables =
        [("HOME", "/root"), ("USER", "root"), ("TMPDIR", "/tmp"), ("XDG_RUNTIME_DIR", "/run")];
    variables.map(|(name, value)| (name.into(), value.into())).into()
}

fn environment(options: &BuildKitOptions) -> Vec<(Vec<u8>, Vec<u8>)> {
    let BuildKitOptions { target, args, no_cache } = options;
    let target = target.iter().map(|target| format!("target={target}"));
    let args = args.iter().map(|(name, value)| format!("build-arg:{name}={value}"));
    let options: Vec<String> = target.chain(args).collect();
    let mut env = root_environment();
    env.push((b"MATCHLOCK_OPTIONS".into(), options.len().to_string().into_bytes()));
    if *no_cache {
        env.push((b"MATCHLOCK_NO_CACHE".into(), b"1".into()));
    }
    let numbered = options.into_iter().enumerate();
    env.extend(numbered.map(|(number, option)| {
        (format!("MATCHLOCK_OPTION_{number}").into_bytes(), option.into_bytes())
    }));
    env
}

async fn watch(mut stdout: Output, mut stderr: Output, watcher: &mut dyn Watcher) {
    let (mut more_stdout, mut more_stderr) = (true, true);
    while more_stdout || more_stderr {
        let (stream, bytes) = tokio::select! {
            bytes = stdout.next(), if more_stdout => (Stream::Stdout, bytes),
            bytes = stderr.next(), if more_stderr => (Stream::Stderr, bytes),
        };
        match (bytes, stream) {
            (Some(bytes), stream) => watcher.write(stream, &bytes),
            (None, Stream::Stdout) => more_stdout = false,
            (None, Stream::Stderr) => more_stderr = false,
        }
    }
}

/// Sends Dockerfile and context to be unpacked.
async fn send(sandbox: &SandboxHandle, files: BuildFiles) -> Result<(), BuildKitError> {
    let request = ExecRequest { stdin: Stdin::Pipe, ..shell(UNPACK) };
    let (mut execution, streams) = sandbox.exec(request).await.map_err(BuildKitError::Execute)?;
    let Streams { stdin, stdout, stderr } = streams;
    let (pieces, incoming) = mpsc::channel(PIECES);
    let writing = tokio::task::spawn_blocking(move || {
        files.write(BufWriter::with_capacity(PIECE, Pieces(pieces)))
    });
    let ((), _, said) = tokio::join!(feed(incoming, stdin), beginning(stdout), beginning(stderr));
    let written = writing.await.map_err(|error| BuildKitError::Thread(error.to_string()))?;
    let status = execution.wait().await.map_err(BuildKitError::Execute)?;
    match (written, status) {
        (Err(error @ SendError::Files(_)), _) => Err(BuildKitError::Context(error)),
        // It may end without reading the padding, and that is no error.
        (_, ExitStatus::Code(0)) => Ok(()),
        (_, status) if said.is_empty() => {
            Err(BuildKitError::Unpack(format!("tar has ended with status {}", status.shell_code())))
        }
        _ => {
            let said = String::from_utf8_lossy(&said);
            Err(BuildKitError::Unpack(said.trim_end().escape_debug().collect()))
        }
    }
}

/// To the end of the archive or of the program; then the writer is told, too.
async fn feed(mut incoming: mpsc::Receiver<Vec<u8>>, stdin: Option<StdinSender>) {
    let Some(stdin) = stdin else { return };
    while let Some(piece) = incoming.recv().await {
        if stdin.send(&piece).await.is_err() {
            return;
        }
    }
}

/// What a program says first; the rest is not kept.
async fn beginning(mut output: Output) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Some(bytes) = output.next().await {
        let room = QUOTED.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }
    kept
}

/// A writer, on a thread that may block, into a channel.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for BuildKitOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildKitOptions")
            .field("target", &self.target)
            .field("args", &self.args.keys().collect::<Vec<_>>())
            .field("no_cache", &self.no_cache)
            .finish()
    }
}

#[cfg(test)]
mod tests;
