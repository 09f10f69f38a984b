//! The grammar of the commands that enter a sandbox which runs.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::run::CommandArgs;
use crate::options::size::Megabytes;

/// `exec`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock exec [OPTIONS] ID|NAME [--] [COMMAND [ARGUMENT]...]")]
pub(crate) struct ExecArgs {
    /// Forward standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// With -i: give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Working directory in the sandbox [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<OsString>,

    /// User: name, uid, uid:gid or name:group [default: the sandbox's]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Environment variable KEY=VALUE, or KEY to copy it from here
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<OsString>,

    /// The sandbox
    #[arg(value_name = "ID|NAME")]
    pub(crate) sandbox: String,

    #[command(flatten)]
    pub(crate) command: CommandArgs,
}

/// `cp`.
#[derive(Debug, Args)]
#[command(
    override_usage = "matchlock cp [OPTIONS] ID|NAME:SRC DST|-\n       matchlock cp [OPTIONS] SRC|- ID|NAME:DST"
)]
pub(crate) struct CpArgs {
    /// Copy what a link SRC leads to, and not the link
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,

    /// Take no more than this out of a sandbox: a number of MB, or 500m, 2g
    #[arg(long, value_name = "SIZE", default_value = "64g")]
    pub(crate) max_size: Megabytes,

    /// Do not say what was copied
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<OsString>,
}

/// `stats`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock stats [OPTIONS] [ID|NAME]...")]
pub(crate) struct StatsArgs {
    /// Print one table and end, as without a terminal
    #[arg(long)]
    pub(crate) no_stream: bool,

    /// Print one JSON array instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `port-forward`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock port-forward [OPTIONS] ID|NAME [LOCAL:]REMOTE...")]
pub(crate) struct PortForwardArgs {
    /// Addresses of this machine to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESSES")]
    pub(crate) address: Vec<String>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `secret`.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
}

/// The subcommands of `secret`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// List secrets with their hosts and placeholders
    #[command(visible_alias = "list", override_usage = "matchlock secret ls [OPTIONS] ID|NAME")]
    Ls(super::PlainArgs),
    /// Add a secret, or give one another value: that of the environment variable, or standard input with -
    #[command(override_usage = "matchlock secret set [OPTIONS] ID|NAME SECRET[@HOST,...] [-]")]
    Set(super::PlainArgs),
    /// Remove a secret: its placeholder stands for nothing then
    #[command(
        visible_alias = "remove",
        override_usage = "matchlock secret rm [OPTIONS] ID|NAME SECRET"
    )]
    Rm(super::PlainArgs),
}

/// `allow-list`.
#[derive(Debug, Args)]
pub(crate) struct AllowListArgs {
    #[command(subcommand)]
    pub(crate) command: AllowListCommand,
}

/// The subcommands of `allow-list`.
#[derive(Debug, Subcommand)]
pub(crate) enum AllowListCommand {
    /// Allow more hosts
    #[command(override_usage = "matchlock allow-list add [OPTIONS] ID|NAME HOST[,HOST]...")]
    Add(super::PlainArgs),
    /// Allow hosts no longer
    #[command(override_usage = "matchlock allow-list delete [OPTIONS] ID|NAME HOST[,HOST]...")]
    Delete(super::PlainArgs),
    /// Print the hosts that are allowed
    #[command(visible_alias = "list", override_usage = "matchlock allow-list ls [OPTIONS] ID|NAME")]
    Ls(super::PlainArgs),
}
