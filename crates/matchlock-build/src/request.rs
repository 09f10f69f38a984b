//! What a build is given and what it gives.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::time::SystemTime;

use super::BoxError;
use super::error::At;
use matchlock_image::layer::Layer;
use matchlock_image::reference::Reference;
use matchlock_image::store::{ImageName, RootImage, StoredImage};

/// A build.
#[derive(Clone)]
pub struct BuildRequest {
    /// The Dockerfile, if it is another file than `Dockerfile` of the context.
    pub dockerfile: Option<PathBuf>,
    /// What it is called in errors.
    pub dockerfile_name: String,
    /// The directory that COPY and ADD see.
    pub context: PathBuf,
    /// The stage to build; the last one without.
    pub target: Option<String>,
    /// Arguments for ARG. Their values may be secret: they are in no error and no `Debug`.
    pub args: BTreeMap<String, String>,
    /// Whether every step is carried out anew; what they make is kept all the same.
    pub no_cache: bool,
    /// Most bytes that the build cache keeps, see [`CACHE_BYTES`](matchlock_image::store::CACHE_BYTES).
    pub cache_bytes: u64,
    /// What the image is called.
    pub names: Vec<ImageName>,
    /// The time of what is made.
    pub now: SystemTime,
}

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// It is in the store.
    pub image: StoredImage,
    /// Steps whose layers came from the cache.
    pub cached: usize,
    /// Steps in all.
    pub steps: usize,
}

/// Finds images.
pub trait ImageSource: Sync {
    /// The image that a FROM or `--from` names, in the store: from there or from its registry, for this
    /// host's platform.
    fn resolve(
        &self,
        reference: &Reference,
    ) -> impl Future<Output = Result<StoredImage, BoxError>> + Send;
}

/// Runs commands.
pub trait Runner: Send {
    /// Runs one command in a sandbox of its own on top of [`RunStep::image`], its output as it comes.
    ///
    /// The layer holds what the command changed, and nothing that the sandbox put there for itself. It
    /// is `None` when nothing changed; when the command failed, it is not looked at.
    fn run(
        &mut self,
        step: RunStep,
        output: &mut dyn Output,
    ) -> impl Future<Output = Result<RunResult, BoxError>> + Send;
}

/// A command for a [`Runner`].
#[non_exhaustive]
pub struct RunStep {
    /// Read-only below the command, open. Its configuration is that of the step: user, working directory
    /// and environment, arguments of the build with it. Neither entry point nor command.
    pub image: RootImage,
    /// The program and its arguments; never empty.
    pub arguments: Vec<String>,
    /// Whether it may use the network that the build's policy allows; otherwise it has none.
    pub network: bool,
    /// Where it is in the Dockerfile.
    pub at: At,
}

/// What became of a command.
#[derive(Debug)]
pub struct RunResult {
    /// Its exit status; 128 and the signal's number when it was killed.
    pub status: i32,
    /// What it changed.
    pub layer: Option<Layer>,
}

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes a command's output.
pub trait Output: Send {
    /// Some bytes, as they were written; not in lines.
    fn write(&mut self, stream: Stream, bytes: &[u8]);
}

/// Watches a build. Not to be kept waiting.
pub trait BuildProgress: Send + Sync {
    /// Something happened.
    fn event(&self, event: BuildEvent<'_>);
}

/// What happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum BuildEvent<'a> {
    /// An image is looked for.
    Resolving {
        /// As the Dockerfile names it.
        image: &'a str,
    },
    /// A step begins.
    Step {
        /// From 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// The stage, when it has a name.
        stage: Option<&'a str>,
        /// Line and text.
        at: &'a At,
    },
    /// The step's layer came from the cache.
    Cached,
    /// The command wrote something.
    Output {
        /// Where to.
        stream: Stream,
        /// What.
        bytes: &'a [u8],
    },
    /// All steps are done; the image is put together.
    Storing,
    /// Something that the user may not have meant.
    Warning(&'a str),
}

impl fmt::Debug for BuildRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildRequest")
            .field("dockerfile", &self.dockerfile)
            .field("context", &self.context)
            .field("target", &self.target)
            .field("args", &self.args.keys().collect::<Vec<_>>())
            .field("no_cache", &self.no_cache)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RunStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment has the values of arguments.
        f.debug_struct("RunStep")
            .field("at", &self.at)
            .field("arguments", &self.arguments)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}
