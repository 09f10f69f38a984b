//! The grammar of `volume`.

use clap::{Args, Subcommand};

use super::PlainArgs;

/// `volume`.
#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

/// The subcommands of `volume`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make an empty volume
    Create(VolumeCreateArgs),
    /// List the volumes
    #[command(visible_alias = "list", override_usage = "matchlock volume ls [OPTIONS]")]
    Ls(PlainArgs),
    /// Remove a volume with everything in it
    #[command(visible_alias = "remove", override_usage = "matchlock volume rm [OPTIONS] NAME")]
    Rm(PlainArgs),
    /// Copy a volume
    #[command(
        visible_alias = "copy",
        override_usage = "matchlock volume cp [OPTIONS] SOURCE DESTINATION"
    )]
    Cp(PlainArgs),
}

/// `volume create`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock volume create [OPTIONS] NAME")]
pub(crate) struct VolumeCreateArgs {
    /// Size in MB; it takes no more than what is written
    #[arg(long, value_name = "MB", default_value = "10240", allow_negative_numbers = true)]
    pub(crate) size: i64,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}
