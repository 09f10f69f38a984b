//! `--builder buildkit`: a build by BuildKit, in one sandbox that has its image.

use std::time::Duration;

use matchlock_core::buildkit::{self, BuildKitError, BuildKitOptions};
use matchlock_core::dockerfile::{BuildEvent, BuildFiles, BuildProgress, Built, Output, Stream};
use matchlock_core::images::{ImagesError, Pulled, import};
use matchlock_core::volume::{Attached, attach_cache};
use matchlock_core::{DescribeChain, DiskSize, ExecError, ExecFailure, SandboxHandle};

use super::report;
use super::session::{Job, Outcome};
use crate::cli::{BuildArgs, Builder};
use crate::commands::obtain::{ImageRequest, find_or_fetch};
use crate::commands::run::refused::Refused;
use crate::embedded::ARTEFACTS;
use crate::environment::Environment;
use crate::error::{CliError, given_by};
use crate::event_loop;
use crate::printer::{BuildLog, Printer};

/// The image that is meant when none is named.
const IMAGE: &str = "moby/buildkit:rootless";

/// BuildKit's cache, in the cache directory of matchlock.
const CACHE: &str = "buildkit/cache.ext4";

/// A build by BuildKit that is wanted.
#[derive(Debug)]
pub(super) struct BuildKit {
    /// Name of its image, as it was typed.
    image: String,
    /// Size that its cache has at least.
    cache: DiskSize,
}

impl BuildKit {
    /// `None` when matchlock itself is to build.
    pub(super) fn wanted(args: &BuildArgs) -> Result<Option<Self>, CliError> {
        let Builder::BuildKit(image) = &args.builder else { return Ok(None) };
        let cache = DiskSize::new(args.build_cache_size.0);
        let cache = cache.map_err(given_by("--build-cache-size"))?;
        Ok(Some(Self { image: image.clone().unwrap_or_else(|| IMAGE.to_owned()), cache }))
    }
}

/// Carries out the build of a job.
pub(super) async fn carry_out(wanted: &BuildKit, job: Job) -> Outcome {
    let files = match open(&job) {
        Ok(files) => files,
        Err(error) => return (Err(error), Vec::new()),
    };
    match start(wanted, &job).await {
        Ok(sandbox) => in_sandbox(sandbox, files, job).await,
        Err(error) => (Err(error), Vec::new()),
    }
}

/// What is wrong with the files is said before anything starts.
fn open(job: &Job) -> Result<BuildFiles, CliError> {
    let request = &job.request;
    BuildFiles::open(request.dockerfile.as_deref(), &request.dockerfile_name, &request.context)
        .map_err(|error| report::describe(&error))
}

async fn start(wanted: &BuildKit, job: &Job) -> Result<SandboxHandle, CliError> {
    let Job { images, settings, printer, .. } = job;
    let about = |error: CliError| error.context("getting BuildKit");
    let request = ImageRequest { name: &wanted.image, force: job.pull, tag: None };
    let Pulled { image, .. } = find_or_fetch(images, request, *printer).await.map_err(about)?;
    let image = images.store().open_image(&image).map_err(|error| about(error.into()))?;
    // Last, for others wait for it.
    let cache = cache(wanted.cache, &job.environment, *printer).await?;
    let (spec, with) = buildkit::sandbox(settings, image, cache)?;
    let progress = printer.progress("starting the sandbox …");
    let sandbox = job.launcher.start(spec, with).await;
    drop(progress);
    sandbox.map_err(|error| CliError::from(error).context("starting sandbox"))
}

/// Takes the cache, when no other build has it any more.
async fn cache(
    size: DiskSize,
    environment: &Environment,
    printer: Printer,
) -> Result<Attached, CliError> {
    let path = environment.cache()?.join(CACHE);
    let attaching = event_loop::beside(move || {
        Ok(attach_cache(&path, size, &ARTEFACTS.volume_template, || {
            printer.note("waiting for another build: it uses BuildKit's cache");
        })?)
    });
    attaching.await.map_err(|error| error.context("taking BuildKit's cache"))
}

async fn in_sandbox(sandbox: SandboxHandle, files: BuildFiles, job: Job) -> Outcome {
    let built = build_and_import(&sandbox, files, &job).await;
    // The cache is written back, also after a build that has failed.
    let ending = sandbox.stop(Duration::ZERO).await;
    let built = match ending.audit_lost {
        Some(why) => Err(CliError::new(format!("the audit trail is incomplete: {why}"))),
        None => built,
    };
    (built, ending.refused.into_iter().map(Refused::from).collect())
}

async fn build_and_import(
    sandbox: &SandboxHandle,
    files: BuildFiles,
    job: &Job,
) -> Result<Built, CliError> {
    let request = &job.request;
    let options = BuildKitOptions {
        target: request.target.clone(),
        args: request.args.clone(),
        no_cache: request.no_cache,
    };
    let mut log = Log(job.printer.build_log());
    let archive = buildkit::build(sandbox, files, &options, &mut log).await;
    let archive = archive.map_err(|error| describe(&error))?;
    log.0.event(BuildEvent::Storing);
    drop(log);
    let name = request.names.first().cloned();
    let name = name.ok_or_else(|| CliError::new("the image has no name"))?;
    let (store, progress) =
        (job.images.store().clone(), job.printer.image_progress(name.as_typed()));
    let most = job.settings.disk.bytes();
    let importing = event_loop::beside(move || {
        // No more than its disk can hold is taken from the guest.
        let archive = std::io::Read::take(archive, most);
        let imported = import(&store, archive, &name, &progress).map_err(Box::new);
        progress.clear();
        Ok(imported.map_err(ImagesError::from)?)
    });
    let Pulled { image, .. } =
        importing.await.map_err(|error| error.context("importing what BuildKit has built"))?;
    // How many steps there were, and which of them came from its cache, BuildKit says only to people.
    Ok(Built { image, cached: 0, steps: 0 })
}

/// What BuildKit writes, on the user's standard error.
struct Log(BuildLog);

impl Output for Log {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        self.0.event(BuildEvent::Output { stream, bytes });
    }
}

fn describe(error: &BuildKitError) -> CliError {
    let described = CliError::new(DescribeChain(error).to_string());
    match error {
        BuildKitError::Failed(125 | 127)
        | BuildKitError::Execute(ExecError::Refused(
            ExecFailure::NotFound(_) | ExecFailure::NotExecutable(_),
        )) => described.hinted(
            "--builder buildkit=IMAGE needs an image with buildkitd, buildctl, runc, sh and tar",
        ),
        _ => described,
    }
}
