//! What `run` is asked to do, checked before anything starts.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use matchlock_core::{
    Cpus, DiskSize, ExecRequest, Image, KernelSource, MemorySize, Mtu, PortForward, SandboxConfig,
    Stdin, host_cpus, host_memory_mib,
};

use super::network::{self, NetworkPlan};
use super::{duration, variables};
use crate::cli::RunArgs;
use crate::error::CliError;
use crate::surroundings::Surroundings;
use crate::terminal::Terminal;

/// Seconds that a command without a terminal may take when nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Virtual CPUs when nothing else is said, on a host that has as many.
const DEFAULT_CPUS: f64 = 2.0;

/// A run that can be started.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: SandboxConfig,
    pub(super) kernel: KernelSource,
    /// What to execute; `None` only with `keep`.
    pub(super) exec: Option<ExecRequest>,
    /// The user's terminal, with `-it`.
    pub(super) terminal: Option<Terminal>,
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    /// Go on after the command until a signal (`--rm=false`).
    pub(super) keep: bool,
    pub(super) json: bool,
    /// Ports to publish, and the host's addresses to publish them on.
    pub(super) forwards: (Vec<PortForward>, Vec<IpAddr>),
    /// What the user should know before it starts.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// Checks the arguments.
    pub(super) fn new(args: RunArgs, surroundings: &Surroundings) -> Result<Self, CliError> {
        let interactive = args.interactive && args.tty;
        let mut config = config(&args, surroundings)?;
        let kernel = surroundings.kernel(args.kernel.as_deref())?;
        let timeout = timeout(args.timeout, interactive || !args.rm)?;
        let grace = duration::parse(&args.graceful_shutdown).ok_or_else(|| {
            CliError::new(format!(
                "invalid argument {:?} for --graceful-shutdown",
                args.graceful_shutdown
            ))
            .hinted("use a duration such as 5s, 1m30s or 500ms")
        })?;
        let argv = command(args.entrypoint.clone(), args.command.clone(), interactive);
        if argv.is_empty() && args.rm {
            return Err(CliError::new(
                "command required (or use --rm=false to start without a command)",
            )
            .hinted("matchlock run --image host -- COMMAND"));
        }
        let mut warnings = Vec::new();
        let forwards = configure(&mut config, &args, surroundings, &mut warnings)?;
        let terminal = if interactive {
            let terminal = Terminal::open();
            Some(terminal.ok_or_else(|| {
                CliError::new("-it requires a TTY").hinted("use -i alone to forward a pipe")
            })?)
        } else {
            None
        };
        let stdin = if args.interactive { Stdin::Pipe } else { Stdin::Null };
        let exec = (!argv.is_empty()).then(|| ExecRequest {
            argv: argv.into_iter().map(OsString::into_vec).collect(),
            env: terminal_type(terminal.as_ref(), surroundings),
            working_dir: args.workdir.filter(|dir| !dir.is_empty()).map(OsString::into_vec),
            user: args.user.filter(|user| !user.is_empty()),
            stdin,
            tty: terminal.as_ref().map(Terminal::size),
        });
        let keep = !args.rm;
        let json = args.json;
        Ok(Self { config, kernel, exec, terminal, timeout, grace, keep, json, forwards, warnings })
    }
}

