//! TLS flows: one session with the guest, one with the outside, and what is spoken inside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use matchlock_intercept::client_hello::ClientHello;
use matchlock_policy::HostName;
use tokio_rustls::TlsAcceptor;

use super::flow::Flow;
use super::hello::{self, Alert, HelloRefused};
use super::outside::{OutsideError, Secured};
use super::plain::{self, Session, Sides};
use super::sniff::{Speech, sniff};
use super::stream::{BoxedStream, Prefixed};
use super::target::Target;
use super::{Engine, apology, tcp};
use crate::cause::Cause;
use crate::dial::Purpose;
use crate::refusals::Refusal;
use crate::tls::{ALPN_H2, ALPN_HTTP1};

/// For the guest's part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Serves a flow of which a TLS record was read from the guest.
pub(crate) async fn serve(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    mut read: BytesMut,
    mut sides: Sides,
) -> io::Result<()> {
    let hello = match hello::read(&mut sides.guest, &mut read, hello::COMPLETE).await? {
        Ok(hello) => hello,
        Err(refused) => return refuse(flow, sides.guest, None, &refused).await,
    };
    let named = match hello::judge(&hello, target, &engine.shared.policy()) {
        Ok(named) => named,
        Err(refused) => return refuse(flow, sides.guest, hello.sni.as_ref(), &refused).await,
    };
    let sides = sides.prefixed(read);
    let offers = hello::offers(&hello);
    match upstream(engine, target, &named, &offers, sides.upstream, sides.proxy.is_some()).await {
        Ok(secured) => {
            let session = Session::Tls { sni: hello.sni, offers };
            Inner { engine, flow, target: &named, session }.serve(sides.guest, secured).await
        }
        Err(error) => {
            tcp::report(flow, &named, &error);
            apologise(engine, &named, &hello, sides.guest, &error).await
        }
    }
}

/// A TLS session with what the guest named, over the connection that there is if it leads there.
async fn upstream(
    engine: &Engine,
    dialled: &Target,
    named: &Target,
    offers: &[Vec<u8>],
    stream: BoxedStream,
    proxied: bool,
) -> Result<Secured, OutsideError> {
    let renamed = !dialled.bound && !named.names.is_empty();
    let stream = if renamed {
        plain::named_upstream(engine, named, stream, Purpose::Tls).await?.stream
    } else if proxied {
        let policy = engine.shared.policy();
        engine.outside.dial(&policy, &named.allowed, Purpose::Tls).await?.stream
    } else {
        stream
    };
    engine.outside.secure(stream, &named.allowed, offers).await
}

/// What is inside of a TLS flow.
struct Inner<'a> {
    engine: &'a Arc<Engine>,
    flow: &'a Flow,
    target: &'a Target,
    session: Session,
}

impl Inner<'_> {
    /// Makes the session with the guest, as the server wants to speak inside, and carries that.
    async fn serve(self, guest: BoxedStream, secured: Secured) -> io::Result<()> {
        let Secured { stream: upstream, alpn } = secured;
        let guest = match accept(self.engine, self.target, guest, alpn.as_deref()).await {
            Ok(guest) => guest,
            Err(error) => {
                self.distrusted(&error);
                return Err(error);
            }
        };
        let sides = Sides { guest, upstream, proxy: None };
        let Self { engine, flow, target, session } = self;
        match alpn.as_deref() {
            Some(ALPN_H2) => plain::http2(engine, flow, target, sides, &session).await,
            Some(ALPN_HTTP1) => plain::http1(engine, flow, target, sides, session).await,
            _ => Inner { engine, flow, target, session }.serve_unknown(sides).await,
        }
    }

    /// Carries what no application protocol was agreed on for, or one that is not HTTP.
    async fn serve_unknown(self, mut sides: Sides) -> io::Result<()> {
        let sniffed = sniff(&mut sides.guest, &mut sides.upstream).await?;
        let upstream = Prefixed::new(sniffed.from_upstream, sides.upstream);
        let sides = Sides { upstream: Box::new(upstream), ..sides }.prefixed(sniffed.from_guest);
        let Self { engine, flow, target, session } = self;
        match sniffed.speech {
            Speech::Http1 => plain::http1(engine, flow, target, sides, session).await,
            Speech::Http2 => plain::http2(engine, flow, target, sides, &session).await,
            Speech::Tls | Speech::Other => plain::relay(engine, target, sides).await,
        }
    }

    /// A program in the guest that does not know our authority is worth a hint to the user.
    fn distrusted(&self, error: &io::Error) {
        let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(_)) = alert {
            let reason = Cause::after("a program in the guest broke off TLS", error);
            let host = self.target.allowed.host().to_string();
            let port = Some(self.target.address.port());
            self.flow.shared().refused(Refusal::of(host, port, reason));
        }
    }
}

async fn accept(
    engine: &Engine,
    target: &Target,
    guest: BoxedStream,
    alpn: Option<&[u8]>,
) -> io::Result<BoxedStream> {
    let config = engine.authority.server_config(&target.allowed, alpn).map_err(io::Error::other)?;
    let accepting = TlsAcceptor::from(config).accept(guest);
    match tokio::time::timeout(HANDSHAKE, accepting).await {
        Ok(session) => Ok(Box::new(session?)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn refuse(
    flow: &Flow,
    guest: BoxedStream,
    sni: Option<&HostName>,
    refused: &HelloRefused,
) -> io::Result<()> {
    match refused {
        HelloRefused::Denied(denied) => flow.refuse_denied(sni, denied),
        _ => flow.refuse(sni, Cause::of(refused)),
    }
    hello::send_alert(guest, refused.alert()).await;
    Ok(())
}

/// Tells the guest why there is no server, in HTTP if it may understand that.
async fn apologise(
    engine: &Engine,
    target: &Target,
    hello: &ClientHello,
    guest: BoxedStream,
    error: &OutsideError,
) -> io::Result<()> {
    let Some(alpn) = hello::plain_http(hello) else {
        let alert =
            if error.denied().is_some() { Alert::AccessDenied } else { Alert::HandshakeFailure };
        hello::send_alert(guest, alert).await;
        return Ok(());
    };
    let guest = accept(engine, target, guest, alpn).await?;
    apology::say(guest, error).await
}
