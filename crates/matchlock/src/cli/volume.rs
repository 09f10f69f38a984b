//! The grammar of `volume`.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::PlainArgs;
use crate::options::size::Megabytes;

/// `volume`.
#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

/// The subcommands of `volume`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Create an empty volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(visible_alias = "list", override_usage = "matchlock volume ls [OPTIONS]")]
    Ls(PlainArgs),
    /// Remove a volume and everything in it
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
    /// Size in MB, or as 512m, 10g; the host stores only what is written
    #[arg(long, value_name = "SIZE", default_value = "10240", allow_negative_numbers = true)]
    pub(crate) size: Megabytes,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}