/// Secrets, environment and network, in the order in which their errors are promised.
fn configure(
    config: &mut SandboxConfig,
    args: &RunArgs,
    surroundings: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<(Vec<PortForward>, Vec<IpAddr>), CliError> {
    let secrets = network::read_secrets(&args.network, warnings)?;
    config.env =
        variables::collect(&args.env_file, &args.env, &|name: &OsStr| std::env::var_os(name))?;
    let mtu = Mtu::new(args.network.mtu)?;
    let network = NetworkPlan::new(&args.network, mtu, secrets, surroundings, warnings)?;
    let NetworkPlan { settings, hosts, forwards, addresses, audit_log } = network;
    config.hosts = hosts;
    config.network = settings;
    config.audit_log = audit_log;
    Ok((forwards, addresses))
}

/// Everything but secrets, environment and network.
fn config(args: &RunArgs, surroundings: &Surroundings) -> Result<SandboxConfig, CliError> {
    let image = args.image.as_deref().or(surroundings.image.as_deref());
    let image = image.filter(|image| !image.is_empty()).ok_or_else(|| {
        CliError::new("required flag(s) \"image\" not set")
            .hinted("use --image host, or set MATCHLOCK_RUN_IMAGE")
    })?;
    Mtu::new(args.network.mtu)?;
    let host = host_cpus();
    let cpus = Cpus::new(args.cpus.unwrap_or(if host > 1 { DEFAULT_CPUS } else { 1.0 }), host)?;
    // A negative number is as little memory or disk as none.
    let memory = u64::try_from(args.memory).unwrap_or_default();
    let memory = MemorySize::new(memory, host_memory_mib())?;
    let disk = DiskSize::new(u64::try_from(args.disk_size).unwrap_or_default())?;
    network::check_no_network(&args.network)?;
    let hostname = args.hostname.as_deref().filter(|name| !name.is_empty());
    Ok(SandboxConfig {
        image: image.parse::<Image>()?,
        cpus,
        memory,
        disk,
        disks: Vec::new(),
        export: false,
        hostname: hostname.map(str::parse).transpose()?,
        privileged: args.privileged,
        env: Vec::new(),
        hosts: Vec::new(),
        network: None,
        audit_log: None,
        extra_cmdline: String::new(),
    })
}

fn timeout(seconds: Option<i64>, unlimited: bool) -> Result<Option<Duration>, CliError> {
    match seconds {
        None if unlimited => Ok(None),
        None => Ok(Some(DEFAULT_TIMEOUT)),
        Some(0) => Ok(None),
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
            Err(_) => Err(CliError::new(format!("--timeout must be >= 0, not {seconds}"))
                .hinted("0 is no limit")),
        },
    }
}

/// ENTRYPOINT and arguments. The host image has neither entrypoint nor command of its own; with a
/// terminal and nothing to run, a shell is what is meant.
fn command(
    entrypoint: Option<OsString>,
    arguments: Vec<OsString>,
    interactive: bool,
) -> Vec<OsString> {
    let mut argv: Vec<OsString> = entrypoint.filter(|word| !word.is_empty()).into_iter().collect();
    argv.extend(arguments);
    if argv.is_empty() && interactive {
        let shell =
            ["/bin/bash", "/bin/sh"].into_iter().find(|path| std::path::Path::new(path).exists());
        argv.push(shell.unwrap_or("/bin/sh").into());
    }
    argv
}

/// Programs on a terminal need its type; ours is the one that will draw.
fn terminal_type(
    terminal: Option<&Terminal>,
    surroundings: &Surroundings,
) -> Vec<variables::Variable> {
    let Some(_) = terminal else { return Vec::new() };
    let term = surroundings.term.clone().unwrap_or_else(|| "xterm".into());
    vec![(b"TERM".to_vec(), term.into_vec())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entrypoint_precedes_the_arguments_and_may_be_cleared() {
        let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(command(Some("a".into()), words(&["b"]), false), words(&["a", "b"]));
        assert_eq!(command(Some("".into()), words(&["b"]), false), words(&["b"]));
        assert_eq!(command(None, Vec::new(), false), words(&[]));
        assert_eq!(command(None, Vec::new(), true).len(), 1, "a shell");
    }

    #[test]
    fn a_timeout_applies_unless_the_user_is_there_to_end_it() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(timeout(None, false).expect("valid"), seconds(300));
        assert_eq!(timeout(None, true).expect("valid"), None);
        assert_eq!(timeout(Some(7), true).expect("valid"), seconds(7));
        assert_eq!(timeout(Some(0), false).expect("valid"), None);
        assert!(timeout(Some(-1), false).is_err());
    }

    #[test]
    fn a_plan_that_is_shown_for_debugging_holds_no_secret() {
        const CANARY: &str = "canary-91c2";
        let secret = format!("API_KEY={CANARY}@api.example.com");
        let words = ["matchlock", "run", "--image", "host", "--secret", &secret, "--", "true"];
        let parsed = crate::cli::parse(words.map(OsString::from)).expect("valid");
        let crate::cli::Parsed::Run(crate::cli::Cli { command: Some(command), .. }) = parsed else {
            panic!("a command");
        };
        assert!(!format!("{command:?}").contains(CANARY));
        let crate::cli::Command::Run(args) = command else { panic!("run") };
        let plan = Plan::new(*args, &Surroundings::default()).expect("valid");
        let shown = format!("{plan:?}");
        assert!(shown.contains("API_KEY") && !shown.contains(CANARY), "{shown}");
    }
}
