//! The network of a sandbox: its settings, and the pieces that the machine and the guest need.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use matchlock_intercept::hooks::Rules;
use matchlock_net::{Audit, CertificateDer, GuestNetwork, NetConfig, Network, ProxySettings};
use matchlock_policy::Policy;
use matchlock_proto::NetworkConfig;
use matchlock_vmm::Nic;

use crate::audit;
use crate::config::InvalidConfig;
use crate::error::CoreError;

/// Least MTU in bytes with which a link may carry IPv6 (RFC 8200 section 5).
const MIN_IPV6_MTU: u32 = 1280;

/// A sandbox with a network device: what its guest may reach, and by which ways.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    /// Largest packet of the guest.
    pub mtu: Mtu,
    /// What may be reached, and who may get which secret.
    pub policy: Policy,
    /// Rules that block and change requests.
    pub rules: Rules,
    /// Unix socket that answers the rules' callbacks.
    pub callback_socket: Option<PathBuf>,
    /// DNS servers that the host asks for the guest; none: those of the host's own configuration.
    pub dns_servers: Vec<SocketAddr>,
    /// Authorities that upstream servers may be certified by, beside those of the host.
    pub upstream_ca: Vec<CertificateDer<'static>>,
    /// Proxies between the host and the network.
    pub proxy: ProxySettings,
}

/// Largest packet of the guest's network device in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu(u32);

impl Mtu {
    /// What every IPv4 host must be able to receive (RFC 791 section 3.1).
    pub const MIN: i64 = 576;
    /// The largest multiple of 8 that, with an Ethernet header, is still below 64 KiB.
    pub const MAX: i64 = 65_520;

    /// `wanted` bytes.
    ///
    /// # Errors
    /// [`InvalidConfig::NoMtu`] or [`InvalidConfig::Mtu`].
    pub fn new(wanted: i64) -> Result<Self, InvalidConfig> {
        match u32::try_from(wanted) {
            Ok(bytes) if (Self::MIN..=Self::MAX).contains(&wanted) => Ok(Self(bytes)),
            _ if wanted <= 0 => Err(InvalidConfig::NoMtu),
            _ => Err(InvalidConfig::Mtu { wanted }),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for Mtu {
    /// That of Ethernet.
    fn default() -> Self {
        Self(1500)
    }
}

/// A network that runs, and what the guest is told of it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) network: Network,
    pub(crate) config: NetworkConfig,
    pub(crate) dns_servers: Vec<IpAddr>,
    /// The authority that the guest has to trust, if TLS ends on the host.
    pub(crate) ca_pem: Option<String>,
    /// Names of secrets with their placeholders.
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Starts the network; returns it with the device of the machine.
pub(crate) fn start(
    settings: NetworkSettings,
    audit: Arc<dyn Audit>,
) -> Result<(Running, Nic), CoreError> {
    let (ours, socket) = UnixStream::pair().map_err(CoreError::host("make a socket pair"))?;
    let NetworkSettings { mtu, policy, rules, callback_socket, dns_servers, upstream_ca, proxy } =
        settings;
    let secrets = policy.secrets().env();
    let env = secrets.map(|(name, placeholder)| {
        (name.as_str().as_bytes().to_vec(), placeholder.as_str().as_bytes().to_vec())
    });
    let env = env.collect();
    let config = NetConfig {
        mtu: mtu.bytes(),
        policy,
        rules,
        callback_socket,
        dns_servers,
        upstream_ca,
        proxy,
        audit,
    };
    let network = Network::start(config, ours).map_err(CoreError::Network)?;
    let GuestNetwork { mac, mtu, addresses, gateways, dns_servers } = network.guest();
    // Linux takes no IPv6 address on a link that is too small for it.
    let usable = |ip: &IpAddr| ip.is_ipv4() || mtu >= MIN_IPV6_MTU;
    let config = NetworkConfig {
        mtu,
        addresses: addresses.into_iter().filter(|(ip, _)| usable(ip)).collect(),
        gateways: gateways.into_iter().filter(usable).collect(),
    };
    let nic = Nic { socket: socket.into(), mac, mtu: u16::try_from(mtu).unwrap_or(u16::MAX) };
    let ca_pem = network.ca_pem().map(str::to_owned);
    let dns_servers = dns_servers.into_iter().filter(usable).collect();
    Ok((Running { network, config, dns_servers, ca_pem, env }, nic))
}

impl NetworkSettings {
    /// What the audit trail says of it: no values and no placeholders.
    pub(crate) fn summary(&self) -> audit::Network {
        let policy = &self.policy;
        let secrets = policy.secrets().iter().map(|secret| audit::SecretSummary {
            name: secret.name.to_string(),
            hosts: secret.hosts.iter().map(ToString::to_string).collect(),
        });
        audit::Network {
            sealed: policy.is_sealed(),
            intercepted: policy.intercepts(),
            allowed_hosts: policy.allowed_hosts(),
            secrets: secrets.collect(),
        }
    }
}
