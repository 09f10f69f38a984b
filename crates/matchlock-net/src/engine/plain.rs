//! What is spoken on a flow, in clear or inside TLS, and who carries it.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use matchlock_policy::HostName;

use super::flow::Flow;
use super::outside::{Connected, OutsideError};
use super::redial::Redialer;
use super::sniff::{Speech, sniff};
use super::stream::{BoxedStream, Prefixed};
use super::target::Target;
use super::{Engine, relay as bytes_of, secure};
use crate::dial::Purpose;
use crate::http::{self, Exchange, ProxyHop};

/// The two ends of a flow.
pub(crate) struct Sides {
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

/// Finds out what is spoken, and carries it.
pub(crate) async fn serve(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    mut sides: Sides,
) -> io::Result<()> {
    let sniffed = sniff(&mut sides.guest, &mut sides.upstream).await?;
    if !sniffed.from_upstream.is_empty() {
        sides.upstream = Box::new(Prefixed::new(sniffed.from_upstream, sides.upstream));
    }
    let read = sniffed.from_guest;
    match sniffed.speech {
        Speech::Tls => secure::serve(engine, flow, target, read, sides).await,
        Speech::Http1 => {
            http1(engine, flow, target, sides.prefixed(read), Session::Plain).await
        }
        Speech::Http2 => {
            http2(engine, flow, target, sides.prefixed(read), &Session::Plain).await
        }
        Speech::Other => relay(engine, target, sides.prefixed(read)).await,
    }
}

/// Carries bytes, whatever they are.
pub(crate) async fn relay(engine: &Engine, target: &Target, sides: Sides) -> io::Result<()> {
    let Sides { mut guest, mut upstream, .. } = sides.tunnelled(engine, target).await?;
    bytes_of::relay(&mut guest, &mut upstream).await
}

/// Carries HTTP/1.
pub(crate) async fn http1(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    sides: Sides,
    session: Session,
) -> io::Result<()> {
    let proxied = sides.proxy.is_some();
    let exchange = exchange(flow, target, &session, sides.proxy);
    let redialer = Redialer::new(Arc::clone(engine), session, proxied);
    http::h1::serve(sides.guest, sides.upstream, redialer, exchange).await
}

/// Carries HTTP/2.
pub(crate) async fn http2(
    engine: &Engine,
    flow: &Flow,
    target: &Target,
    sides: Sides,
    session: &Session,
) -> io::Result<()> {
    let Sides { guest, upstream, .. } = sides.tunnelled(engine, target).await?;
    let mut exchange = exchange(flow, target, session, None);
    // The streams share one connection to the outside: no request may want another.
    exchange.connection.bound = true;
    http::h2::serve(guest, upstream, exchange).await
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

fn exchange(
    flow: &Flow,
    target: &Target,
    session: &Session,
    proxy: Option<ProxyHop>,
) -> Exchange {
    let (tls, sni) = match session {
        Session::Plain => (false, None),
        Session::Tls { sni, .. } => (true, sni.clone()),
    };
    let shared = Arc::clone(flow.shared());
    Exchange { shared, connection: target.connection(sni), tls, flow: flow.id(), proxy }
}

impl Sides {
    /// With bytes that were read from the guest already.
    pub(crate) fn prefixed(self, read: BytesMut) -> Self {
        Self { guest: Box::new(Prefixed::new(read, self.guest)), ..self }
    }

    /// With a connection that carries more than plain HTTP.
    async fn tunnelled(self, engine: &Engine, target: &Target) -> io::Result<Self> {
        if self.proxy.is_none() {
            return Ok(self);
        }
        let policy = engine.shared.policy();
        let dialled = engine.outside.dial(&policy, &target.allowed, Purpose::Raw).await;
        let Connected { stream, proxy } = dialled.map_err(io::Error::other)?;
        Ok(Self { guest: self.guest, upstream: stream, proxy })
    }
}
