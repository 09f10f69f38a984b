//! `start` and `restart`: a kept sandbox again, with its disk.

use std::path::PathBuf;
use std::time::Instant;

use matchlock_core::images::Images;
use matchlock_core::{
    Attachments, ExecRequest, ImageSpec, KEPT_IMAGE, Launcher, Listeners, NetworkSpec, SandboxId,
    SandboxRecord, SandboxSpec, StartSpec, StateError,
};

use super::session::{self, Front, Ready};
use super::{detach, report};
use crate::cli::{PlainArgs, StopArgs, exactly};
use crate::commands::enter::lookup;
use crate::commands::sandboxes::{end_one, runs};
use crate::environment::Environment;
use crate::error::{CliError, Kind};
use crate::event_loop::{beside, block_on};
use crate::hardening;
use crate::options::secrets;
use crate::printer::Printer;
use crate::signals::Interrupts;

/// `start`.
pub(crate) fn start(
    args: &PlainArgs,
    environment: &Environment,
    printer: Printer,
    started: Instant,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let state = environment.state()?;
    let record = lookup(&state, wanted)?;
    if runs(&record) {
        return Err(StateError::Running(record.id).into());
    }
    if !environment.detached {
        return detach::start(std::env::args_os().skip(1), printer);
    }
    let again = Again::new(&record, state.directory_of(&record.id), environment)?;
    hardening::give_up();
    // Without a terminal that could go away. It fails only for one that leads a group already.
    let _ = rustix::process::setsid();
    block_on(again.run(environment, printer, started))
}

/// `restart`.
pub(crate) fn restart(
    args: &StopArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [wanted] = exactly(&args.positionals)?;
    let state = environment.state()?;
    let record = lookup(&state, wanted)?;
    // One that could not be started again is not stopped.
    let (spec, _) = description(&record)?;
    secrets_of(&spec)?;
    if runs(&record) {
        end_one(&state, &record, args.time)?;
    }
    detach::start(["start".into(), record.id.as_str().into()], printer)
}

/// A kept sandbox with all that was not stored.
struct Again {
    id: SandboxId,
    directory: PathBuf,
    spec: SandboxSpec,
    start: StartSpec,
    with: Attachments,
}

/// What the sandbox is, and what was done with it.
fn description(record: &SandboxRecord) -> Result<(SandboxSpec, StartSpec), CliError> {
    let spec: SandboxSpec = serde_json::from_value(record.config.clone()).map_err(|_| {
        let text = format!("VM {} was made by another version of matchlock", record.id);
        CliError::new(text).of_kind(Kind::Conflict).hinted("start it with that version")
    })?;
    match spec.start.clone() {
        Some(start) => Ok((spec, start)),
        None => Err(StateError::NotKept(record.id.clone()).into()),
    }
}

fn secrets_of(spec: &SandboxSpec) -> Result<matchlock_core::policy::Secrets, CliError> {
    let rules = spec.network.as_ref().map_or(&[][..], |NetworkSpec { secrets, .. }| secrets);
    secrets::again(rules, &|name| std::env::var(name).ok())
}

impl Again {
    fn new(
        record: &SandboxRecord,
        directory: PathBuf,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let (spec, start) = description(record)?;
        let secrets = secrets_of(&spec)?.into();
        let volumes = environment.volumes()?;
        let disks = spec.disks.iter().map(|disk| disk.claim(&volumes));
        let disks = disks.collect::<Result<Vec<_>, _>>()?;
        let proxy = match spec.network {
            Some(_) => Environment::proxy()?,
            None => Default::default(),
        };
        let with = Attachments { disks, secrets, proxy, ..Attachments::default() };
        Ok(Self { id: record.id.clone(), directory, spec, start, with })
    }

    async fn run(
        self,
        environment: &Environment,
        printer: Printer,
        started: Instant,
    ) -> Result<u8, CliError> {
        let Self { id, directory, spec, start, mut with } = self;
        let mut interrupts = Interrupts::listen()?;
        let preparing = async {
            let (ports, addresses) = start.forwards();
            let listeners = Listeners::bind(&ports, &addresses)?;
            let launcher = Launcher::open(environment.host(start.kernel())?);
            let launcher = async { launcher.await.map_err(CliError::from) };
            let (places, is_host) = (environment.image_places()?, spec.image == ImageSpec::Host);
            let image = beside(move || {
                if is_host {
                    return Ok((None, None));
                }
                let store = Images::open(places)?.store().clone();
                let root = store.open_kept(&directory.join(KEPT_IMAGE))?;
                Ok((Some(Box::new(root)), Some(store)))
            });
            let (launcher, (root, store)) = tokio::try_join!(launcher, image)?;
            (with.root, with.images) = (root, store);
            report::announce(launcher.accelerator(), printer);
            let exec = start.command.as_ref().map(ExecRequest::from);
            Ok::<_, CliError>(Ready { launcher, spec, with, listeners, exec, again: Some(id) })
        };
        let ready = tokio::select! {
            ready = preparing => ready?,
            signal = interrupts.next() => return Err(CliError::interrupted(signal)),
        };
        session::live(ready, Front { interrupts, terminal: None, detached: true, printer, started })
            .await
    }
}
