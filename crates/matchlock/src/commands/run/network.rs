//! What the flags of the network ask for, checked before anything starts.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use matchlock_core::hooks::Rules;
use matchlock_core::net::CertificateDer;
use matchlock_core::policy::{
    HostName, HostPattern, Policy, PolicyConfig, PrivateAccess, Secrets, parse_add_host,
};
use matchlock_core::{DescribeChain, Mtu, NetworkSettings, PortForward};

use super::{lists, secrets};
use crate::cli::NetworkArgs;
use crate::error::CliError;
use crate::surroundings::Surroundings;

/// The port of DNS servers that name none (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// The network of a run.
#[derive(Debug)]
pub(super) struct NetworkPlan {
    /// `None` with `--no-network`.
    pub(super) settings: Option<NetworkSettings>,
    /// `--add-host`.
    pub(super) hosts: Vec<(HostName, IpAddr)>,
    /// `--publish`.
    pub(super) forwards: Vec<PortForward>,
    /// `--address`.
    pub(super) addresses: Vec<IpAddr>,
    /// `--audit-log`.
    pub(super) audit_log: Option<PathBuf>,
}

/// Checks the flags that `--no-network` makes meaningless, or worse: that somebody may rely on.
pub(super) fn check_no_network(args: &NetworkArgs) -> Result<(), CliError> {
    let wanted = [
        ("allow-host", !args.allow_host.is_empty()),
        ("secret", !args.secret.is_empty()),
        ("network-intercept", args.network_intercept),
        ("secret-file", !args.secret_file.is_empty()),
        ("allow-private", !args.allow_private.is_empty()),
    ];
    match wanted.iter().find(|(_, given)| args.no_network && *given) {
        Some((flag, _)) => Err(CliError::new(format!(
            "--no-network cannot be combined with --{flag}"
        ))
        .hinted("without --no-network nothing can be reached either, but what --allow-host names")),
        None => Ok(()),
    }
}

/// Reads the secrets, with what is to be said about them.
pub(super) fn read_secrets(
    args: &NetworkArgs,
    warnings: &mut Vec<String>,
) -> Result<Secrets, CliError> {
    secrets::collect(args, &|name| std::env::var(name).ok(), &mut |text| warnings.push(text))
}

impl NetworkPlan {
    /// Checks all flags but those of [`check_no_network`] and [`read_secrets`].
    pub(super) fn new(
        args: &NetworkArgs,
        mtu: Mtu,
        secrets: Secrets,
        surroundings: &Surroundings,
        warnings: &mut Vec<String>,
    ) -> Result<Self, CliError> {
        let hosts = each(&args.add_host, "add-host mapping", |text| {
            parse_add_host(text).map_err(|error| format!("{text:?}: {}", DescribeChain(&error)))
        })?;
        let forwards = args.publish.iter().map(|text| {
            text.parse::<PortForward>()
                .map_err(|error| CliError::new(format!("invalid port-forward specification: {error}")))
        });
        let forwards = forwards.collect::<Result<_, _>>()?;
        let mut addresses = each(&args.address, "port-forward bind address", bind_address)?;
        let mut seen = Vec::new();
        addresses.retain(|address| !seen.contains(address) && { seen.push(*address); true });
        if addresses.is_empty() {
            addresses.push(Ipv4Addr::LOCALHOST.into());
        }
        let settings = if args.no_network {
            None
        } else {
            Some(settings(args, mtu, secrets, hosts.clone(), surroundings, warnings)?)
        };
        let audit_log = args.audit_log.as_ref().map(PathBuf::from);
        Ok(Self { settings, hosts, forwards, addresses, audit_log })
    }
}

fn settings(
    args: &NetworkArgs,
    mtu: Mtu,
    secrets: Secrets,
    add_hosts: Vec<(HostName, IpAddr)>,
    surroundings: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<NetworkSettings, CliError> {
    let allowed_hosts = each(&args.allow_host, "allowed host", |text| {
        text.parse::<HostPattern>().map_err(|error| format!("{text:?}: {}", DescribeChain(&error)))
    })?;
    for pattern in allowed_hosts.iter().filter(|pattern| pattern.is_broad()) {
        warnings.push(format!(
            "--allow-host {pattern} is broad: anybody can have a name that it matches"
        ));
    }
    let private = args.allow_private.iter().try_fold(PrivateAccess::none(), |access, text| {
        let more = text.parse().map_err(|error| {
            CliError::new(format!("invalid argument {text:?} for --allow-private: {error}"))
        })?;
        Ok::<_, CliError>(access.and(&more))
    })?;
    let dns_servers = each(&args.dns_servers, "DNS server", dns_server)?;
    let mut upstream_ca = Vec::new();
    for path in &args.upstream_ca {
        upstream_ca.extend(certificates(path)?);
    }
    let policy = Policy::new(PolicyConfig {
        allowed_hosts,
        default_egress: surroundings.default_egress()?,
        private,
        intercept: args.network_intercept,
        secrets,
        add_hosts,
    });
    Ok(NetworkSettings {
        mtu,
        policy,
        rules: Rules::default(),
        callback_socket: None,
        dns_servers,
        upstream_ca,
        proxy: surroundings.proxy()?,
    })
}

/// Parses every item of a list flag.
fn each<T>(
    values: &[String],
    what: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, CliError> {
    let invalid = |why: &str| CliError::new(format!("invalid {what}: {why}"));
    let items = lists::split(values).map_err(|error| invalid(&error.to_string()))?;
    items.iter().map(|item| parse(item).map_err(|why| invalid(&why))).collect()
}

fn bind_address(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    unbracketed(text)
        .parse()
        .map_err(|_| format!("{text:?} is neither an IP address nor \"localhost\""))
}

fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    let alone = unbracketed(text).parse::<IpAddr>().ok();
    with_port
        .or(alone.map(|ip| SocketAddr::new(ip, DNS_PORT)))
        .ok_or_else(|| format!("{text:?} is not IP, IP:PORT or [IPv6]:PORT"))
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

fn certificates(path: &OsString) -> Result<Vec<CertificateDer<'static>>, CliError> {
    let name = path.to_string_lossy();
    let pem = std::fs::read(path)
        .map_err(|error| CliError::new(format!("cannot read --upstream-ca {name}: {error}")))?;
    let bad = |why: &str| {
        CliError::new(format!("--upstream-ca {name}: {why}"))
            .hinted("give a PEM file with one or more \"BEGIN CERTIFICATE\" blocks")
    };
    let parsed = matchlock_core::net::certificates_from_pem(&pem);
    let found = parsed.map_err(|error| bad(&DescribeChain(&error).to_string()))?;
    if found.is_empty() { Err(bad("it holds no certificate")) } else { Ok(found) }
}
