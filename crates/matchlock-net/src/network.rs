//! The network of one sandbox, from its start to its end.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use matchlock_intercept::hooks::Rules;
use matchlock_policy::Policy;
use rustls::pki_types::CertificateDer;
use tokio::runtime::{Builder, Runtime};

use crate::audit::Audit;
use crate::cause::Cause;
use crate::dial::{Dialer, ProxySettings};
use crate::dns::{DnsContext, Names, Resolver, Seen, Source, Upstream};
use crate::engine::{Engine, Outside, Shared};
use crate::own_addresses::Watched;
use crate::refusals::Refusal;
use crate::stack::{Addressing, Counters, Stack, StackConfig, Traffic};
use crate::tls::{self, Authority, Roots, UpstreamTls};

/// Threads that carry the traffic of a sandbox.
const WORKERS: usize = 2;
/// How long the end of a network waits for what is running.
const END: Duration = Duration::from_millis(200);
/// Of the guest's IPv4 address. The synthetic addresses are on the same link.
const PREFIX_V4: u8 = 15;
/// Of the guest's IPv6 address.
const PREFIX_V6: u8 = 64;

/// What the network of a sandbox is to be.
#[derive(Debug)]
pub struct NetConfig {
    /// Largest IP packet on the link to the guest, in bytes.
    pub mtu: u32,
    /// What may leave.
    pub policy: Policy,
    /// Hooks of HTTP.
    pub rules: Rules,
    /// Where callbacks of hooks are served.
    pub callback_socket: Option<PathBuf>,
    /// Name servers; none for those of the host.
    pub dns_servers: Vec<SocketAddr>,
    /// Certificates to trust towards the outside, beside those that the host trusts.
    pub upstream_ca: Vec<CertificateDer<'static>>,
    /// The host's own way out.
    pub proxy: ProxySettings,
    /// Takes what happens.
    pub audit: Arc<dyn Audit>,
}

/// How the guest is to set up its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestNetwork {
    /// The hardware address; frames from any other are dropped.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Addresses with the length of their prefix, one of each family.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default routes, one of each family.
    pub gateways: Vec<IpAddr>,
    /// Where names are asked for.
    pub dns_servers: Vec<IpAddr>,
}

