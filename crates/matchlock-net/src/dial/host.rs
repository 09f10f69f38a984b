//! Connections that the host makes for itself, to fetch what a sandbox is made of: the user asks for
//! them, not a guest, so names are resolved as the system resolves them and no policy is asked.

use std::io;
use std::net::{IpAddr, SocketAddr};

use matchlock_policy::{Endpoint, Host, InvalidEndpoint};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{ConnectError, LIMIT, ProxySettings, Purpose, connect, through};
use crate::tls::Roots;

/// Dials directly or through the host's proxies.
#[derive(Clone, Debug, Default)]
pub struct HostDialer {
    proxies: ProxySettings,
}

/// A connection of the host's own.
#[derive(Debug)]
pub struct HostStream {
    /// To the server, or a tunnel to it.
    pub stream: TcpStream,
    /// The address that was dialled; none through a proxy, which resolves names itself.
    pub address: Option<IpAddr>,
}

/// Why there is no connection of the host's own.
#[derive(Debug, thiserror::Error)]
pub enum HostDialError {
    /// Not a host.
    #[error("not the name of a host")]
    Host(#[source] InvalidEndpoint),
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// None of its addresses may be dialled; this is one of them.
    #[error("{0} may not be dialled")]
    Refused(IpAddr),
    /// Nobody listens there.
    #[error("the connection was refused")]
    Closed,
    /// No answer.
    #[error("no answer in time")]
    Timeout,
    /// No way there.
    #[error("the host cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The proxy does not help. Tells nothing of its credentials.
    #[error("cannot connect through the proxy")]
    Proxy(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HostDialer {
    /// One that uses these proxies. A proxy for HTTPS carries everything, in tunnels.
    #[must_use]
    pub fn new(proxies: ProxySettings) -> Self {
        Self { proxies }
    }

    /// Connects to a host of which every address that is dialled passes `admit`. What a proxy
    /// resolves is not seen, but addresses themselves are never given to one.
    ///
    /// # Errors
    /// [`HostDialError`]; within seconds, whatever the host does.
    pub async fn dial(
        &self,
        host: &str,
        port: u16,
        admit: impl Fn(IpAddr) -> bool,
    ) -> Result<HostStream, HostDialError> {
        let host: Host =
            host.parse().map_err(|error| HostDialError::Host(InvalidEndpoint::Host(error)))?;
        let endpoint = Endpoint { host, port };
        let deadline = Instant::now() + LIMIT;
        if let Some(proxy) = self.proxies.choose(&endpoint, Purpose::Tls) {
            let tunnel = timeout_at(deadline, through(proxy, Some(&endpoint), Purpose::Tls)).await;
            let upstream = tunnel.map_err(|_| HostDialError::Timeout)?;
            let upstream = upstream.map_err(|error| HostDialError::Proxy(Box::new(error)))?;
            return Ok(HostStream { stream: upstream.stream, address: None });
        }
        let direct = timeout_at(deadline, direct(&endpoint, admit)).await;
        direct.unwrap_or(Err(HostDialError::Timeout))
    }
}

async fn direct(
    endpoint: &Endpoint,
    admit: impl Fn(IpAddr) -> bool,
) -> Result<HostStream, HostDialError> {
    let found: Vec<SocketAddr> = match &endpoint.host {
        Host::Ip(ip) => vec![(ip.to_canonical(), endpoint.port).into()],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), endpoint.port))
            .await
            .map_err(HostDialError::Resolve)?
            .collect(),
    };
    let admitted: Vec<_> = found.iter().copied().filter(|found| admit(found.ip())).collect();
    if let (true, Some(refused)) = (admitted.is_empty(), found.first()) {
        return Err(HostDialError::Refused(refused.ip()));
    }
    let (stream, peer) = connect::connect(&admitted).await?;
    Ok(HostStream { stream, address: Some(peer.ip()) })
}

impl From<ConnectError> for HostDialError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused => Self::Closed,
            ConnectError::Timeout => Self::Timeout,
            ConnectError::Unreachable(source) => Self::Unreachable(source),
        }
    }
}

/// The authorities that this host trusts, and `extra` ones. Reads files.
#[must_use]
pub fn host_roots(extra: Vec<CertificateDer<'static>>) -> RootCertStore {
    Roots { system: true, extra }.load()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn everything(_: IpAddr) -> bool {
        true
    }

    #[tokio::test]
    async fn only_admitted_addresses_are_dialled() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let dialer = HostDialer::default();
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1"] {
            let stream = dialer.dial(host, port, everything).await.expect(host);
            assert_eq!(stream.address, Some(IpAddr::from([127, 0, 0, 1])), "{host}");
            let error = dialer.dial(host, port, |_| false).await.expect_err(host);
            assert!(matches!(error, HostDialError::Refused(ip) if ip.is_loopback()), "{error}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_dialled_says_why() {
        let dialer = HostDialer::default();
        let error = dialer.dial("no host", 1, everything).await.expect_err("not a name");
        assert!(matches!(error, HostDialError::Host(_)), "{error}");
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bound");
        let port = socket.local_addr().expect("an address").port();
        let error = dialer.dial("127.0.0.1", port, everything).await.expect_err("closed");
        assert!(matches!(error, HostDialError::Closed), "{error}");
    }

    #[tokio::test]
    async fn names_go_through_the_proxy_and_addresses_do_not() {
        let proxy = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let url = format!("http://u:hunter2@{}", proxy.local_addr().expect("an address"));
        let settings = ProxySettings::from_env(|name| (name == "https_proxy").then(|| url.clone()));
        let dialer = HostDialer::new(settings.expect("settings"));
        let asked = tokio::spawn(async move {
            let (mut stream, _) = proxy.accept().await.expect("a client");
            let mut head = vec![0; 1024];
            let length = stream.read(&mut head).await.expect("a head");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("answered");
            stream.write_all(b"hello").await.expect("sent");
            String::from_utf8_lossy(&head[..length]).into_owned()
        });
        let mut through = dialer.dial("registry.example", 5000, |_| false).await.expect("a tunnel");
        assert_eq!(through.address, None);
        let mut first = [0; 5];
        through.stream.read_exact(&mut first).await.expect("the server's words");
        assert_eq!(&first, b"hello");
        let asked = asked.await.expect("a request");
        assert!(asked.starts_with("CONNECT registry.example:5000 HTTP/1.1\r\n"), "{asked}");

        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let direct = dialer.dial("127.0.0.1", port, everything).await.expect("direct");
        assert!(direct.address.is_some());
        // The proxy listens no more.
        let error = dialer.dial("registry.example", 5000, everything).await.expect_err("gone");
        assert!(matches!(error, HostDialError::Proxy(_)), "{error}");
        assert!(!format!("{error:?} {dialer:?}").contains("hunter2"));
    }
}
