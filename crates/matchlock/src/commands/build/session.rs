//! A build from the first look at its files to the image.

use std::time::Duration;

use matchlock_core::Launcher;
use matchlock_core::build::{SandboxRunner, StepSettings};
use matchlock_core::dockerfile::{BoxError, BuildRequest, Built, ImageSource, build};
use matchlock_core::images::{Images, Reference, StoredImage};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::buildkit::{self, BuildKit};
use super::plan::Plan;
use super::report;
use crate::commands::obtain::{ImageRequest, find_or_fetch};
use crate::commands::run::refused::{self, Refused};
use crate::commands::run::report::announce;
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::event_loop;
use crate::options::time_span::in_seconds;
use crate::printer::Printer;
use crate::signals::Interrupts;

/// How long a build that was told to end may take: the sandbox of a step has to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a build works with.
pub(super) struct Job {
    pub(super) request: BuildRequest,
    pub(super) images: Images,
    pub(super) settings: StepSettings,
    pub(super) pull: bool,
    pub(super) launcher: Launcher,
    pub(super) environment: Environment,
    pub(super) printer: Printer,
}

/// The image, or why there is none; and what the steps were refused.
pub(super) type Outcome = (Result<Built, CliError>, Vec<Refused>);

/// Builds; returns the status to exit with.
pub(super) async fn run(
    mut plan: Plan,
    environment: Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let mut interrupts = Interrupts::listen()?;
    let (tag, timeout) = (plan.tag.clone(), plan.timeout);
    let buildkit = plan.buildkit.take();
    let (cancel, mut cancelled) = oneshot::channel::<()>();
    let runtime = Handle::current();
    // It reads and writes files between its waits, which must not keep signals waiting.
    let mut building = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let opening = Launcher::open(environment.host(plan.kernel.clone())?);
            let launcher = tokio::select! {
                launcher = opening => launcher?,
                _ = &mut cancelled => return Ok::<_, CliError>(None),
            };
            announce(launcher.accelerator(), printer);
            let job = Job::new(plan, launcher.clone(), environment, printer)?;
            let outcome = tokio::select! {
                outcome = job.carry_out(buildkit.as_ref()) => Some(outcome),
                _ = &mut cancelled => None,
            };
            launcher.settled().await;
            Ok(outcome)
        })
    });
    let early = tokio::select! {
        built = &mut building => {
            let built = built
                .map_err(|error| CliError::internal("the build has failed", &error))??;
            return built.map_or(Ok(1), |outcome| finish(&tag, outcome, printer));
        }
        signal = interrupts.next() => Err(CliError::interrupted(signal)),
        time = event_loop::expiry(timeout) => Err(too_slow(time)),
    };
    drop(cancel);
    tokio::select! {
        _ = &mut building => {}
        // The user is in a hurry.
        _ = interrupts.next() => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
    early
}

fn finish(tag: &str, outcome: Outcome, printer: Printer) -> Result<u8, CliError> {
    let (built, refused) = outcome;
    // What was refused may be why a step failed.
    if let Some(line) = refused::line(&refused).filter(|_| built.is_err() || printer.is_terminal())
    {
        printer.note(&line);
    }
    report::say(tag, built, &refused, printer)?;
    Ok(0)
}

impl Job {
    fn new(
        plan: Plan,
        launcher: Launcher,
        environment: Environment,
        printer: Printer,
    ) -> Result<Self, CliError> {
        let Plan { request, settings, pull, .. } = plan;
        let images = environment.images()?;
        Ok(Self { request, images, settings, pull, launcher, environment, printer })
    }

    async fn carry_out(self, by: Option<&BuildKit>) -> Outcome {
        if let Some(wanted) = by {
            return buildkit::carry_out(wanted, self).await;
        }
        let Self { request, images, settings, pull, launcher, printer, .. } = self;
        let store = images.store();
        let source = NamedImages { images: &images, pull, printer };
        let log = printer.build_log();
        let mut runner =
            SandboxRunner { launcher: &launcher, store, settings, refusals: Vec::new() };
        let built = build(&request, store, &source, &mut runner, &log).await;
        let refused = runner.refusals.into_iter().map(Refused::from).collect();
        (built.map_err(|error| report::describe(&error)), refused)
    }
}

/// The images that a Dockerfile names: those that are here first, whatever their names.
struct NamedImages<'a> {
    images: &'a Images,
    /// Ask the registry in any case.
    pull: bool,
    printer: Printer,
}

impl ImageSource for NamedImages<'_> {
    async fn resolve(&self, reference: &Reference) -> Result<StoredImage, BoxError> {
        let request = ImageRequest { name: reference.as_typed(), force: self.pull, tag: None };
        Ok(find_or_fetch(self.images, request, self.printer).await?.image)
    }
}

fn too_slow(timeout: Duration) -> CliError {
    let time = in_seconds(timeout);
    CliError::new(format!("the build did not end within {time} (see --timeout)"))
        .of_kind(Kind::Timeout)
        .hinted("run it again: finished steps come from the cache")
}
