//! The command line's grammar: GNU long flags, bundled short ones, everything after `--` positional.

mod images;
mod network;
mod run;
mod volume;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::error::CliError;

pub(crate) use self::images::{BuildArgs, Builder, ImageArgs, ImageCommand, PullArgs};
pub(crate) use self::network::{NetworkArgs, PublishArgs};
pub(crate) use self::run::RunArgs;
pub(crate) use self::volume::{VolumeArgs, VolumeCommand, VolumeCreateArgs};

const SEE_HELP: &str = "see `matchlock --help` and `matchlock COMMAND --help`";

/// Run AI agents and arbitrary code in ephemeral micro-VMs.
#[derive(Debug, Parser)]
#[command(name = "matchlock", version, disable_version_flag = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Print the version
    #[arg(long)]
    pub(crate) version: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new sandbox
    Run(Box<RunArgs>),
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Build an image from a Dockerfile, or prepare one of a registry
    Build(Box<BuildArgs>),
    /// List, remove and import images
    Image(ImageArgs),
    /// Make, list, remove and copy disks that outlive sandboxes
    Volume(VolumeArgs),
    /// Look into audit trails
    Audit(AuditArgs),
    /// Check whether this machine can run sandboxes
    Diagnose(DiagnoseArgs),
    /// Print the version, the commit and the day of the build
    Version,
    /// Print a completion script for a shell
    Completion(CompletionArgs),
}

/// A subcommand with nothing but `--json` and positional arguments.
#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

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
    /// Check that no record of a trail was changed, removed, added or moved
    Verify(VerifyArgs),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The file that was given to `run --audit-log`
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `diagnose`.
#[derive(Debug, Args)]
pub(crate) struct DiagnoseArgs {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
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
        Err(error) => Err(describe(&error)),
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

/// One line for what clap spreads over several, in the words that users of the reference know.
fn describe(error: &clap::Error) -> CliError {
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let flag = value(ContextKind::InvalidArg);
    let given = value(ContextKind::InvalidValue);
    let described = match error.kind() {
        ErrorKind::UnknownArgument => CliError::new(format!("unknown flag: {flag}")),
        ErrorKind::InvalidSubcommand => {
            let name = value(ContextKind::InvalidSubcommand);
            CliError::new(format!("unknown command {name:?} for \"matchlock\""))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if given.is_empty() => {
            CliError::new(format!("flag needs an argument: {flag}"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error)
                .map_or_else(String::new, |cause| format!(": {cause}"));
            CliError::new(format!("invalid argument {given:?} for {flag}{why}"))
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            CliError::new(first.strip_prefix("error: ").unwrap_or(first))
        }
    };
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand]
        .map(value)
        .into_iter()
        .find(|text| !text.is_empty());
    match suggested {
        Some(name) => described.hinted(format!("did you mean {name}?")),
        None => described.hinted(SEE_HELP),
    }
}

#[cfg(test)]
mod tests;
