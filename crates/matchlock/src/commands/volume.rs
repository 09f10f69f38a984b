//! `matchlock volume`.

use std::path::Path;

use matchlock_core::DiskSize;
use matchlock_core::volume::{Volume, VolumeName};
use serde::Serialize;

use crate::cli::{VolumeArgs, VolumeCommand, VolumeCreateArgs, exactly};
use crate::embedded::ARTEFACTS;
use crate::environment::Environment;
use crate::error::CliError;
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
            list(args.json, environment, printer)?;
        }
        VolumeCommand::Rm(args) => {
            let [name] = exactly(&args.positionals)?;
            environment.volumes()?.remove(&name.parse()?)?;
            if args.json {
                printer.json(&serde_json::json!({ "removed": name }))?;
            } else {
                printer.result(&format!("Removed volume {name}"));
            }
        }
        VolumeCommand::Cp(args) => {
            let [source, destination] = exactly(&args.positionals)?;
            let (from, to): (VolumeName, VolumeName) = (source.parse()?, destination.parse()?);
            let copy = environment.volumes()?.copy(&from, &to)?;
            if args.json {
                printer.json(&Described::from(&copy))?;
            } else {
                printer.result(&format!("Copied volume {source} to {destination}"));
            }
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
    let size = DiskSize::of_volume(args.size.0)?;
    let template = &ARTEFACTS.volume_template;
    let volume = environment.volumes()?.create(&name.parse()?, size, template)?;
    if args.json {
        return printer.json(&Described::from(&volume));
    }
    printer.result(&format!("Created volume {name} ({} MB)", args.size.0));
    Ok(())
}

fn list(json: bool, environment: &Environment, printer: Printer) -> Result<(), CliError> {
    let volumes = environment.volumes()?.list()?;
    if json {
        let described: Vec<_> = volumes.iter().map(Described::from).collect();
        return printer.json(&described);
    }
    let rows: Vec<_> =
        volumes.iter().map(|volume| [volume.name.to_string(), megabytes(volume.bytes)]).collect();
    printer.table(["NAME", "SIZE"], &rows);
    Ok(())
}
