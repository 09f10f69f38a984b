//! How the client reaches the network: through whoever knows the host's proxies and roots.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use rustls::RootCertStore;
use tokio::net::TcpStream;

/// A future behind a pointer: what a method of a trait object returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes connections to the outside.
pub trait Dial: Send + Sync + Debug {
    /// Connects to a name or an address (IPv6 without brackets), over a tunnel where the host has a
    /// proxy. TLS is the client's part. Must end by itself when nobody answers.
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        reach: Reach,
    ) -> BoxFuture<'a, Result<Dialed, DialError>>;

    /// The certificate authorities that this host trusts. Asked for once, before the first TLS
    /// handshake; may read files.
    fn roots(&self) -> RootCertStore {
        RootCertStore::empty()
    }
}

/// Which addresses may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All: the user named the host.
    Any,
    /// Public ones only: a server on the public network named the host. What a proxy of the host's
    /// resolves is the proxy's to check.
    PublicOnly,
}

/// A connection.
#[derive(Debug)]
pub struct Dialed {
    /// To the server, or a tunnel to it.
    pub stream: TcpStream,
    /// Whether the dialled address is not a public one. False for what a proxy resolved.
    pub private: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// [`Reach::PublicOnly`], and the address is another.
    #[error("{0} is not a public address, and a server on the public network led there")]
    NotPublic(IpAddr),
    /// Nobody listens there.
    #[error("the connection was refused")]
    Refused,
    /// No answer.
    #[error("no answer in time")]
    Timeout,
    /// No way there.
    #[error("the host cannot be reached")]
    Unreachable(#[source] io::Error),
    /// The host's proxy does not help.
    #[error("cannot connect through the proxy")]
    Proxy(#[source] Box<dyn std::error::Error + Send + Sync>),
}
