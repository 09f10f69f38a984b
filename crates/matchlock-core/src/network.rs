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
use crate::error::CoreError;
use crate::spec::{Attachments, SandboxSpec};
use crate::values::{InvalidConfig, Mtu};

/// Least MTU in bytes with which a link may carry IPv6 (RFC 8200 section 5).
const MIN_IPV6_MTU: u32 = 1280;

/// A description of a network with what cannot be written down.
#[derive(Debug)]
pub(crate) struct NetworkSettings {
    mtu: Mtu,
    pub(crate) policy: Policy,
    rules: Rules,
    callback_socket: Option<PathBuf>,
    dns_servers: Vec<SocketAddr>,
    upstream_ca: Vec<CertificateDer<'static>>,
    proxy: ProxySettings,
}

impl NetworkSettings {
    /// Takes what belongs to the network out of `with`; `None` without a network.
    pub(crate) fn new(
        spec: &SandboxSpec,
        with: &mut Attachments,
    ) -> Result<Option<Self>, InvalidConfig> {
        let (Some(network), Some(policy)) = (&spec.network, spec.policy(&with.secrets)) else {
            return Ok(None);
        };
        if let Some(useless) = policy.useless_secrets().first() {
            let (secret, host) = (useless.secret.to_string(), useless.host.to_string());
            return Err(InvalidConfig::UselessSecret {
                secret,
                host,
                rule: useless.rule.to_string(),
            });
        }
        Ok(Some(Self {
            mtu: network.mtu,
            policy,
            rules: std::mem::take(&mut with.rules),
            callback_socket: with.callback_socket.take(),
            dns_servers: network.dns_servers.clone(),
            upstream_ca: network.certificates()?,
            proxy: std::mem::take(&mut with.proxy),
        }))
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

/// What the audit trail says of a policy: no values and no placeholders.
pub(crate) fn summary(policy: &Policy) -> audit::Network {
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
