//! The grammar of the commands for sandboxes that are there.

use std::ffi::OsString;

use clap::Args;

use crate::options::time_span::TimeSpan;

/// `list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that run
    #[arg(long)]
    pub(crate) running: bool,

    /// Print ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Only those with this value: id, name, status or image, as in status=crashed
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,

    /// Print one JSON array instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
#[command(
    override_usage = "matchlock kill [OPTIONS] ID|NAME\n       matchlock kill [OPTIONS] --all"
)]
pub(crate) struct KillArgs {
    /// Every sandbox that runs
    #[arg(long)]
    pub(crate) all: bool,

    /// Signal for the process that owns the sandbox: a name or a number
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM")]
    pub(crate) signal: String,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `stop`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock stop [OPTIONS] ID|NAME")]
pub(crate) struct StopArgs {
    /// End it at once when this time is over, in seconds or as 30s, 5m [default: the sandbox's own
    /// --graceful-shutdown]
    #[arg(short, long, value_name = "TIME", allow_negative_numbers = true)]
    pub(crate) time: Option<TimeSpan>,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `rm`.
#[derive(Debug, Args)]
#[command(
    override_usage = "matchlock rm [OPTIONS] ID|NAME\n       matchlock rm [OPTIONS] --stopped"
)]
pub(crate) struct RmArgs {
    /// Kill it first, if it runs
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Every sandbox that does not run
    #[arg(long)]
    pub(crate) stopped: bool,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}

/// `gc`.
#[derive(Debug, Args)]
#[command(override_usage = "matchlock gc [OPTIONS] [ID|NAME]")]
pub(crate) struct GcArgs {
    /// Kill sandboxes that run, too
    #[arg(long)]
    pub(crate) force_running: bool,

    /// Print one JSON object instead of text, or write it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[arg(hide = true)]
    pub(crate) positionals: Vec<String>,
}
