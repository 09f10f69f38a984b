//! `matchlock volume`.

use std::path::Path;

use matchlock_core::DiskSize;
use matchlock_core::volume::{Volume, VolumeName};
use serde::Serialize;

use super::image::Removed;
use crate::cli::{VolumeArgs, VolumeCommand, VolumeCreateArgs, exactly};
use crate::embedded::ARTEFACTS;
use crate::environment::Environment;
use crate::error::{CliError, given_by};
use crate::printer::{Printer, megabytes};

/// Carries out a subcommand of `volume`.
pub(crate) fn run(
    args: &VolumeArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    match &args.command {
        VolumeCommand::Create(args) => create(args, environment, printer)?,
        VolumeCommand::Ls(args) => {
            let [] = exactly(&args.positionals)?;
            list(environment, printer)?;
        }
        VolumeCommand::Rm(args) => {
            let [name] = exactly(&args.positionals)?;
            environment.volumes()?.remove(&name.parse()?)?;
            printer.result(&format!("Removed volume {name}"));
            printer.json(&Removed { removed: name })?;
        }
        VolumeCommand::Cp(args) => {
            let [source, destination] = exactly(&args.positionals)?;
            let (from, to): (VolumeName, VolumeName) = (source.parse()?, destination.parse()?);
            let copy = environment.volumes()?.copy(&from, &to)?;
            printer.result(&format!("Copied volume {source} to {destination}"));
            printer.json(&Described::from(&copy))?;
        }
    }
    Ok(0)
}

/// A volume in JSON: these keys and no others, as clients of the reference read them.
#[derive(Debug, Serialize)]
struct Described<'a> {
    name: String,
    size: String,
    path: &'a Path,
}

impl<'a> From<&'a Volume> for Described<'a> {
    fn from(volume: &'a Volume) -> Self {
        Self { name: volume.name.to_string(), size: megabytes(volume.bytes), path: &volume.path }
    }
}

fn create(
    args: &VolumeCreateArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<(), CliError> {
    let [name] = exactly(&args.positionals)?;
    let size = DiskSize::of_volume(args.size.0).map_err(given_by("--size"))?;
    let template = &ARTEFACTS.volume_template;
    let volume = environment.volumes()?.create(&name.parse()?, size, template)?;
    printer.result(&format!("Created volume {name} ({} MB)", args.size.0));
    printer.json(&Described::from(&volume))
}

fn list(environment: &Environment, printer: Printer) -> Result<(), CliError> {
    let volumes = environment.volumes()?.list()?;
    let rows: Vec<_> =
        volumes.iter().map(|volume| [volume.name.to_string(), megabytes(volume.bytes)]).collect();
    printer.table(["NAME", "SIZE"], &rows);
    printer.json(&volumes.iter().map(Described::from).collect::<Vec<_>>())
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let (name, size, path) = ("data".to_owned(), megabytes(1), Path::new("/data.ext4"));
    serde_json::to_value(Described { name, size, path }).expect("JSON")
}
