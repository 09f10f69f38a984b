//! What `create` asks for, as a description of a sandbox: contract, sections 2.4 and 3.8.
//!
//! Whatever is not done yet is refused by its name, and never passed over.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use matchlock_api::{
    CreateParams, ErrorCode, ErrorKind, ExtraDisk, ImageConfig, Network, RpcError,
};
use matchlock_intercept::hooks::{Rules, WireRule};
use matchlock_policy::{DefaultEgress, HostName, SecretSpec, Secrets, parse_add_host};
use matchlock_text::{DescribeChain, escape};

use super::bounds::Bounds;
use super::fault::{invalid, of_value};
use super::network::hosts;
use crate::id::random;
use crate::spec::{
    ConfinementSpec, DiskSource, DiskSpec, ImageSpec, Lifetime, NetworkSpec, SandboxSpec,
    SecretValues,
};
use crate::values::{Cpus, DiskSize, MemorySize, Mtu, host_cpus, host_memory_mib};
use crate::volume::Access;

/// The port of DNS servers that name none (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;

/// The most entries of a list or a map of `create`.
const MAX_ENTRIES: usize = 1024;

/// All of `create` that can be checked before anything is fetched.
#[derive(Debug)]
pub(super) struct Plan {
    /// The image in it is what `image` turns out to be.
    pub(super) spec: SandboxSpec,
    pub(super) secrets: SecretValues,
    pub(super) rules: Rules,
    pub(super) callback_socket: Option<PathBuf>,
    pub(super) image: String,
    pub(super) kernel: Option<String>,
    pub(super) image_config: ImageConfig,
    pub(super) launch: bool,
}

impl Plan {
    pub(super) fn new(
        params: CreateParams,
        egress: DefaultEgress,
        bounds: &Bounds,
    ) -> Result<Self, RpcError> {
        refuse_what_is_not_done(&params)?;
        let limits = params.limits(bounds.defaults());
        bounds.check(&limits)?;
        let cpus = Cpus::new(limits.cpus, host_cpus()).map_err(of_value("resources.cpus"))?;
        let memory = MemorySize::new(limits.memory_mb, host_memory_mib());
        let memory = memory.map_err(of_value("resources.memory_mb"))?;
        let disk = DiskSize::new(limits.disk_size_mb);
        let disk = disk.map_err(of_value("resources.disk_size_mb"))?;
        let open_private = !params.block_private_ips();
        let CreateParams { image, kernel, privileged, network, env, extra_disks, .. } = params;
        let network = network.unwrap_or_default();
        let hostname = network.hostname.as_deref().filter(|name| !name.is_empty());
        let hostname = hostname.map(|name| name.parse().map_err(of_value("network.hostname")));
        let secrets = secrets(&network)?;
        let (rules, callback_socket) = interception(&network)?;
        let spec = SandboxSpec {
            name: None,
            image: ImageSpec::Host,
            cpus,
            memory,
            disk,
            disks: disks(extra_disks.unwrap_or_default())?,
            export: false,
            hostname: hostname.transpose()?,
            confinement: match privileged {
                Some(true) => ConfinementSpec::privileged(),
                Some(false) | None => ConfinementSpec::default(),
            },
            limits: matchlock_proto::Limits::default(),
            env: variables("env", &env.unwrap_or_default())?,
            hosts: added(&network)?,
            network: describe(&network, open_private, egress, &secrets)?,
            audit_log: None,
            start: None,
            // `matchlock rm` finds it after `close`: contract, section 2.14.
            lifetime: Lifetime { recorded: true, ..Lifetime::default() },
        };
        let kernel = kernel.and_then(|kernel| kernel.reference).filter(|text| !text.is_empty());
        let image_config = params.image_config.unwrap_or_default();
        let launch = params.launch_entrypoint.unwrap_or(false);
        Ok(Self { spec, secrets, rules, callback_socket, image, kernel, image_config, launch })
    }
}

