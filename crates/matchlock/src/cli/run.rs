//! The grammar of `run`, and of what other commands share with it.

use std::ffi::OsString;

use clap::Args;

use super::{ConfinementArgs, NetworkArgs, PublishArgs};
use crate::options::size::Megabytes;
use crate::options::time_span::TimeSpan;

/// `run`.
#[derive(Debug, Default, Args)]
#[command(override_usage = "matchlock run --image IMAGE [OPTIONS] [--] [COMMAND [ARGUMENT]...]")]
pub(crate) struct RunArgs {
    /// Image: a local tag, a reference to a registry, or "host" for this machine's own system
    /// directories, read-only beneath an overlay [default: $MATCHLOCK_RUN_IMAGE]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// Name for the sandbox, by which other commands find it; no other that runs can have it
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Ask the registry even if the image is stored locally
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) pull: bool,

    /// Longest time that fetching the image may take, in seconds or as 90s, 10m [default: no limit]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub(crate) pull_timeout: Option<TimeSpan>,

    /// CPUs; fractions are a limit on CPU time, 0.5 is half of one CPU
    /// [default: 2, or 1 on a machine that has no more]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::cpus)]
    pub(crate) cpus: Option<f64>,

    /// Memory in MB, or as 512m, 2g
    #[arg(long, value_name = "SIZE", default_value = "512", allow_negative_numbers = true)]
    pub(crate) memory: Megabytes,

    /// Size of the writable layer in MB, or as 512m, 4g; the host stores only what is written
    #[arg(long, value_name = "SIZE", default_value = "2048", allow_negative_numbers = true)]
    pub(crate) disk_size: Megabytes,

    /// Mount an ext4 image, or a volume by its name after "@"; options are ro, or uid=U,gid=G for
    /// the owner of its root directory
    #[arg(long, value_name = "FILE|@VOLUME:DIR[:OPTIONS]")]
    pub(crate) disk: Vec<String>,

    /// End the sandbox when the command has run for this time, in seconds or as 30s, 5m, 1h30m;
    /// the exit status is then 124 [default: no limit]
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub(crate) timeout: Option<TimeSpan>,

    /// Environment variable KEY=VALUE, or KEY to copy it from here
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<OsString>,

    /// File with one KEY=VALUE or KEY on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<OsString>,

    /// Working directory in the sandbox
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<OsString>,

    /// User: name, uid, uid:gid or name:group
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Program to put before the command; empty clears the image's own
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<OsString>,

    /// Host name in the sandbox [default: the sandbox's id]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// Forward standard input
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) interactive: bool,

    /// With -i: give the command a terminal
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) tty: bool,

    /// Start the sandbox in the background, and print its id once its command runs. It goes on
    /// after the command; `matchlock log` shows the output; -i and -t have no effect
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) detach: bool,

    /// Remove the sandbox when the command ends; --rm=false keeps it running until a signal, and
    /// listed after that
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) rm: bool,

    /// Time that programs have to end by themselves before they are killed, in seconds or as 500ms,
    /// 5s, 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", allow_negative_numbers = true)]
    pub(crate) graceful_shutdown: TimeSpan,

    /// Kernel to boot instead of the built-in one: file:///absolute/path of a vmlinux
    #[arg(long, value_name = "REF")]
    pub(crate) kernel: Option<String>,

    /// At the end, write one JSON object about the run: to FILE, or as the last line of standard
    /// error
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub(crate) json: Option<OsString>,

    #[command(flatten)]
    pub(crate) command: CommandArgs,

    // The last fields: flags after them would come under their heading.
    #[command(flatten)]
    pub(crate) confinement: ConfinementArgs,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}

/// The program to execute in a sandbox: the last part of the arguments of a command.
///
/// Options of ours end at its first word, as with `docker run`: what follows belongs to the program,
/// and cannot change what its sandbox may do.
#[derive(Debug, Default, Args)]
pub(crate) struct CommandArgs {
    /// The command and its arguments; options of matchlock come before it
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}
