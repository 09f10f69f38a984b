//! TLS flows: one session with the guest, one with the outside, and what is spoken inside.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use matchlock_intercept::client_hello::ClientHello;
use matchlock_intercept::speech::Detected;
use matchlock_policy::{Carriage, HostName};
use tokio_rustls::TlsAcceptor;

use super::flow::Flow;
use super::hello::{self, Alert, HelloRefused};
use super::outside::{OutsideError, Secured};
use super::plain::{self, Session, StreamPair};
use super::sniff::{Spoken, sniff};
use super::stream::{BoxedStream, Prefixed};
use super::target::Target;
use super::unread::{self, Ground};
use super::{Engine, error_page, tcp};
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
    mut sides: StreamPair,
) -> io::Result<()> {
    let hello = match hello::read(&mut sides.guest, &mut read, hello::COMPLETE).await? {
        Ok(hello) => hello,
        Err(refused) => return refuse(flow, sides.guest, None, &refused).await,
    };
    let named = match hello::judge(&hello, target, &engine.shared.policy()) {
        Ok(named) => named,
        Err(refused) => return refuse(flow, sides.guest, hello.sni.as_ref(), &refused).await,
    };
    if named.allowed.carriage() != Carriage::Http {
        return pass_through(engine, flow, (target, &named), &hello, read, sides).await;
    }
    let sides = sides.prefixed(read);
    let offers = hello::offers(&hello);
    match upstream(engine, target, &named, &offers, sides.upstream, sides.proxy.is_some()).await {
        Ok(secured) => {
            let session = Session::Tls { sni: hello.sni, offers };
            Inner { engine, flow, target: &named, session }.serve(sides.guest, secured).await
        }
        Err(error) => {
            tcp::report(flow, &named, &error);
            send_error_page(engine, &named, &hello, sides.guest, &error).await
        }
    }
}

/// Passes a session on to the server that the guest named, as the rule says.
async fn pass_through(
    engine: &Engine,
    flow: &Flow,
    (dialled, named): (&Target, &Target),
    hello: &ClientHello,
    read: BytesMut,
    sides: StreamPair,
) -> io::Result<()> {
    let by_name = hello.sni.clone().and_then(|sni| Some((named.allowed.passthrough(&sni)?, sni)));
    let ground = match (named.allowed.opaque(), by_name) {
        (Some(unread), _) => Ground::Opaque(unread),
        // The real name could be another one.
        (None, _) if hello.ech => {
            return refuse(flow, sides.guest, hello.sni.as_ref(), &HelloRefused::Encrypted).await;
        }
        (None, Some((unread, name))) => Ground::Passthrough(unread, name),
        (None, None) => {
            return refuse(flow, sides.guest, hello.sni.as_ref(), &HelloRefused::NoName).await;
        }
    };
    let StreamPair { guest, upstream, proxy } = sides;
    match reach(engine, dialled, named, upstream, proxy.is_some()).await {
        Ok(upstream) => {
            let sides = StreamPair { guest, upstream, proxy: None };
            unread::carry(engine, flow, named, &ground, read.freeze(), sides).await
        }
        Err(error) => {
            tcp::report(flow, named, &error);
            hello::send_alert(guest, alert_of(&error)).await;
            Ok(())
        }
    }
}

/// A TLS session with what the guest named.
async fn upstream(
    engine: &Engine,
    dialled: &Target,
    named: &Target,
    offers: &[Vec<u8>],
    stream: BoxedStream,
    proxied: bool,
) -> Result<Secured, OutsideError> {
    let stream = reach(engine, dialled, named, stream, proxied).await?;
    engine.outside.secure(stream, &named.allowed, offers).await
}

/// A connection to what the guest named: the one that there is if it leads there.
async fn reach(
    engine: &Engine,
    dialled: &Target,
    named: &Target,
    stream: BoxedStream,
    proxied: bool,
) -> Result<BoxedStream, OutsideError> {
    let renamed = !dialled.bound && !named.names.is_empty();
    if renamed {
        Ok(plain::named_upstream(engine, named, stream, Purpose::Tls).await?.stream)
    } else if proxied {
        let policy = engine.shared.policy();
        Ok(engine.outside.dial(&policy, &named.allowed, Purpose::Tls).await?.stream)
    } else {
        Ok(stream)
    }
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
        let sides = StreamPair { guest, upstream, proxy: None };
        let Self { engine, flow, target, session } = self;
        match alpn.as_deref() {
            Some(ALPN_H2) => plain::http2(engine, flow, target, sides, &session).await,
            Some(ALPN_HTTP1) => plain::http1(engine, flow, target, sides, session).await,
            _ => Inner { engine, flow, target, session }.serve_unknown(sides).await,
        }
    }

    /// Carries HTTP for which no application protocol was agreed on, or one that is not HTTP. Nothing
    /// else is carried within TLS.
    async fn serve_unknown(self, mut sides: StreamPair) -> io::Result<()> {
        let sniffed = sniff(&mut sides.guest, &mut sides.upstream).await?;
        let upstream = Prefixed::new(sniffed.from_upstream, sides.upstream);
        let sides =
            StreamPair { upstream: Box::new(upstream), ..sides }.prefixed(sniffed.from_guest);
        let Self { engine, flow, target, session } = self;
        match sniffed.spoken {
            Spoken::Guest(Detected::Http1) => {
                plain::http1(engine, flow, target, sides, session).await
            }
            Spoken::Guest(Detected::Http2) => {
                plain::http2(engine, flow, target, sides, &session).await
            }
            Spoken::Guest(Detected::Silent) | Spoken::Ended => Ok(()),
            _ => {
                let suggestion = target.allowed.suggestion(Carriage::TlsPassthrough);
                flow.refuse_unread("what is spoken within TLS is not HTTP", suggestion);
                Ok(())
            }
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

/// Makes the session with the guest.
pub(super) async fn accept(
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
async fn send_error_page(
    engine: &Engine,
    target: &Target,
    hello: &ClientHello,
    guest: BoxedStream,
    error: &OutsideError,
) -> io::Result<()> {
    let Some(alpn) = hello::plain_http(hello) else {
        hello::send_alert(guest, alert_of(error)).await;
        return Ok(());
    };
    let guest = accept(engine, target, guest, alpn).await?;
    error_page::send(guest, error).await
}

fn alert_of(error: &OutsideError) -> Alert {
    if error.denied().is_some() { Alert::AccessDenied } else { Alert::HandshakeFailure }
}
