//! What the flags of the network ask for, checked before anything starts.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use matchlock_core::net::{ProxySettings, read_certificates};
use matchlock_core::policy::{HostName, HostPattern, parse_add_host};
use matchlock_core::{
    DescribeChain, Mtu, NetworkSpec, PortForward, PrivateRule, SecretValues, bind_address,
};

use super::{lists, secrets};
use crate::cli::{NetworkArgs, PublishArgs};
use crate::environment::Environment;
use crate::error::CliError;

/// The port of DNS servers that name none (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// The network of a run.
#[derive(Debug)]
pub(crate) struct NetworkPlan {
    /// `None` with `--no-network`.
    pub(crate) spec: Option<NetworkSpec>,
    /// Its secrets.
    pub(crate) secrets: SecretValues,
    /// The host's proxies.
    pub(crate) proxy: ProxySettings,
    /// `--add-host`.
    pub(crate) hosts: Vec<(HostName, IpAddr)>,
    /// `--publish`.
    pub(crate) forwards: Vec<PortForward>,
    /// `--address`.
    pub(crate) addresses: Vec<IpAddr>,
    /// `--audit-log`.
    pub(crate) audit_log: Option<PathBuf>,
}

/// Checks the flags that `--no-network` makes meaningless, or worse: that somebody may rely on.
pub(crate) fn check_no_network(args: &NetworkArgs) -> Result<(), CliError> {
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
        .hinted(
            "drop --no-network: the sandbox then reaches only the hosts that --allow-host names",
        )),
        None => Ok(()),
    }
}

/// Reads the secrets, with what is to be said about them.
pub(crate) fn read_secrets(
    args: &NetworkArgs,
    warnings: &mut Vec<String>,
) -> Result<SecretValues, CliError> {
    let lookup = |name: &str| std::env::var(name).ok();
    Ok(secrets::collect(args, &lookup, &mut |text| warnings.push(text))?.into())
}

impl NetworkPlan {
    /// Checks all flags but those of [`check_no_network`] and [`read_secrets`].
    pub(crate) fn new(
        args: &NetworkArgs,
        publish: &PublishArgs,
        mtu: Mtu,
        secrets: SecretValues,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Self, CliError> {
        let hosts = each(&args.add_host, "add-host mapping", |text| {
            parse_add_host(text).map_err(|error| format!("{text:?}: {}", DescribeChain(&error)))
        })?;
        let forwards = port_forwards(&publish.publish)?;
        let addresses = bind_addresses(&publish.address)?;
        let (spec, proxy) = if args.no_network {
            (None, ProxySettings::default())
        } else {
            let spec = describe(args, mtu, &secrets, environment, warnings)?;
            (Some(spec), Environment::proxy()?)
        };
        let audit_log = args.audit_log.as_ref().map(std::path::absolute).transpose();
        let audit_log =
            audit_log.map_err(|error| CliError::new(format!("invalid --audit-log: {error}")))?;
        Ok(Self { spec, secrets, proxy, hosts, forwards, addresses, audit_log })
    }
}

/// Ports of this machine and of the sandbox.
pub(crate) fn port_forwards(texts: &[String]) -> Result<Vec<PortForward>, CliError> {
    let parse = |text: &String| {
        text.parse::<PortForward>()
            .map_err(|error| CliError::new(format!("invalid port-forward specification: {error}")))
    };
    texts.iter().map(parse).collect()
}

/// Addresses of this machine to listen on, each once; loopback if there is none.
pub(crate) fn bind_addresses(texts: &[String]) -> Result<Vec<IpAddr>, CliError> {
    let mut addresses = each(texts, "port-forward bind address", |text| {
        let problem = || format!("{text:?} is neither an IP address nor \"localhost\"");
        bind_address(text).ok_or_else(problem)
    })?;
    let mut seen = Vec::new();
    addresses.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::LOCALHOST.into());
    }
    Ok(addresses)
}

