//! What is spoken on a flow in clear, and who carries it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use matchlock_intercept::h1::{RequestDecoder, RequestEvent};
use matchlock_intercept::speech::Detected;
use matchlock_policy::{Carriage, Host, HostName};
use tokio::io::AsyncReadExt;

use super::flow::Flow;
use super::outside::{Connected, OutsideError};
use super::redial::Redialer;
use super::sniff::{Spoken, sniff};
use super::stream::{BoxedStream, Prefixed};
use super::target::Target;
use super::tcp::report;
use super::unread::{self, Ground};
use super::{Engine, error_page, secure};
use crate::dial::Purpose;
use crate::http::{self, Exchange, ProxyHop};

/// For the head of the first request, where it tells where the flow goes.
const HEAD: Duration = Duration::from_secs(60);

/// The two ends of a flow.
pub(crate) struct StreamPair {
    pub(crate) guest: BoxedStream,
    pub(crate) upstream: BoxedStream,
    /// See [`Connected::proxy`](super::outside::Connected::proxy).
    pub(crate) proxy: Option<ProxyHop>,
}

/// What the flow is inside of.
#[derive(Clone, Debug)]
pub(crate) enum Session {
    /// Nothing.
    Plain,
    /// TLS, for the name that the guest told, with what the server was offered.
    Tls { sni: Option<HostName>, offers: Vec<Vec<u8>> },
}

/// Carries a flow as its rule says; where that leaves it open, finds out what is spoken first.
pub(crate) async fn serve(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    mut sides: StreamPair,
) -> io::Result<()> {
    if let Some(unread) = target.allowed.opaque() {
        let sides = sides.tunnelled(engine, target).await?;
        let ground = Ground::Opaque(unread);
        return unread::carry(engine, flow, target, &ground, Bytes::new(), sides).await;
    }
    if target.allowed.carriage() == Carriage::TlsPassthrough {
        let mut read = BytesMut::new();
        // However long the guest waits before it begins.
        sides.guest.read_buf(&mut read).await?;
        return secure::serve(engine, flow, target, read, sides).await;
    }
    let sniffed = sniff(&mut sides.guest, &mut sides.upstream).await?;
    if !sniffed.from_upstream.is_empty() {
        sides.upstream = Box::new(Prefixed::new(sniffed.from_upstream, sides.upstream));
    }
    let read = sniffed.from_guest;
    match sniffed.spoken {
        Spoken::Guest(Detected::Tls) => secure::serve(engine, flow, target, read, sides).await,
        Spoken::Guest(Detected::Http1) if !target.bound => {
            named(engine, flow, target, read, sides).await
        }
        Spoken::Guest(Detected::Http1) => {
            http1(engine, flow, target, sides.prefixed(read), Session::Plain).await
        }
        Spoken::Guest(Detected::Http2) => {
            http2(engine, flow, target, sides.prefixed(read), &Session::Plain).await
        }
        spoken => unread::serve(engine, flow, target, spoken, read, sides).await,
    }
}

/// Carries HTTP/1.
pub(crate) async fn http1(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    sides: StreamPair,
    session: Session,
) -> io::Result<()> {
    let proxied = sides.proxy.is_some();
    let exchange = exchange(flow, target, &session, sides.proxy);
    let redialer = Redialer::new(Arc::clone(engine), target.clone(), session, proxied);
    http::h1::serve(sides.guest, sides.upstream, redialer, exchange).await
}

/// Carries HTTP/2.
pub(crate) async fn http2(
    engine: &Engine,
    flow: &Flow,
    target: &Target,
    sides: StreamPair,
    session: &Session,
) -> io::Result<()> {
    let StreamPair { guest, upstream, .. } = sides.tunnelled(engine, target).await?;
    http::h2::serve(guest, upstream, exchange(flow, target, session, None)).await
}

