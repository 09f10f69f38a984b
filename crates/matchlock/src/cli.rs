//! The command line's grammar: GNU long flags, bundled short ones, everything after `--` positional.
//!
//! Flags and positional arguments mix, but for the words of a command that is to be executed:
//! see [`run::CommandArgs`].

mod confinement;
mod enter;
mod images;
mod log;
mod logs;
mod network;
mod refusal;
mod reporting;
mod run;
mod sandboxes;
mod volume;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use matchlock_core::service::Bounds;

use crate::error::CliError;
use crate::options::size::Megabytes;

pub(crate) use self::confinement::ConfinementArgs;
pub(crate) use self::enter::{
    AllowListArgs, AllowListCommand, CpArgs, ExecArgs, PortForwardArgs, SecretArgs, SecretCommand,
    StatsArgs,
};
pub(crate) use self::images::{BuildArgs, Builder, ImageArgs, ImageCommand, PullArgs};
pub(crate) use self::log::{LogArgs, LogLevel};
pub(crate) use self::logs::LogsArgs;
pub(crate) use self::network::{NetworkArgs, PublishArgs};
pub(crate) use self::reporting::Reporting;
#[cfg(test)]
pub(crate) use self::run::CommandArgs;
pub(crate) use self::run::RunArgs;
pub(crate) use self::sandboxes::{GcArgs, KillArgs, ListArgs, RmArgs, StopArgs};
pub(crate) use self::volume::{VolumeArgs, VolumeCommand, VolumeCreateArgs};

const SEE_HELP: &str = "see `matchlock --help` and `matchlock COMMAND --help`";

/// Run AI agents and arbitrary code in ephemeral micro-VMs.
#[derive(Debug, Parser)]
#[command(
    name = "matchlock",
    bin_name = "matchlock",
    version,
    disable_version_flag = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Print the version
    #[arg(long)]
    pub(crate) version: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new sandbox
    Run(Box<RunArgs>),
    /// Run a command in a sandbox that runs
    Exec(ExecArgs),
    /// Copy files into a sandbox that runs, or out of it
    Cp(CpArgs),
    /// Print what a sandbox has written: its command, its agent, its console
    #[command(visible_alias = "logs")]
    Log(LogsArgs),
    /// Show what sandboxes use that run
    Stats(StatsArgs),
    /// List the processes in a sandbox that runs
    #[command(override_usage = "matchlock top [OPTIONS] ID|NAME")]
    Top(PlainArgs),
    /// Forward ports of this machine to a sandbox that runs
    PortForward(PortForwardArgs),
    /// Change which hosts a sandbox that runs may reach
    AllowList(AllowListArgs),
    /// List, add, rotate and remove secrets of a sandbox that runs
    Secret(SecretArgs),
    /// List sandboxes
    #[command(visible_alias = "ls", override_usage = "matchlock list [OPTIONS]")]
    List(ListArgs),
    /// Print what is known of a sandbox
    #[command(override_usage = "matchlock get [OPTIONS] ID|NAME")]
    Get(PlainArgs),
    /// Print what is known of a sandbox, and its history
    #[command(visible_alias = "stat", override_usage = "matchlock inspect [OPTIONS] ID|NAME")]
    Inspect(PlainArgs),
    /// Ask a sandbox to end, and wait until it has
    Stop(StopArgs),
    /// Start a sandbox again that was kept, with its disk
    #[command(override_usage = "matchlock start [OPTIONS] ID|NAME")]
    Start(PlainArgs),
    /// Stop a sandbox that is kept, and start it again
    #[command(override_usage = "matchlock restart [OPTIONS] ID|NAME")]
    Restart(StopArgs),
    /// Send a signal to the process that owns a sandbox, and do not wait
    Kill(KillArgs),
    /// Wait until a sandbox ends, and print its exit status
    #[command(override_usage = "matchlock wait [OPTIONS] ID|NAME")]
    Wait(PlainArgs),
    /// Remove a sandbox that does not run
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove all sandboxes that do not run
    #[command(override_usage = "matchlock prune [OPTIONS]")]
    Prune(PlainArgs),
    /// Take back what killed sandboxes have left
    Gc(GcArgs),
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Build an image from a Dockerfile, or pull one from a registry
    Build(Box<BuildArgs>),
    /// List, remove and import images
    Image(ImageArgs),
    /// Create, list, remove and copy disks that outlive sandboxes
    Volume(VolumeArgs),
    /// Inspect audit trails
    Audit(AuditArgs),
    /// Serve one sandbox to a program, over JSON-RPC on standard input and output
    Rpc(RpcArgs),
    /// Check whether this machine can run sandboxes
    Diagnose(DiagnoseArgs),
    /// Print the version, the commit and the build date
    Version(VersionArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
}

/// A subcommand with nothing but `--json` and positional arguments.
#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

/// The subcommands of `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show what a sandbox did
    #[command(override_usage = "matchlock audit show [OPTIONS] ID|NAME|FILE")]
    Show(ShowArgs),
    /// Check that no record of an audit trail was changed, removed, added or moved
    Verify(VerifyArgs),
}

/// `audit show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Go on as records are written, until the sandbox ends
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) follow: bool,

    /// Only what was refused
    #[arg(long)]
    pub(crate) denied: bool,

    /// Only what happened since: a time span as 10m, or a time as 2026-11-29T10:00
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,

    /// Print the records as one JSON array instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The file that `run --audit-log` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,
}

/// `diagnose`.
#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,
}

/// `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,
}

/// `rpc`.
#[derive(Debug, Args)]
pub(crate) struct RpcArgs {
    /// Most CPUs that the client may ask for; fractions as for `run` [default: those of this machine]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = cpus)]
    pub(crate) max_cpus: Option<f64>,

    /// Most memory that it may ask for, in MB or as 512m, 2g [default: that of this machine]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_memory: Option<Megabytes>,

    /// Largest writable layer that it may ask for, in MB or as 512m, 4g [default: 1t]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_disk_size: Option<Megabytes>,

    /// Most requests that may run at one time, up to 512
    #[arg(long, value_name = "N", default_value_t = Bounds::MAX_REQUESTS,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(Bounds::MAX_REQUESTS)))]
    pub(crate) max_requests: u16,
}

/// `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Shells with completion scripts.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash
    Bash,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
    /// Z shell
    Zsh,
}

/// What the arguments ask for.
pub(crate) enum Parsed {
    /// Carry out a command.
    Run(Cli),
    /// Print this help text and succeed.
    Help(String),
}

/// Parses the arguments of this process.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, CliError> {
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Parsed::Run(cli)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            ) =>
        {
            Ok(Parsed::Help(error.render().to_string()))
        }
        Err(error) => Err(refusal::describe(&error)),
    }
}

/// The positional arguments of a command that takes exactly `N`, told in the words that users of the
/// reference know.
pub(crate) fn exactly<const N: usize>(given: &[String]) -> Result<&[String; N], CliError> {
    given.try_into().map_err(|_| {
        CliError::new(format!("accepts {N} arg(s), received {}", given.len())).hinted(SEE_HELP)
    })
}

/// The help text of the root command.
pub(crate) fn help() -> String {
    Cli::command().render_long_help().to_string()
}

/// The whole grammar, for completion scripts.
pub(crate) fn grammar() -> clap::Command {
    Cli::command()
}

/// A number of CPUs. What is no amount of them is left to the check that says so.
fn cpus(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "use a number of CPUs, such as 2 or 0.5")
}

#[cfg(test)]
mod tests;