fn refuse_what_is_not_done(params: &CreateParams) -> Result<(), RpcError> {
    let unsupported = |field: &str| {
        let error = invalid(field, "this version of matchlock does not do it yet");
        let hint = "write_file puts files into the guest, extra_disks attaches disks";
        Err(if field.starts_with("vfs") { error.hinted(hint) } else { error })
    };
    if let Some(vfs) = &params.vfs {
        if vfs.mounts.as_ref().is_some_and(|mounts| !mounts.is_empty()) {
            return unsupported("vfs.mounts");
        }
        if vfs.direct_mounts.as_ref().is_some_and(|mounts| !is_nothing(mounts)) {
            return unsupported("vfs.direct_mounts");
        }
    }
    let network = params.network.as_ref();
    let script = network.and_then(|network| network.policy_script.as_deref());
    match script {
        Some("") | None => Ok(()),
        Some(_) => unsupported("network.policy_script"),
    }
}

fn is_nothing(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Object(map) => map.is_empty(),
        serde_json::Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// As [`SandboxSpec::env`] has them.
type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// Variables of an environment: names are not empty and have no `=`, and nothing has a zero byte.
pub(super) fn variables(
    field: &str,
    map: &BTreeMap<String, String>,
) -> Result<Variables, RpcError> {
    bounded(field, map.len())?;
    let mut env = Vec::new();
    for (name, value) in map {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(invalid(field, format!("{name:?} cannot be set in an environment")));
        }
        env.push((name.clone().into_bytes(), value.clone().into_bytes()));
    }
    Ok(env)
}

fn bounded(field: &str, count: usize) -> Result<(), RpcError> {
    match count {
        0..=MAX_ENTRIES => Ok(()),
        _ => Err(invalid(field, format!("more than {MAX_ENTRIES} entries"))),
    }
}

fn describe(
    network: &Network,
    open_private: bool,
    default_egress: DefaultEgress,
    secrets: &SecretValues,
) -> Result<Option<NetworkSpec>, RpcError> {
    if network.no_network() {
        return Ok(None);
    }
    let allowed = network.allowed_hosts.as_deref().unwrap_or_default();
    bounded("network.allowed_hosts", allowed.len())?;
    let servers = network.dns_servers.as_deref().unwrap_or_default();
    bounded("network.dns_servers", servers.len())?;
    let mtu = Mtu::new(i64::try_from(network.mtu()).unwrap_or(i64::MAX));
    // Nothing: the networks around this machine. Its own addresses and those of metadata stay closed.
    let around = || "".parse().map_err(|error| invalid("network.block_private_ips", error));
    Ok(Some(NetworkSpec {
        mtu: mtu.map_err(of_value("network.mtu"))?,
        allowed_hosts: hosts("network.allowed_hosts", allowed)?,
        default_egress,
        private: if open_private { vec![around()?] } else { Vec::new() },
        intercept: network.intercept.unwrap_or(false) || network.interception.is_some(),
        secrets: secrets.rules(),
        dns_servers: servers.iter().enumerate().map(dns_server).collect::<Result<_, _>>()?,
        upstream_ca: Vec::new(),
    }))
}

fn dns_server((at, text): (usize, &String)) -> Result<SocketAddr, RpcError> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    let alone = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    with_port.or(alone).ok_or_else(|| {
        let problem = format!("{text:?} is not IP, IP:PORT or [IPv6]:PORT");
        invalid(&format!("network.dns_servers[{at}]"), problem)
    })
}

fn added(network: &Network) -> Result<Vec<(HostName, IpAddr)>, RpcError> {
    let pairs = network.add_hosts.as_deref().unwrap_or_default();
    bounded("network.add_hosts", pairs.len())?;
    let parse = |(at, pair): (usize, &matchlock_api::HostIp)| {
        parse_add_host(&format!("{}:{}", pair.host, pair.ip)).map_err(|error| {
            let problem = format!("{:?}: {}", pair.host, DescribeChain(&error));
            invalid(&format!("network.add_hosts[{at}]"), problem)
        })
    };
    pairs.iter().enumerate().map(parse).collect()
}

