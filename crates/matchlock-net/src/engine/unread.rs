//! Flows whose bytes pass unread, and why they may.

use std::io;

use bytes::{Bytes, BytesMut};
use matchlock_intercept::retry::Retry;
use matchlock_intercept::speech::{Cut, Detected, Opening, Watch};
use matchlock_policy::{Carriage, Endpoint, HostName, Policy, Unread};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Engine;
use super::flow::Flow;
use super::hello::{self, HelloRefused};
use super::plain::StreamPair;
use super::relay::{Tap, relay};
use super::sniff::Spoken;
use super::stream::{Prefixed, linger};
use super::target::Target;
use crate::cause::Cause;

/// What of the guest is read while the server has not confirmed what is spoken.
const HELD: usize = 64 * 1024;

/// Whether the first bytes of a server are what was asked for; none when more are needed.
type Answered<'a> = dyn Fn(&[u8]) -> Option<bool> + Sync + 'a;

/// Why bytes may pass unread: policy says so, or they are positively of another protocol.
#[derive(Debug)]
pub(crate) enum Ground {
    /// The rule says that they may be anything.
    Opaque(Unread),
    /// The rule says that TLS passes through to this server name, which the guest's hello has.
    Passthrough(Unread, HostName),
    /// Both sides speak a protocol of the closed list.
    Known(Opening),
    /// The server spoke first, and neither HTTP nor TLS.
    ServerFirst,
    /// The guest ended without a word.
    Silent,
    /// Nobody knows, in the open network.
    Unrecognised(Unread),
}

impl Ground {
    /// For the audit trail.
    fn spoken(&self) -> String {
        match self {
            Self::Opaque(_) => "opaque".to_owned(),
            Self::Passthrough(..) => "tls".to_owned(),
            Self::Known(opening) => opening.protocol().to_string(),
            Self::ServerFirst => "server first".to_owned(),
            Self::Silent => "nothing".to_owned(),
            Self::Unrecognised(_) => "unknown".to_owned(),
        }
    }
}

/// Carries what is neither HTTP nor TLS, if it may pass. Else it is refused, with what would allow it.
pub(crate) async fn serve(
    engine: &Engine,
    flow: &Flow,
    target: &Target,
    spoken: Spoken,
    read: BytesMut,
    sides: StreamPair,
) -> io::Result<()> {
    let ground = match spoken {
        Spoken::ServerFirst => Ground::ServerFirst,
        Spoken::Ended => {
            linger(sides.guest).await;
            return Ok(());
        }
        Spoken::Guest(Detected::Known(opening)) if is_for_another(&opening, &read, target) => {
            return refuse(flow, target, "the request of Git is for another host");
        }
        Spoken::Guest(Detected::Known(opening)) => Ground::Known(opening),
        Spoken::Guest(Detected::Silent) => Ground::Silent,
        Spoken::Guest(_) => match target.allowed.unrecognised() {
            Some(unread) => Ground::Unrecognised(unread),
            None => {
                let reason = "what is spoken is neither HTTP nor TLS nor a protocol that is known";
                return refuse(flow, target, reason);
            }
        },
    };
    let sides = sides.tunnelled(engine, target).await?;
    carry(engine, flow, target, &ground, read.freeze(), sides).await
}

/// Carries bytes of both sides. Some were `read` from the guest already.
pub(crate) async fn carry(
    engine: &Engine,
    flow: &Flow,
    target: &Target,
    ground: &Ground,
    mut read: Bytes,
    mut sides: StreamPair,
) -> io::Result<()> {
    // Where nothing is looked into, all flows are like this.
    if engine.shared.policy().intercepts() && flow.relayed(ground.spoken()).is_err() {
        return Ok(());
    }
    let answered: Option<&Answered<'_>> = match ground {
        Ground::Known(opening) => Some(&|answer| opening.is_answered(answer)),
        Ground::Passthrough(..) => Some(&is_tls_record),
        _ => None,
    };
    let mut named = None;
    if let Ground::Passthrough(_, name) = ground {
        let Ok(retry) = Retry::after(&read) else {
            flow.refuse(Some(name), Cause::of(&HelloRefused::Malformed));
            return Ok(());
        };
        named = Some(Named { flow, name, retry });
    }
    if let Some(answered) = answered {
        let first = match ground {
            Ground::Known(opening) => read.split_to(opening.length()),
            _ => std::mem::take(&mut read),
        };
        sides.upstream.write_all(&first).await?;
        sides.upstream.flush().await?;
        let mut held = BytesMut::from(&read[..]);
        let Some(answer) = confirm(&mut sides, &mut held, answered).await? else {
            return refuse(flow, target, "the server does not speak what the guest speaks");
        };
        sides.upstream = Box::new(Prefixed::new(answer, sides.upstream));
        read = held.freeze();
    }
    let StreamPair { mut guest, mut upstream, .. } = sides.prefixed(read.into());
    match (ground, named) {
        (Ground::Opaque(_), _) => relay(&mut guest, &mut upstream, &mut ()).await,
        (_, Some(mut named)) => relay(&mut guest, &mut upstream, &mut named).await,
        _ => {
            let policy = engine.shared.policy();
            let mut watched = Watched { flow, target, policy, watch: Watch::default() };
            relay(&mut guest, &mut upstream, &mut watched).await
        }
    }
}