/// Carries HTTP/1 on a flow to an address that may have any name: the first request tells which.
async fn named(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    mut read: BytesMut,
    mut sides: StreamPair,
) -> io::Result<()> {
    let policy = engine.shared.policy();
    let named = match first_host(&mut sides.guest, &mut read).await? {
        Some(Host::Name(name)) => target.narrowed(&policy, &name).ok(),
        // Refused in words further on, unless it is the address itself.
        Some(Host::Ip(_)) | None => None,
    };
    let sides = sides.prefixed(read);
    let Some(named) = named else {
        return http1(engine, flow, target, sides, Session::Plain).await;
    };
    match named_upstream(engine, &named, sides.upstream, Purpose::Http).await {
        Ok(Connected { stream, proxy }) => {
            let sides = StreamPair { guest: sides.guest, upstream: stream, proxy };
            http1(engine, flow, &named, sides, Session::Plain).await
        }
        Err(error) => {
            report(flow, &named, &error);
            error_page::send(sides.guest, &error).await
        }
    }
}

/// A connection to the name that the guest told: the one that there is, if it goes to an address of
/// the name, or else another. What the guest takes for the address of a name proves nothing.
pub(crate) async fn named_upstream(
    engine: &Engine,
    named: &Target,
    upstream: BoxedStream,
    purpose: Purpose,
) -> Result<Connected, OutsideError> {
    let policy = engine.shared.policy();
    let known = engine.outside.addresses(&policy, &named.allowed).await;
    let dialled = named.address.ip().to_canonical();
    match known {
        Ok(known) if known.addresses().iter().any(|known| known.ip() == dialled) => {
            Ok(Connected { stream: upstream, proxy: None })
        }
        Err(error) if error.denied().is_some() => Err(error),
        // Without an answer a proxy of the host's may still know the name.
        Ok(_) | Err(_) => engine.outside.dial(&policy, &named.allowed, purpose).await,
    }
}

/// The host of the first request, if there is a request to be understood.
async fn first_host(guest: &mut BoxedStream, read: &mut BytesMut) -> io::Result<Option<Host>> {
    let mut decoder = RequestDecoder::new();
    // The decoder takes its bytes away, each once.
    let mut left = read.clone();
    let reading = async {
        loop {
            // Ends in an error at the latest when the head is longer than heads may be.
            match decoder.decode(&mut left) {
                Ok(None) => {}
                Ok(Some(RequestEvent::Head(head, _))) => {
                    return Ok(head.authority().ok().map(|authority| authority.host().clone()));
                }
                Ok(Some(_)) | Err(_) => return Ok(None),
            }
            let known = read.len();
            if guest.read_buf(read).await? == 0 {
                return Ok(None);
            }
            left.extend_from_slice(&read[known..]);
        }
    };
    tokio::time::timeout(HEAD, reading).await.unwrap_or(Ok(None))
}

fn exchange(flow: &Flow, target: &Target, session: &Session, proxy: Option<ProxyHop>) -> Exchange {
    let (tls, sni) = match session {
        Session::Plain => (false, None),
        Session::Tls { sni, .. } => (true, sni.clone()),
    };
    let shared = Arc::clone(flow.shared());
    Exchange { shared, connection: target.connection(sni), tls, flow: flow.id(), proxy }
}

impl StreamPair {
    /// With bytes that were read from the guest already.
    pub(crate) fn prefixed(self, read: BytesMut) -> Self {
        Self { guest: Box::new(Prefixed::new(read, self.guest)), ..self }
    }

    /// With a connection that carries more than plain HTTP.
    pub(crate) async fn tunnelled(self, engine: &Engine, target: &Target) -> io::Result<Self> {
        if self.proxy.is_none() {
            return Ok(self);
        }
        let policy = engine.shared.policy();
        let dialled = engine.outside.dial(&policy, &target.allowed, Purpose::Raw).await;
        let Connected { stream, proxy } = dialled.map_err(io::Error::other)?;
        Ok(Self { guest: self.guest, upstream: stream, proxy })
    }
}