fn secrets(network: &Network) -> Result<SecretValues, RpcError> {
    let given = network.secrets.iter().flatten();
    bounded("network.secrets", given.clone().count())?;
    let mut specs = Vec::new();
    for (name, secret) in given {
        let field = format!("network.secrets.{name}");
        let hosts = secret.hosts.as_deref().unwrap_or_default();
        if hosts.is_empty() {
            let error = invalid(&format!("{field}.hosts"), "a secret needs hosts");
            return Err(error.hinted("name the hosts that may have it"));
        }
        let spec = SecretSpec::from_parts(name, secret.value.reveal().to_owned(), hosts);
        // Its text never holds the value.
        let mut spec = spec.map_err(|error| invalid(&field, DescribeChain(error.problem())))?;
        spec.placeholder = secret.placeholder.clone().filter(|text| !text.is_empty());
        if secret.placeholder.as_deref() == Some("") {
            return Err(invalid(&format!("{field}.placeholder"), "it is empty"));
        }
        specs.push(spec);
    }
    let mut failed = None;
    let mut entropy = || {
        random().unwrap_or_else(|error| {
            failed = Some(error);
            [0; 16]
        })
    };
    let secrets = Secrets::new(specs, &mut entropy);
    if let Some(error) = failed {
        let text = format!("cannot get random bytes: {error}");
        return Err(RpcError::new(ErrorCode::Sandbox, ErrorKind::Io, text));
    }
    secrets
        .map(SecretValues::from)
        .map_err(|error| invalid("network.secrets", DescribeChain(&error)))
}

/// The rules, and the socket that answers their callbacks.
fn interception(network: &Network) -> Result<(Rules, Option<PathBuf>), RpcError> {
    let Some(interception) = &network.interception else { return Ok((Rules::default(), None)) };
    let given = interception.rules.as_deref().unwrap_or_default();
    bounded("network.interception.rules", given.len())?;
    let socket = interception.callback_socket.as_deref().filter(|path| !path.is_empty());
    let field = |at: usize| format!("network.interception.rules[{at}]");
    let mut rules = Vec::new();
    for (at, value) in given.iter().enumerate() {
        let rule: WireRule = serde_json::from_value(value.clone())
            // The text of such an error quotes what it read, a header's value for one.
            .map_err(|error| invalid(&field(at), kind_of(&error)))?;
        if socket.is_none() && !rule.callback_id.is_empty() {
            let problem = "a rule with a callback_id needs a callback_socket";
            return Err(invalid(&field(at), problem));
        }
        rules.push(rule);
    }
    let rules = Rules::new(rules)
        .map_err(|error| invalid(&field(error.number - 1), DescribeChain(&error)))?;
    if let Some(path) = socket
        && !Path::new(path).is_absolute()
    {
        let problem = format!("{path:?} is not an absolute path");
        return Err(invalid("network.interception.callback_socket", problem));
    }
    Ok((rules, socket.map(PathBuf::from)))
}

fn kind_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Data => "a key has a value of a wrong type",
        _ => "it cannot be read",
    }
}

fn disks(given: Vec<ExtraDisk>) -> Result<Vec<DiskSpec>, RpcError> {
    let wrong = |at: usize, problem: String| {
        let text = format!("invalid extra disk config: extra_disks[{at}]: {problem}");
        let (code, kind) = (ErrorCode::Sandbox, ErrorKind::InvalidArgument);
        RpcError::new(code, kind, escape::one_line(&text)).of_field(format!("extra_disks[{at}]"))
    };
    let describe = |(at, disk): (usize, ExtraDisk)| {
        let ExtraDisk { host_path, guest_mount, readonly, owner_uid, owner_gid } = disk;
        let path = PathBuf::from(&host_path);
        if !path.is_absolute() {
            return Err(wrong(at, format!("{host_path:?} is not an absolute path")));
        }
        let target = guest_mount.parse().map_err(|error| wrong(at, format!("{error}")))?;
        let read_only = readonly.unwrap_or(false);
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let owner = (owner_uid.is_some() || owner_gid.is_some())
            .then(|| (owner_uid.unwrap_or_default(), owner_gid.unwrap_or_default()));
        let disk = DiskSpec { source: DiskSource::File(path), target, access, owner };
        disk.check().map_err(|error| wrong(at, error.to_string()))?;
        Ok(disk)
    };
    given.into_iter().enumerate().map(describe).collect()
}

#[cfg(test)]
mod tests;