fn describe(
    args: &NetworkArgs,
    mtu: Mtu,
    secrets: &SecretValues,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Result<NetworkSpec, CliError> {
    let allowed_hosts = each(&args.allow_host, "allowed host", |text| {
        text.parse::<HostPattern>().map_err(|error| format!("{text:?}: {}", DescribeChain(&error)))
    })?;
    for pattern in allowed_hosts.iter().filter(|pattern| pattern.is_broad()) {
        warnings.push(format!(
            "--allow-host {pattern} is broad: anybody can have a name that it matches"
        ));
    }
    let private = args.allow_private.iter().map(|text| {
        let rule = text.parse::<PrivateRule>();
        rule.map_err(|error| CliError::new(format!("invalid --allow-private {text:?}: {error}")))
    });
    let private = private.collect::<Result<_, _>>()?;
    let dns_servers = each(&args.dns_servers, "DNS server", dns_server)?;
    let upstream_ca = args.upstream_ca.iter().map(certificates).collect::<Result<_, _>>()?;
    Ok(NetworkSpec {
        mtu,
        allowed_hosts,
        default_egress: environment.default_egress()?,
        private,
        intercept: args.network_intercept,
        secrets: secrets.rules(),
        dns_servers,
        upstream_ca,
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

/// The text of a PEM file with authorities.
fn certificates(path: &OsString) -> Result<String, CliError> {
    let name = path.to_string_lossy();
    let pem = std::fs::read(path)
        .map_err(|error| CliError::of_io(format!("cannot read --upstream-ca {name}"), &error))?;
    let bad = |why: &str| {
        CliError::new(format!("--upstream-ca {name}: {why}"))
            .hinted("give a PEM file with one or more \"BEGIN CERTIFICATE\" blocks")
    };
    read_certificates(&pem).map_err(|error| bad(&error.to_string()))?;
    // What is between the blocks is not read.
    Ok(String::from_utf8_lossy(&pem).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn plan(args: &NetworkArgs) -> Result<(NetworkPlan, Vec<String>), CliError> {
        publishing(args, &PublishArgs::default())
    }

    fn publishing(
        args: &NetworkArgs,
        publish: &PublishArgs,
    ) -> Result<(NetworkPlan, Vec<String>), CliError> {
        let mut warnings = Vec::new();
        let (mtu, secrets) = (Mtu::default(), SecretValues::default());
        let environment = Environment::default();
        let plan = NetworkPlan::new(args, publish, mtu, secrets, &environment, &mut warnings)?;
        Ok((plan, warnings))
    }

    fn refused(args: &NetworkArgs) -> String {
        plan(args).expect_err("refused").message().to_owned()
    }

    #[test]
    fn without_flags_there_is_a_sealed_network_and_nothing_is_published() {
        let (plan, warnings) = plan(&NetworkArgs::default()).expect("valid");
        let spec = plan.spec.expect("a network");
        assert!(spec.allowed_hosts.is_empty() && spec.dns_servers.is_empty());
        assert!(plan.forwards.is_empty() && plan.hosts.is_empty() && warnings.is_empty());
        assert_eq!(plan.addresses, [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    }

    #[test]
    fn no_network_goes_with_nothing_that_opens_one() {
        let off = || NetworkArgs { no_network: true, ..NetworkArgs::default() };
        let secret = "A=b@example.com".parse().expect("infallible");
        let cases = [
            (NetworkArgs { allow_host: texts(&["a"]), ..off() }, "allow-host"),
            (NetworkArgs { secret: vec![secret], ..off() }, "secret"),
            (NetworkArgs { network_intercept: true, ..off() }, "network-intercept"),
            (NetworkArgs { secret_file: vec!["f".into()], ..off() }, "secret-file"),
            (NetworkArgs { allow_private: texts(&[""]), ..off() }, "allow-private"),
        ];
        for (args, flag) in cases {
            let error = check_no_network(&args).expect_err(flag);
            assert_eq!(error.message(), format!("--no-network cannot be combined with --{flag}"));
            let with_network = NetworkArgs { no_network: false, ..args };
            check_no_network(&with_network).expect("valid");
        }
        check_no_network(&off()).expect("valid");
        // Published ports need no network device.
        let publish = PublishArgs { publish: texts(&["80"]), ..PublishArgs::default() };
        let (plan, _) = publishing(&off(), &publish).expect("valid");
        assert!(plan.spec.is_none());
        assert_eq!(plan.forwards.len(), 1);
    }

    #[test]
    fn hosts_are_a_list_and_broad_ones_are_told() {
        let allow_host = texts(&["api.example.com, *.example.org", "*.com"]);
        let (plan, warnings) =
            plan(&NetworkArgs { allow_host, ..NetworkArgs::default() }).expect("valid");
        let spec = plan.spec.expect("a network");
        let hosts: Vec<String> = spec.allowed_hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["api.example.com", "*.example.org", "*.com"]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("--allow-host *.com is broad"), "{warnings:?}");
        let bad = NetworkArgs { allow_host: texts(&["a b"]), ..NetworkArgs::default() };
        assert!(refused(&bad).starts_with("invalid allowed host: \"a b\": "));
    }

    #[test]
    fn mappings_of_names() {
        let add_host = texts(&["db.example.com:10.0.0.5", "v6.example.com:0:0::1,x:127.0.0.1"]);
        let (plan, _) = plan(&NetworkArgs { add_host, ..NetworkArgs::default() }).expect("valid");
        let shown: Vec<String> =
            plan.hosts.iter().map(|(name, ip)| format!("{name} {ip}")).collect();
        assert_eq!(shown, ["db.example.com 10.0.0.5", "v6.example.com ::1", "x 127.0.0.1"]);
        for bad in ["x", "x:", ":1.2.3.4", "a b:1.2.3.4", "x:1.2.3", "x:y", "x:1.2.3.4:5"] {
            let args = NetworkArgs { add_host: texts(&[bad]), ..NetworkArgs::default() };
            let message = refused(&args);
            assert!(message.starts_with("invalid add-host mapping: "), "{bad}: {message}");
        }
    }

    #[test]
    fn ports_and_their_addresses() {
        let args = PublishArgs {
            publish: texts(&["8080:80", "9000"]),
            address: texts(&["localhost,127.0.0.1", "::1,[::1], 0.0.0.0"]),
        };
        let network = NetworkArgs::default();
        let refused = |args: &PublishArgs| {
            publishing(&network, args).expect_err("refused").message().to_owned()
        };
        let (plan, _) = publishing(&network, &args).expect("valid");
        assert_eq!(plan.forwards.len(), 2);
        let shown: Vec<String> = plan.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1", "::1", "0.0.0.0"]);
        for bad in ["0", "x", "1:2:3", "", "80,81"] {
            let args = PublishArgs { publish: texts(&[bad]), ..PublishArgs::default() };
            let message = refused(&args);
            assert!(message.starts_with("invalid port-forward specification: "), "{message}");
        }
        for bad in ["example.com", "1.2.3", "127.0.0.1:80", "fe80::1%lo"] {
            let args = PublishArgs { address: texts(&[bad]), ..PublishArgs::default() };
            let message = refused(&args);
            assert!(message.starts_with("invalid port-forward bind address: "), "{message}");
        }
    }

    #[test]
    fn dns_servers_with_and_without_a_port() {
        let cases = [
            ("1.1.1.1", Some("1.1.1.1:53")),
            ("1.1.1.1:5353", Some("1.1.1.1:5353")),
            ("::1", Some("[::1]:53")),
            ("[::1]", Some("[::1]:53")),
            ("[::1]:5353", Some("[::1]:5353")),
            ("1.1.1.1:0", None),
            ("1.1.1.1:", None),
            ("dns.example.com", None),
        ];
        for (text, expected) in cases {
            let parsed = dns_server(text).ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn authorities_come_from_pem_files() {
        let file = |content: &str| {
            let file = tempfile::NamedTempFile::new().expect("tempfile");
            std::fs::write(file.path(), content).expect("write");
            file
        };
        let block = |text: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        let two = file(&format!("a comment\n{}{}", block("AAAA"), block("BBBB")));
        let found = certificates(&two.path().into()).expect("two");
        assert_eq!(found.matches("BEGIN CERTIFICATE").count(), 2);
        for content in ["", "no PEM at all\n", &block("!!"), "-----BEGIN CERTIFICATE-----\nAAAA\n"]
        {
            let bad = file(content);
            let error = certificates(&bad.path().into()).expect_err("refused");
            assert!(error.message().starts_with("--upstream-ca /"), "{error}");
            assert!(error.hint().is_some());
        }
        assert!(certificates(&"/nonexistent".into()).is_err());
    }
}
