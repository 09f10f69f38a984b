//! Connections to the outside: name to checked addresses to a stream.
//!
//! Whoever dials shows an [`Allowed`]. Its name is resolved once, every answer is checked, and an
//! address that was checked is dialled: never a name, and never what the guest dialled. Only with a
//! proxy of the host's in between the name goes out, and the proxy resolves it.

mod connect;
mod host;
mod no_proxy;
mod proxy;
mod tunnel;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use matchlock_policy::{Allowed, Denied, Dialable, Endpoint, Host};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::dns::{ResolveError, Resolver};
pub use host::{HostDialError, HostDialer, HostStream, host_roots};
pub(crate) use proxy::Authorization;
use proxy::Proxy;
pub use proxy::{ProxyError, ProxySettings};
pub(crate) use tunnel::TunnelError;

/// Longest time from a name to a stream, a tunnel included.
const LIMIT: Duration = Duration::from_secs(10);

/// Dials what the policy allowed.
#[derive(Debug)]
pub(crate) struct Dialer {
    resolver: Arc<Resolver>,
    proxies: ProxySettings,
    limit: Duration,
}

/// What the connection is for; the host may have another proxy for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// TLS: the proxy makes a tunnel.
    Tls,
    /// HTTP without TLS: the proxy takes requests in absolute form.
    Http,
    /// Anything else over TCP: the proxy makes a tunnel.
    Raw,
}

/// A connection to the outside.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    /// Who is at the other end: the address that was checked, or the proxy.
    pub(crate) peer: SocketAddr,
    /// Set if requests go to a proxy instead of the server. A tunnel is as good as the server.
    pub(crate) via_proxy: Option<ProxyForm>,
}

/// How requests to a proxy differ: the target has absolute form (RFC 9112 3.2.2), and the proxy may
/// want to know who asks.
#[derive(Clone, Debug)]
pub(crate) struct ProxyForm {
    /// For the field `Proxy-Authorization` of every request.
    pub(crate) authorization: Option<Authorization>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The name has no address that may be dialled.
    #[error(transparent)]
    Denied(Denied),
    #[error("cannot resolve {}", host)]
    Resolve {
        host: Host,
        #[source]
        cause: ResolveError,
    },
    #[error("cannot connect")]
    Connect(#[source] ConnectError),
    #[error("cannot connect through the proxy")]
    Proxy(#[source] TunnelError),
}

/// How TCP failed; to the guest each looks as it would without us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the connection was refused")]
    Refused,
    #[error("no answer in time")]
    Timeout,
    #[error("the host cannot be reached")]
    Unreachable(#[source] io::Error),
}

impl Dialer {
    pub(crate) fn new(resolver: Arc<Resolver>, proxies: ProxySettings) -> Self {
        Self { resolver, proxies, limit: LIMIT }
    }

    /// Connects to what was allowed. `added` are the addresses that `--add-host` gives to its name;
    /// if there are some, no server is asked.
    pub(crate) async fn dial(
        &self,
        allowed: &Allowed,
        added: &[IpAddr],
        purpose: Purpose,
    ) -> Result<Upstream, DialError> {
        let deadline = Instant::now() + self.limit;
        let proxy = self.proxies.choose(allowed.endpoint(), purpose).filter(|_| added.is_empty());
        if let Some(proxy) = proxy {
            let target = allowed.by_name_only();
            let late = |_| Err(TunnelError::Timeout);
            let target = target.name_for_proxy();
            let through = timeout_at(deadline, through(proxy, target, purpose)).await;
            return through.unwrap_or_else(late).map_err(DialError::Proxy);
        }
        let direct = async {
            let dialable = self.addresses(allowed, added).await?;
            let connected = connect::connect(dialable.addresses()).await;
            let (stream, peer) = connected.map_err(DialError::Connect)?;
            Ok(Upstream { stream, peer, via_proxy: None })
        };
        let late = |_| Err(DialError::Connect(ConnectError::Timeout));
        timeout_at(deadline, direct).await.unwrap_or_else(late)
    }

    /// The checked addresses of what was allowed: for UDP, which has no connection to make.
    pub(crate) async fn addresses(
        &self,
        allowed: &Allowed,
        added: &[IpAddr],
    ) -> Result<Dialable, DialError> {
        if let Some(fixed) = allowed.fixed() {
            return Ok(fixed);
        }
        let Host::Name(name) = allowed.host() else {
            return allowed.admit(&[]).map_err(DialError::Denied);
        };
        if !added.is_empty() {
            return allowed.admit(added).map_err(DialError::Denied);
        }
        let answers = self.resolver.lookup(name).await;
        let resolve = |cause| DialError::Resolve { host: allowed.host().clone(), cause };
        allowed.admit(&answers.map_err(resolve)?).map_err(DialError::Denied)
    }
}

async fn through(
    proxy: &Proxy,
    target: Option<&Endpoint>,
    purpose: Purpose,
) -> Result<Upstream, TunnelError> {
    let unreachable = TunnelError::Unreachable;
    let addresses = tokio::net::lookup_host(proxy.endpoint()).await.map_err(unreachable)?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let (mut stream, peer) =
        connect::connect(&addresses).await.map_err(|error| unreachable(io::Error::other(error)))?;
    let authorization = proxy.authorization().cloned();
    if purpose == Purpose::Http {
        let via_proxy = Some(ProxyForm { authorization });
        return Ok(Upstream { stream, peer, via_proxy });
    }
    let Some(target) = target else {
        return Err(unreachable(io::ErrorKind::AddrNotAvailable.into()));
    };
    tunnel::open(&mut stream, target, authorization.as_ref()).await?;
    Ok(Upstream { stream, peer, via_proxy: None })
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Unreachable(error),
        }
    }
}
