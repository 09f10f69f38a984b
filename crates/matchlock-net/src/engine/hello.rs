//! The guest's TLS ClientHello, before it is answered.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use matchlock_intercept::client_hello::{ClientHello, HelloReader, Peek};
use matchlock_policy::{Denied, Policy};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::stream::linger;
use super::target::Target;
use crate::tls::{ALPN_H2, ALPN_HTTP1};

/// What the whole of a hello may take, from its first byte.
pub(crate) const COMPLETE: Duration = Duration::from_secs(10);

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
    #[error("the ClientHello does not end")]
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
    within: Duration,
) -> io::Result<Result<ClientHello, HelloRefused>> {
    let mut reader = HelloReader::default();
    let mut known = 0;
    let reading = async {
        loop {
            match reader.read(&buffer[known..]) {
                Peek::Hello(hello) => return Ok(Ok(hello)),
                Peek::Malformed | Peek::NotTls => return Ok(Err(HelloRefused::Malformed)),
                Peek::NeedMore => {}
            }
            known = buffer.len();
            if guest.read_buf(buffer).await? == 0 {
                return Ok(Err(HelloRefused::Malformed));
            }
        }
    };
    match tokio::time::timeout(within, reading).await {
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use matchlock_policy::{HostName, PolicyConfig};

    use super::*;

    fn name(text: &str) -> HostName {
        text.parse().expect("a host name")
    }

    fn hello(sni: Option<&str>, ech: bool) -> ClientHello {
        ClientHello { sni: sni.map(name), ech, ..ClientHello::default() }
    }

    fn policy(allow: &[&str]) -> Policy {
        let parse = |text: &&str| text.parse().expect("a pattern");
        let allowed_hosts = allow.iter().map(parse).collect();
        Policy::new(PolicyConfig { allowed_hosts, ..PolicyConfig::default() })
    }

    /// What comes of a hello on a flow to `names`, or to an address.
    fn outcome(
        allow: &[&str],
        names: &[&str],
        hello: &ClientHello,
    ) -> Result<String, HelloRefused> {
        let policy = policy(allow);
        let address = SocketAddr::from(([93, 184, 215, 14], 443));
        let names = names.iter().map(|text| name(text)).collect();
        let target = Target::decide(&policy, address, names).expect("the flow is allowed");
        judge(hello, &target, &policy).map(|target| target.allowed.host().to_string())
    }

    #[test]
    fn the_server_name_is_held_against_the_flow() {
        use HelloRefused as R;
        let (api, evil, address) = ("api.example.com", "evil.example", "93.184.215.14");
        let open = &["*"][..];
        let sealed = &[api, "www.example.com", address][..];
        let cases = [
            (sealed, &[api][..], Some(api), Ok(api)),
            (sealed, &[api], Some("www.example.com"), Err(R::OtherName)),
            (sealed, &[api], Some(evil), Err(R::OtherName)),
            (sealed, &[api], None, Err(R::NoName)),
            (sealed, &[api, "www.example.com"], Some("www.example.com"), Ok("www.example.com")),
            (sealed, &[], None, Ok(address)),
            (sealed, &[], Some(api), Err(R::UnexpectedName)),
            (open, &[], Some(evil), Ok(evil)),
            (open, &[], None, Ok(address)),
            (open, &[api], Some(evil), Err(R::OtherName)),
        ];
        for (allow, names, sni, expected) in cases {
            let expected = expected.map(str::to_owned);
            assert_eq!(outcome(allow, names, &hello(sni, false)), expected, "{names:?} {sni:?}");
        }
    }

    #[test]
    fn an_encrypted_name_changes_nothing_but_the_alert() {
        let allow = &["api.example.com"];
        let outer = hello(Some("public.example"), true);
        let refused = outcome(allow, allow, &outer).expect_err("the outer name is another");
        assert_eq!((refused.alert(), &refused), (Alert::AccessDenied, &HelloRefused::Encrypted));
        // The decoy that browsers send to everyone, and a name inside that nobody here will read.
        outcome(allow, allow, &hello(Some("api.example.com"), true))
            .expect("the outer name counts");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let odd = ClientHello { invalid_sni: true, ..ClientHello::default() };
        for (allow, names) in [(["*"], &[][..]), (["api.example.com"], &["api.example.com"])] {
            assert_eq!(outcome(&allow, names, &odd), Err(HelloRefused::InvalidName));
        }
    }

    #[test]
    fn http_is_offered_if_the_guest_has_it_and_else_what_it_has() {
        let offering = |alpn: &[&str]| {
            let alpn = alpn.iter().map(|text| text.as_bytes().to_vec()).collect();
            let offers = offers(&ClientHello { alpn, ..ClientHello::default() });
            offers.iter().map(|o| String::from_utf8_lossy(o).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(offering(&["h3", "h2", "http/1.1"]), ["h2", "http/1.1"]);
        assert_eq!(offering(&["postgresql"]), ["postgresql"]);
        assert_eq!(offering(&[]), [""; 0]);
    }

    #[tokio::test]
    async fn a_hello_that_is_none_is_refused() {
        let mut far = &b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"[..];
        let read = read(&mut far, &mut BytesMut::new(), COMPLETE).await.expect("it is readable");
        assert_eq!(read, Err(HelloRefused::Malformed));
    }

    #[tokio::test]
    async fn a_hello_that_never_ends_is_refused() {
        let (_guest, mut near) = tokio::io::duplex(64);
        let mut buffer = BytesMut::from(&b"\x16\x03\x01\x02\x00\x01"[..]);
        let read = read(&mut near, &mut buffer, Duration::ZERO).await.expect("it is readable");
        assert_eq!(read, Err(HelloRefused::Late));
    }
}
