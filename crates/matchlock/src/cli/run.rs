//! The grammar of `run`.

use std::ffi::OsString;

use clap::Args;

use super::{NetworkArgs, PublishArgs};

/// `run`.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Image: a local tag or one of a registry, or "host" for this machine's own system
    /// directories, read-only beneath an overlay [default: $MATCHLOCK_RUN_IMAGE]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// Ask the registry even if the image is here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) pull: bool,

    /// CPUs; fractions are a limit on CPU time, 0.5 is half of one CPU
    /// [default: 2, or 1 on a machine that has no more]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cpus: Option<f64>,

    /// Memory in MB
    #[arg(long, value_name = "MB", default_value = "512", allow_negative_numbers = true)]
    pub(crate) memory: i64,

    /// Size of the writable layer in MB; it takes no more than what is written
    #[arg(long, value_name = "MB", default_value = "2048", allow_negative_numbers = true)]
    pub(crate) disk_size: i64,

    /// Mount an ext4 image, or a volume by its name after "@"; options are ro, or uid=U,gid=G for
    /// the owner of its root directory
    #[arg(long, value_name = "FILE|@VOLUME:DIR[:OPTIONS]")]
    pub(crate) disk: Vec<String>,

    /// End the sandbox after this many seconds, exit status 124; 0 is no limit
    /// [default: 300; none with -it or --rm=false]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) timeout: Option<i64>,

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

    /// Remove the sandbox when the command ends; --rm=false keeps it running until a signal
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) rm: bool,

    /// Leave out the guest's seccomp filter and capability limits
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          default_value_t = false, hide_default_value = true, hide_possible_values = true,
          value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) privileged: bool,

    /// How long programs may take to end before they are killed: 5s, 1m30s, 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", allow_negative_numbers = true)]
    pub(crate) graceful_shutdown: String,

    /// Kernel to boot instead of the built-in one: file:///absolute/path of a vmlinux
    #[arg(long, value_name = "REF")]
    pub(crate) kernel: Option<String>,

    /// When the sandbox has ended, print a JSON object about it as the last line of standard error
    #[arg(long)]
    pub(crate) json: bool,

    /// The command and its arguments
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,

    // The last field: flags after it would come under its heading.
    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) publish: PublishArgs,
}
