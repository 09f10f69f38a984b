//! What `build` is asked to do, checked before anything starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use matchlock_core::build::StepSettings;
use matchlock_core::dockerfile::BuildRequest;
use matchlock_core::images::Source;
use matchlock_core::{
    Cpus, DiskSize, InvalidConfig, KernelSource, MemorySize, Mtu, host_cpus, host_memory_mib,
};

use super::buildkit::BuildKit;
use crate::cli::{BuildArgs, PublishArgs};
use crate::commands::obtain::local_name;
use crate::environment::Environment;
use crate::error::{CliError, given_by};
use crate::options::network::{self, NetworkPlan};

/// The part of the host's memory that a step may use when nothing else is said: as much again is left
/// for the host, whose page cache holds the layers.
const MEMORY_PART: u64 = 2;

/// Name of the Dockerfile in a context.
const DOCKERFILE: &str = "Dockerfile";

/// A build that can be started.
#[derive(Debug)]
pub(super) struct Plan {
    /// The name of the result, as it was typed.
    pub(super) tag: String,
    pub(super) request: BuildRequest,
    pub(super) settings: StepSettings,
    pub(super) kernel: KernelSource,
    /// `None`: matchlock itself builds.
    pub(super) buildkit: Option<BuildKit>,
    /// Ask the registries for images that are here too.
    pub(super) pull: bool,
    pub(super) timeout: Option<Duration>,
    /// What the user should know before it starts.
    pub(super) warnings: Vec<String>,
}

impl Plan {
    pub(super) fn new(
        args: &BuildArgs,
        context: &str,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let sources = Sources::new(args, context)?;
        let name = local_name(&sources.tag, Source::Local)?;
        let mut warnings = Vec::new();
        let settings = settings(args, environment, &mut warnings)?;
        let request = BuildRequest {
            dockerfile: sources.dockerfile,
            dockerfile_name: sources.dockerfile_name,
            context: sources.context,
            target: args.target.clone().filter(|target| !target.is_empty()),
            args: arguments(&args.build_arg, &|name| std::env::var(name).ok())?,
            no_cache: args.no_cache,
            cache_bytes: args.build_cache_size.0.saturating_mul(1 << 20),
            names: vec![name],
            now: SystemTime::now(),
        };
        Ok(Self {
            tag: sources.tag,
            request,
            settings,
            buildkit: BuildKit::wanted(args)?,
            kernel: environment.kernel(None)?,
            pull: args.pull,
            timeout: args.timeout.limit(),
            warnings,
        })
    }
}

/// Where a build starts from.
#[derive(Debug, PartialEq, Eq)]
struct Sources {
    tag: String,
    context: PathBuf,
    /// That of `-f`.
    dockerfile: Option<PathBuf>,
    dockerfile_name: String,
}

impl Sources {
    fn new(args: &BuildArgs, context: &str) -> Result<Self, CliError> {
        let tag = args.tag.clone().filter(|tag| !tag.is_empty()).ok_or_else(|| {
            CliError::new("-t/--tag is required when building from a Dockerfile")
                .hinted("matchlock build -t TAG [-f DOCKERFILE] CONTEXT")
        })?;
        let context = PathBuf::from(context);
        if !context.is_dir() {
            let shown = context.display().to_string();
            return Err(CliError::new(format!("build context {shown:?} is not a directory")));
        }
        let dockerfile = args.file.as_ref().map(PathBuf::from);
        // A link of the context is looked into when it is opened, beneath the context.
        let (is_there, shown) = match &dockerfile {
            Some(file) => (file.is_file(), file.clone()),
            None => {
                let own = context.join(DOCKERFILE);
                (own.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()), own)
            }
        };
        let dockerfile_name =
            dockerfile.as_ref().map_or(DOCKERFILE.into(), |file| file.display().to_string());
        if !is_there {
            let shown = shown.display();
            return Err(CliError::new(format!("Dockerfile not found: {shown}")).hinted(
                "name it with -f; a relative path counts from here, not from the context",
            ));
        }
        Ok(Self { tag, context, dockerfile, dockerfile_name })
    }
}

