//! The grammar of the commands that enter a sandbox which runs.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::run::CommandArgs;

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
