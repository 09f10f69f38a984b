//! Connections to the outside, as a flow needs them.

use std::net::IpAddr;
use std::sync::Arc;

use matchlock_intercept::headers::HeaderValue;
use matchlock_policy::{Allowed, Denied, Dialable, Host, Policy};

use super::stream::BoxedStream;
use crate::dial::{DialError, Dialer, ProxyForm, Purpose};
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
    /// A proxy at the other end that wants whole URIs: only for plain HTTP.
    pub(crate) proxy: Option<ProxyHop>,
}

/// A TLS session with what was allowed.
pub(crate) struct Secured {
    pub(crate) stream: BoxedStream,
    /// The application protocol that the server chose.
    pub(crate) alpn: Option<Vec<u8>>,
}

/// The outside is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] UpstreamTlsError),
}

impl Outside {
    pub(crate) fn new(dialer: Dialer, tls: Arc<UpstreamTls>) -> Self {
        Self { dialer, tls }
    }

    /// Reads the host's certificates. Blocks.
    pub(crate) fn warm_up(&self) {
        self.tls.warm_up();
    }

    /// Connects to what was allowed, at an address that was checked.
    pub(crate) async fn dial(
        &self,
        policy: &Policy,
        allowed: &Allowed,
        purpose: Purpose,
    ) -> Result<Connected, OutsideError> {
        let upstream = self.dialer.dial(allowed, &added(policy, allowed), purpose).await?;
        tracing::debug!(to = %allowed.endpoint(), peer = %upstream.peer, "connected");
        let proxy = upstream.via_proxy.map(hop);
        Ok(Connected { stream: Box::new(upstream.stream), proxy })
    }

    /// The checked addresses of what was allowed.
    pub(crate) async fn addresses(
        &self,
        policy: &Policy,
        allowed: &Allowed,
    ) -> Result<Dialable, OutsideError> {
        Ok(self.dialer.addresses(allowed, &added(policy, allowed)).await?)
    }

    /// Makes a TLS session with the allowed host over a connection to it.
    pub(crate) async fn secure(
        &self,
        stream: BoxedStream,
        allowed: &Allowed,
        offers: &[Vec<u8>],
    ) -> Result<Secured, OutsideError> {
        let session = self.tls.connect(stream, allowed.host(), offers).await?;
        let alpn = session.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok(Secured { stream: Box::new(session), alpn })
    }
}

impl OutsideError {
    /// The refusal, if it is one of policy rather than a failure.
    pub(crate) fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Dial(DialError::Denied(denied)) => Some(denied),
            _ => None,
        }
    }
}

fn added(policy: &Policy, allowed: &Allowed) -> Vec<IpAddr> {
    match allowed.host() {
        Host::Name(name) => policy.added_addresses(name),
        Host::Ip(_) => Vec::new(),
    }
}

fn hop(form: ProxyForm) -> ProxyHop {
    let value = form
        .authorization
        .and_then(|authorization| HeaderValue::try_from(authorization.value()).ok());
    ProxyHop { authorization: value }
}
