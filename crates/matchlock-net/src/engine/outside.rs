//! Connections to the outside, as a flow needs them.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use matchlock_policy::{Allowed, Denied, Endpoint, Host};

use super::stream::BoxedStream;
use crate::dial::{DialError, Dialer, Purpose};
use crate::http::ProxyHop;
use crate::tls::{UpstreamTls, UpstreamTlsError};

/// The way out of a sandbox: it takes an [`Allowed`] and nothing else.
#[derive(Debug)]
pub(crate) struct Outside {
    dialer: Dialer,
    tls: Arc<UpstreamTls>,
}

/// A connection to what was allowed.
pub(crate) struct Connected {
    pub(crate) stream: BoxedStream,
    /// The address, unless a proxy is between.
    pub(crate) peer: Option<SocketAddr>,
    /// A proxy at the other end that wants whole URIs: only for plain HTTP.
    pub(crate) proxy: Option<ProxyHop>,
}

/// A TLS session with what was allowed, and the application protocol that the server chose.
pub(crate) struct Secured {
    pub(crate) stream: BoxedStream,
    pub(crate) alpn: Option<Vec<u8>>,
}

/// The outside is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    #[error(transparent)]
    Dial(DialError),
    #[error(transparent)]
    Tls(UpstreamTlsError),
}
