//! What `run` is asked to do, checked before anything starts.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::time::Duration;

use matchlock_core::{
    Attachments, Cpus, DiskSize, ImageSpec, KernelSource, Lifetime, MemorySize, Mtu, PortForward,
    SandboxSpec, host_cpus, host_memory_mib,
};

use super::invocation::{ImageCommand, Invocation};
use super::root::WantedImage;
use crate::cli::RunArgs;
use crate::environment::Environment;
use crate::error::{CliError, given_by};
use crate::options::network::{self, NetworkPlan};
use crate::options::time_span::TimeSpan;
use crate::options::{confinement, disks, variables};
use crate::terminal::Terminal;

/// Virtual CPUs when nothing else is said, on a host that has as many.
const DEFAULT_CPUS: f64 = 2.0;

/// A run that can be started once its image is there.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) image: WantedImage,
    /// Ask the registry even if the image is here.
    pub(super) pull: bool,
    /// The image in it is what `image` turns out to be.
    pub(super) spec: SandboxSpec,
    pub(super) with: Attachments,
    pub(super) kernel: KernelSource,
    pub(super) invocation: Invocation,
    /// The user's terminal, with `-it`.
    pub(super) terminal: Option<Terminal>,
    /// Longest time that fetching the image may take.
    pub(super) pull_timeout: Option<Duration>,
    /// Ports to publish, and the host's addresses to publish them on.
    pub(super) forwards: (Vec<PortForward>, Vec<IpAddr>),
    /// Another process waits until the command runs, and then nobody.
    pub(super) detached: bool,
    /// What the user should know before it starts.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// Checks all that can be checked before the image is known.
    pub(super) fn new(args: &RunArgs, environment: &Environment) -> Result<Self, CliError> {
        let interactive = args.interactive && args.tty;
        let image = wanted_image(args, environment)?;
        let (mut spec, mut with) = (describe(args)?, Attachments::default());
        let kernel = environment.kernel(args.kernel.as_deref())?;
        let invocation = Invocation::new(args, environment);
        if image == WantedImage::Host {
            invocation.check(ImageCommand::of_host())?;
        }
        let mut warnings = Vec::new();
        let forwards = configure(&mut spec, &mut with, args, environment, &mut warnings)?;
        let terminal = interactive.then(Terminal::required).transpose()?;
        let pull = args.pull;
        Ok(Self {
            image,
            pull,
            spec,
            with,
            kernel,
            invocation,
            terminal,
            pull_timeout: args.pull_timeout.and_then(TimeSpan::limit),
            forwards,
            detached: args.detach,
            warnings,
        })
    }
}

fn wanted_image(args: &RunArgs, environment: &Environment) -> Result<WantedImage, CliError> {
    let image = args.image.as_deref().or(environment.image.as_deref());
    match image.filter(|image| !image.is_empty()) {
        Some(name) => WantedImage::new(name),
        None => {
            let error = CliError::new("required flag(s) \"image\" not set");
            Err(error.hinted(image_hint(&args.command.command)))
        }
    }
}

/// The first word of a command without `--image` is most likely the image, or `--image` follows it.
fn image_hint(command: &[OsString]) -> String {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let named = |word: &str| word == "--image" || word.starts_with("--image=");
    match words.split_first() {
        Some((first, rest)) if rest.iter().any(|word| named(word)) => {
            format!(
                "{first} begins the command, and options after it belong to it: put --image before it"
            )
        }
        Some((first, rest)) if !rest.is_empty() => format!(
            "did you mean matchlock run --image {first} -- {}? or set MATCHLOCK_RUN_IMAGE",
            rest.join(" ")
        ),
        _ => "use --image host, or set MATCHLOCK_RUN_IMAGE".to_owned(),
    }
}

/// Disks, secrets, environment and network, in the order in which their errors are promised.
fn configure(
    spec: &mut SandboxSpec,
    with: &mut Attachments,
    args: &RunArgs,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<(Vec<PortForward>, Vec<IpAddr>), CliError> {
    (spec.disks, with.disks) = disks::attach(&disks::parse(&args.disk)?, environment)?;
    let secrets = network::read_secrets(&args.network, warnings)?;
    spec.env =
        variables::collect(&args.env_file, &args.env, &|name: &OsStr| std::env::var_os(name))?;
    let mtu = Mtu::new(args.network.mtu).map_err(given_by("--mtu"))?;
    let network =
        NetworkPlan::new(&args.network, &args.publish, mtu, secrets, environment, warnings)?;
    let NetworkPlan { spec: network, secrets, proxy, hosts, forwards, addresses, audit_log } =
        network;
    (spec.hosts, spec.network, spec.audit_log) = (hosts, network, audit_log);
    (with.secrets, with.proxy) = (secrets, proxy);
    Ok((forwards, addresses))
}

/// Everything but image, disks, secrets, environment and network.
fn describe(args: &RunArgs) -> Result<SandboxSpec, CliError> {
    Mtu::new(args.network.mtu).map_err(given_by("--mtu"))?;
    let host = host_cpus();
    let cpus = args.cpus.unwrap_or(if host > 1 { DEFAULT_CPUS } else { 1.0 });
    let cpus = Cpus::new(cpus, host).map_err(given_by("--cpus"))?;
    let memory = MemorySize::new(args.memory.0, host_memory_mib()).map_err(given_by("--memory"))?;
    let disk = DiskSize::new(args.disk_size.0).map_err(given_by("--disk-size"))?;
    network::check_no_network(&args.network)?;
    let hostname = args.hostname.as_deref().filter(|name| !name.is_empty());
    let lifetime = Lifetime {
        limit: args.timeout.and_then(TimeSpan::limit),
        grace: args.graceful_shutdown.duration(),
        keep: !args.rm,
        recorded: !args.rm,
    };
    Ok(SandboxSpec {
        name: args.name.as_deref().map(str::parse).transpose().map_err(given_by("--name"))?,
        image: ImageSpec::Host,
        cpus,
        memory,
        disk,
        hostname: hostname.map(str::parse).transpose()?,
        confinement: confinement::confinement(&args.confinement)?,
        limits: confinement::limits(&args.confinement)?,
        env: Vec::new(),
        hosts: Vec::new(),
        disks: Vec::new(),
        export: false,
        network: None,
        audit_log: None,
        start: None,
        lifetime,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_image_the_hint_answers_what_was_typed() {
        let hint =
            |words: &[&str]| image_hint(&words.iter().map(OsString::from).collect::<Vec<_>>());
        let image_first = hint(&["python:3", "python3", "-V"]);
        assert!(
            image_first.contains(" matchlock run --image python:3 -- python3 -V?"),
            "{image_first}"
        );
        let behind = hint(&["sh", "--image", "host"]);
        assert!(behind.starts_with("sh begins the command"), "{behind}");
        for words in [&[][..], &["true"]] {
            assert_eq!(hint(words), "use --image host, or set MATCHLOCK_RUN_IMAGE");
        }
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
        let plan = Plan::new(&args, &Environment::default()).expect("valid");
        let shown = format!("{plan:?}");
        assert!(shown.contains("API_KEY") && !shown.contains(CANARY), "{shown}");
    }
}