fn settings(
    args: &BuildArgs,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<StepSettings, CliError> {
    let mtu = Mtu::new(args.network.mtu).map_err(given_by("--mtu"))?;
    // More than a machine can have is as good as all.
    let host = host_cpus().min(usize::from(u8::MAX));
    let share = if args.build_cpus == 0.0 { host as f64 } else { args.build_cpus };
    let cpus = Cpus::new(share, host).map_err(given_by("--build-cpus"))?;
    let memory =
        memory(args.build_memory.0, host_memory_mib()).map_err(given_by("--build-memory"))?;
    let disk = DiskSize::new(args.build_disk.0).map_err(given_by("--build-disk"))?;
    network::check_no_network(&args.network)?;
    let secrets = network::read_secrets(&args.network, warnings)?;
    let publish = PublishArgs::default();
    let network = NetworkPlan::new(&args.network, &publish, mtu, secrets, environment, warnings)?;
    let NetworkPlan { spec: network, secrets, proxy, hosts, audit_log, .. } = network;
    Ok(StepSettings { cpus, memory, disk, hosts, network, secrets, proxy, audit_log })
}

/// 0 is a part of the host's memory.
fn memory(wanted: u64, host: u64) -> Result<MemorySize, InvalidConfig> {
    if wanted > 0 {
        return MemorySize::new(wanted, host);
    }
    // A host that does not say what it has is taken for a small one.
    let known = if host == u64::MAX { 2048 } else { host };
    MemorySize::new((known / MEMORY_PART).max(MemorySize::MIN_MIB), host)
}

/// `NAME=VALUE`, or `NAME` for the variable of the environment; one that is not set is not given.
fn arguments(
    flags: &[String],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut arguments = BTreeMap::new();
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag.as_str(), lookup(flag)),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(CliError::new(format!("invalid name {name:?} in --build-arg"))
                .hinted("--build-arg NAME=VALUE"));
        }
        if let Some(value) = value {
            arguments.insert(name.to_owned(), value);
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn a_build_argument_without_a_value_is_the_environments() {
        let lookup = |name: &str| (name == "SET").then(|| "here".to_owned());
        let flags = ["A=1", "SET", "UNSET", "A=2=3", "E="].map(str::to_owned);
        let arguments = arguments(&flags, &lookup).expect("valid");
        let pairs: Vec<_> =
            arguments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "2=3"), ("E", ""), ("SET", "here")]);
        for bad in ["=x", "", "a b=c"] {
            let error = super::arguments(&[bad.to_owned()], &lookup).expect_err("refused");
            assert!(error.message().ends_with("in --build-arg"), "{error}");
        }
    }

    #[test]
    fn a_step_has_half_of_the_hosts_memory_unless_the_user_says_more() {
        let mib = |wanted, host| memory(wanted, host).map(MemorySize::mib);
        assert_eq!(mib(0, 16_000), Ok(8_000));
        assert_eq!(mib(0, 100), Ok(64));
        assert_eq!(mib(0, u64::MAX), Ok(1024));
        assert_eq!(mib(12_000, 16_000), Ok(12_000));
        let error = memory(20_000, 16_000).map_err(given_by("--build-memory"));
        let error = error.expect_err("too much");
        assert_eq!(error.message(), "--build-memory must be <= host memory (16000 MB), not 20000");
    }

    #[test]
    fn a_plan_that_is_shown_for_debugging_holds_no_secret_and_no_argument() {
        const CANARY: &str = "canary-5d0b";
        let context = tempfile::tempdir().expect("a directory");
        std::fs::write(context.path().join(DOCKERFILE), "FROM scratch\n").expect("written");
        let secret = format!("API_KEY={CANARY}@api.example.com");
        let argument = format!("TOKEN={CANARY}");
        let context = context.path().to_str().expect("UTF-8");
        let words =
            ["matchlock", "build", "-t", "x", "--secret", &secret, "--build-arg", &argument];
        let words = words.into_iter().chain([context]).map(OsString::from);
        let crate::cli::Parsed::Run(crate::cli::Cli {
            command: Some(crate::cli::Command::Build(args)),
            ..
        }) = crate::cli::parse(words).expect("valid")
        else {
            panic!("build")
        };
        let plan = Plan::new(&args, context, &Environment::default()).expect("valid");
        let shown = format!("{plan:?}");
        assert!(shown.contains("API_KEY") && shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains(CANARY), "{shown}");
        assert_eq!(plan.timeout, Some(Duration::from_secs(1800)));
    }
}