/// The first bytes of the server, once they tell that it speaks what the guest does; none if it
/// speaks something else. What the guest sends meanwhile is kept.
async fn confirm(
    sides: &mut StreamPair,
    held: &mut BytesMut,
    answered: &Answered<'_>,
) -> io::Result<Option<BytesMut>> {
    let mut answer = BytesMut::new();
    let mut guest_open = true;
    loop {
        tokio::select! {
            read = sides.upstream.read_buf(&mut answer) => {
                // A server that only ends the connection has said nothing wrong.
                if read? == 0 {
                    return Ok(answer.is_empty().then_some(answer));
                }
                match answered(&answer) {
                    Some(true) => return Ok(Some(answer)),
                    Some(false) => return Ok(None),
                    None => {}
                }
            }
            read = sides.guest.read_buf(held), if guest_open && held.len() < HELD => {
                guest_open = read? != 0;
            }
        }
    }
}

fn is_tls_record(bytes: &[u8]) -> Option<bool> {
    match *bytes {
        [] | [0x14..=0x16] => None,
        [kind, major, ..] => Some(matches!(kind, 0x14..=0x16) && major == 3),
        [_] => Some(false),
    }
}

/// Whether a first message says that it is for a host that the flow is not to.
fn is_for_another(opening: &Opening, read: &[u8], target: &Target) -> bool {
    let Some(name) = opening.server_name(read) else { return false };
    let text = std::str::from_utf8(name).unwrap_or_default();
    let own = |endpoint: Endpoint| {
        let own_name = endpoint.host.name().is_some_and(|name| target.names.contains(name));
        own_name || (target.names.is_empty() && endpoint.host == *target.allowed.host())
    };
    !Endpoint::parse(text, target.address.port()).is_ok_and(own)
}

fn refuse(flow: &Flow, target: &Target, reason: &'static str) -> io::Result<()> {
    flow.refuse_unread(reason, target.allowed.suggestion(Carriage::Opaque));
    Ok(())
}

/// What is watched on a flow that no rule lets be anything.
struct Watched<'a> {
    flow: &'a Flow,
    target: &'a Target,
    policy: Policy,
    watch: Watch,
}

impl Tap for Watched<'_> {
    fn up(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(hello) = self.watch.client(bytes) else { return Ok(()) };
        // Many clients name no server here, and what answers has spoken another protocol before.
        let refused = match hello::judge(&hello, self.target, &self.policy) {
            _ if hello.ech => HelloRefused::Encrypted,
            Ok(_) | Err(HelloRefused::NoName) => return Ok(()),
            Err(refused) => refused,
        };
        self.flow.refuse(hello.sni.as_ref(), Cause::of(&refused));
        Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
    }

    fn down(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.watch.server(bytes).map_err(|cut: Cut| {
            let suggestion = self.target.allowed.suggestion(Carriage::Opaque);
            self.flow.refuse_unread(Cause::of(&cut), suggestion);
            io::Error::new(io::ErrorKind::PermissionDenied, cut)
        })
    }
}

/// A TLS session that passes through, of which the first hello was judged. A second one has to name
/// the same server (RFC 8446, section 4.1.2).
struct Named<'a> {
    flow: &'a Flow,
    name: &'a HostName,
    retry: Retry,
}

impl Tap for Named<'_> {
    fn up(&mut self, bytes: &[u8]) -> io::Result<()> {
        let refused = match self.retry.client(bytes) {
            Ok(None) => return Ok(()),
            Ok(Some(hello)) if hello.ech => HelloRefused::Encrypted,
            Ok(Some(hello)) if hello.sni.as_ref() == Some(self.name) => return Ok(()),
            Ok(Some(_)) => HelloRefused::OtherName,
            Err(_) => HelloRefused::Malformed,
        };
        self.flow.refuse(Some(self.name), Cause::of(&refused));
        Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
    }

    fn down(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.retry.server(bytes).map_err(|unexpected| {
            self.flow.refuse(Some(self.name), Cause::of(&unexpected));
            io::Error::new(io::ErrorKind::InvalidData, unexpected)
        })
    }
}