/// The network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No threads, or no way to wait for sockets.
    #[error("cannot start the threads of the network")]
    Runtime(#[source] io::Error),
    /// The guest's end is not usable.
    #[error("cannot use the socket of the guest's frames")]
    Socket(#[source] io::Error),
    /// The kernel does not say which addresses the host has.
    #[error("cannot list the addresses of the host")]
    OwnAddresses(#[source] io::Error),
    /// There are no keys.
    #[error("cannot make the certificate authority of the sandbox")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The policy would have TLS looked into for a guest that does not trust us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("allow-list updates unavailable: sandbox was started without network interception")]
pub struct NotIntercepting;

/// The network of a sandbox, which runs on threads of its own until it is dropped.
pub struct Network {
    engine: Arc<Engine>,
    guest: GuestNetwork,
    /// Whether the guest trusts [`Network::ca_pem`], which is settled at its start.
    ends_tls: bool,
    counters: Arc<Counters>,
    runtime: Option<Runtime>,
}

impl Network {
    /// Starts to serve the guest whose Ethernet frames come over a stream, each with its length in
    /// four bytes before it, most significant first.
    ///
    /// # Errors
    ///
    /// The host has no threads, no random bytes, or the socket is not usable.
    pub fn start(config: NetConfig, guest: UnixStream) -> Result<Self, NetError> {
        let mtu = config.mtu;
        let addressing = Addressing::default();
        let ends_tls = config.policy.ends_tls();
        let engine = engine(config, &addressing, true)?;
        let runtime = runtime()?;
        let stack = StackConfig { mtu, addressing: addressing.clone() };
        let guest_network = guest_network(mtu, &addressing);
        let counters = Arc::default();
        let mut network =
            Self { engine, guest: guest_network, ends_tls, counters, runtime: Some(runtime) };
        network.serve(stack, guest)?;
        Ok(network)
    }

    /// How the guest is to set up its interface.
    #[must_use]
    pub fn guest(&self) -> GuestNetwork {
        self.guest.clone()
    }

    /// The certificate that the guest has to trust, in PEM; `None` when the policy that the network began
    /// with looks into nothing. Every network has another.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ends_tls.then(|| self.engine.authority.ca_pem())
    }

    /// The policy of this moment.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.engine.shared.policy()
    }

    /// Puts another policy in force: for new flows and requests at once, and flows that it does
    /// not allow are reset.
    ///
    /// # Errors
    /// [`NotIntercepting`]: this policy looks into TLS, the first one did not, and so the guest was given
    /// no authority to trust. Whoever means to change a policy begins with one that
    /// [ends TLS](Policy::ends_tls).
    pub fn replace_policy(&self, policy: Policy) -> Result<(), NotIntercepting> {
        if policy.ends_tls() && !self.ends_tls {
            return Err(NotIntercepting);
        }
        self.engine.shared.replace_policy(policy);
        Ok(())
    }

    /// What the guest was refused, the first 64 distinct refusals.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        self.engine.shared.refusals().0
    }

    /// How many refusals there were beyond those.
    #[must_use]
    pub fn refusals_beyond(&self) -> u64 {
        self.engine.shared.refusals().1
    }

    /// Whether an event of the audit trail was lost, so that nothing passes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.engine.shared.is_closed()
    }

    /// Bytes that went over the link to the guest so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    fn serve(&mut self, config: StackConfig, guest: UnixStream) -> Result<(), NetError> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        guest.set_nonblocking(true).map_err(NetError::Socket)?;
        let _context = runtime.enter();
        let guest = tokio::net::UnixStream::from_std(guest).map_err(NetError::Socket)?;
        let stack = Stack::new(config, guest, Arc::clone(&self.engine));
        self.counters = stack.counters();
        runtime.spawn(async move {
            if let Err(error) = stack.run().await {
                let cause = Cause::of(&error);
                tracing::error!(%cause, "the guest's network has ended");
            }
        });
        let engine = Arc::clone(&self.engine);
        // The first TLS flow need not wait for the host's certificates.
        runtime.spawn_blocking(move || engine.warm_up());
        Ok(())
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Whoever drops us may be a task itself, which must not wait for a runtime.
        let ending = std::thread::spawn(move || runtime.shutdown_timeout(END));
        let _ = ending.join();
    }
}

pub(crate) fn runtime() -> Result<Runtime, NetError> {
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("net")
        .enable_all()
        .build()
        .map_err(NetError::Runtime)
}

fn guest_network(mtu: u32, addressing: &Addressing) -> GuestNetwork {
    let gateways = gateways(addressing).to_vec();
    GuestNetwork {
        mac: addressing.guest_mac,
        mtu,
        addresses: vec![
            (addressing.guest_v4.into(), PREFIX_V4),
            (addressing.guest_v6.into(), PREFIX_V6),
        ],
        dns_servers: gateways.clone(),
        gateways,
    }
}

fn gateways(addressing: &Addressing) -> [IpAddr; 2] {
    [addressing.gateway_v4.into(), addressing.gateway_v6.into()]
}

/// Puts the parts together.
pub(crate) fn engine(
    config: NetConfig,
    addressing: &Addressing,
    system_roots: bool,
) -> Result<Arc<Engine>, NetError> {
    let NetConfig { policy, rules, callback_socket, dns_servers, upstream_ca, .. } = config;
    let provider = tls::provider();
    let authority = Authority::new(Arc::clone(&provider), SystemTime::now())
        .map_err(|error| NetError::Authority(error.into()))?;
    let roots = Roots { system: system_roots, extra: upstream_ca };
    let upstream = Arc::new(Upstream::new(Source::new(&dns_servers)));
    let resolver = Arc::new(Resolver::new(Arc::clone(&upstream)));
    let dns =
        DnsContext { names: Arc::new(Names::new()), seen: Arc::new(Seen::default()), upstream };
    let tls = Arc::new(UpstreamTls::new(provider, roots));
    let own = Watched::new().map_err(NetError::OwnAddresses)?;
    let outside = Outside::new(Dialer::new(resolver, config.proxy), tls);
    let shared = Arc::new(Shared::new(policy, own, config.audit, rules, callback_socket));
    Ok(Arc::new(Engine::new(shared, authority, outside, dns, gateways(addressing))))
}
