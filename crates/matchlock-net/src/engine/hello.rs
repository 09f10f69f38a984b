//! The guest's TLS ClientHello, before it is answered.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use matchlock_intercept::client_hello::{self, ClientHello, Peek};
use matchlock_policy::{Denied, Policy};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::linger;
use super::target::Target;
use crate::tls::{ALPN_H2, ALPN_HTTP1};

/// For the whole of the hello, from its first byte.
const COMPLETE: Duration = Duration::from_secs(10);

/// An alert that ends a handshake before it began (RFC 8446, section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Alert {
    HandshakeFailure = 40,
    AccessDenied = 49,
    DecodeError = 50,
    UnrecognizedName = 112,
}

/// A flow does not go on for what its ClientHello says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloRefused {
    #[error("the ClientHello is malformed")]
    Malformed,
    #[error("the ClientHello is not complete after {} s", COMPLETE.as_secs())]
    Late,
    #[error("the server name is not a host name")]
    InvalidName,
    #[error("there is no server name")]
    NoName,
    #[error("the server name is not the name that was dialled")]
    OtherName,
    #[error("an address was dialled, and there is a server name")]
    UnexpectedName,
    #[error("the real server name is encrypted (ECH)")]
    Encrypted,
    #[error(transparent)]
    Denied(Denied),
}

impl HelloRefused {
    pub(crate) fn alert(&self) -> Alert {
        match self {
            Self::Malformed | Self::Late => Alert::DecodeError,
            Self::Encrypted | Self::Denied(_) => Alert::AccessDenied,
            Self::InvalidName | Self::NoName | Self::OtherName | Self::UnexpectedName => {
                Alert::UnrecognizedName
            }
        }
    }
}

/// Reads until the ClientHello is complete. What was read stays in `buffer`.
pub(crate) async fn read(
    guest: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<Result<ClientHello, HelloRefused>> {
    let reading = async {
        loop {
            match client_hello::peek(buffer) {
                Peek::Hello(hello) => return Ok(Ok(hello)),
                Peek::Malformed | Peek::NotTls => return Ok(Err(HelloRefused::Malformed)),
                Peek::NeedMore => {}
            }
            if guest.read_buf(buffer).await? == 0 {
                return Ok(Err(HelloRefused::Malformed));
            }
        }
    };
    match tokio::time::timeout(COMPLETE, reading).await {
        Ok(result) => result,
        Err(_) => Ok(Err(HelloRefused::Late)),
    }
}

/// What a flow is to, now that the guest named a server: the name has to be one that the flow is
/// known by, or none if it is to an address.
///
/// An encrypted hello inside is nothing to us: we answer the outer one, which has to hold by itself,
/// and nothing of it is sent on. Browsers send one at random to every server, so it is no reason to
/// refuse a flow whose outer name is right.
pub(crate) fn judge(
    hello: &ClientHello,
    target: &Target,
    policy: &Policy,
) -> Result<Target, HelloRefused> {
    if hello.invalid_sni {
        return Err(HelloRefused::InvalidName);
    }
    match (&hello.sni, target.bound, target.names.is_empty()) {
        (Some(sni), true, false) if !target.names.contains(sni) => Err(match hello.ech {
            true => HelloRefused::Encrypted,
            false => HelloRefused::OtherName,
        }),
        (Some(sni), true, false) | (Some(sni), false, _) => {
            target.narrowed(policy, sni).map_err(HelloRefused::Denied)
        }
        (Some(_), true, true) => Err(HelloRefused::UnexpectedName),
        (None, _, true) => Ok(target.clone()),
        (None, _, false) => Err(HelloRefused::NoName),
    }
}

/// What to offer the server of the guest's application protocols: those of HTTP, which we know how
/// to carry, or else whatever the guest wants.
pub(crate) fn offers(hello: &ClientHello) -> Vec<Vec<u8>> {
    let http = |protocol: &&Vec<u8>| [ALPN_H2, ALPN_HTTP1].contains(&protocol.as_slice());
    let known: Vec<_> = hello.alpn.iter().filter(http).cloned().collect();
    if known.is_empty() { hello.alpn.clone() } else { known }
}

/// Whether the guest can be told something over HTTP/1.1, and with which application protocol.
pub(crate) fn plain_http(hello: &ClientHello) -> Option<Option<&'static [u8]>> {
    if hello.alpn.is_empty() {
        return Some(None);
    }
    hello.alpn.iter().any(|protocol| protocol == ALPN_HTTP1).then_some(Some(ALPN_HTTP1))
}

/// Ends a handshake that has not begun with an alert, which the guest gets to see.
pub(crate) async fn send_alert(mut guest: impl AsyncRead + AsyncWrite + Unpin, alert: Alert) {
    const FATAL: u8 = 2;
    // RFC 8446, section 5.1; the version is frozen at that of TLS 1.2.
    let record = [21, 3, 3, 0, 2, FATAL, alert as u8];
    if guest.write_all(&record).await.is_ok() {
        linger(guest).await;
    }
}
