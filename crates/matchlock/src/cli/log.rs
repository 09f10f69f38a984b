//! Flags of every command: the log.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is logged, and where.
#[derive(Debug, Default, Args)]
pub(crate) struct LogArgs {
    /// Log what is at least this serious [default: $MATCHLOCK_LOG_LEVEL, else warn]
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,

    /// Append the log to a file instead of writing it to standard error
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
}

/// How serious a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Details for developers
    Debug,
    /// What happens in the ordinary course
    Info,
    /// What the user should look into
    Warn,
    /// What has failed
    Error,
}
