//! A TCP connection of the guest, from its SYN to its end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use matchlock_policy::Carriage;

use super::Engine;
use super::flow::{Counted, Flow};
use super::outside::{Connected, OutsideError};
use super::plain::{self, StreamPair};
use super::stream::BoxedStream;
use super::target::Target;
use crate::audit::Protocol;
use crate::cause::Cause;
use crate::dial::Purpose;

/// DNS over TLS, which would hide names from us (RFC 7858).
const DNS_OVER_TLS: u16 = 853;

/// A connection that the guest asks for, and that waits for an answer.
pub(crate) trait Pending: Send + 'static {
    /// What the guest dialled.
    fn destination(&self) -> SocketAddr;

    /// Completes the handshake with the guest.
    fn accept(self) -> impl Future<Output = io::Result<BoxedStream>> + Send;

    /// Answers as a closed port does.
    fn refuse(self);
}

/// Decides about a connection, dials, and only then accepts it: what the outside refuses is refused
/// to the guest as well. Then carries it to its end.
pub(crate) async fn run(engine: Arc<Engine>, pending: impl Pending) {
    let destination = pending.destination();
    // While the flow is, its address stands for no other name.
    let _held = engine.names.hold(destination.ip());
    let Some((mut flow, target)) = decide(&engine, destination) else {
        return pending.refuse();
    };
    if flow.open(target.allowed.rule()).is_err() {
        return pending.refuse();
    }
    let ended = tokio::select! {
        ended = carry(&engine, &flow, &target, pending) => ended,
        () = engine.shared.closed() => Ok(()),
        () = withdrawn(&engine, &target) => {
            flow.refuse(None, "the policy no longer allows it");
            Ok(())
        }
    };
    if let Err(error) = ended {
        let cause = Cause::of(&error);
        tracing::debug!(flow = flow.id(), %cause, "flow failed");
    }
}

/// What the flow is to, if policy lets it be; else it is recorded as denied.
fn decide(engine: &Engine, address: SocketAddr) -> Option<(Flow, Target)> {
    let policy = engine.shared.policy();
    let names = engine.names_of(&policy, address.ip());
    // For the audit trail a name that the guest has asked for will do.
    let seen = || engine.dns.seen.names(address.ip()).into_iter().next();
    let name = names.first().cloned().or_else(seen);
    let flow = Flow::new(Arc::clone(&engine.shared), Protocol::Tcp, address, name);
    match Target::decide(&policy, address, names) {
        Err(denied) => flow.deny(&denied),
        Ok(target) if hides_names(engine, &target) => {
            flow.deny_for("DNS over TLS would bypass the sandbox's resolver");
        }
        Ok(target) => return Some((flow, target)),
    }
    None
}

/// An intercepted guest asks us for names; unless a rule names the server, nobody else.
fn hides_names(engine: &Engine, target: &Target) -> bool {
    !target.bound && target.address.port() == DNS_OVER_TLS && engine.shared.policy().intercepts()
}

async fn carry(
    engine: &Arc<Engine>,
    flow: &Flow,
    target: &Target,
    pending: impl Pending,
) -> io::Result<()> {
    let policy = engine.shared.policy();
    let purpose = match target.allowed.carriage() {
        Carriage::Opaque => Purpose::Raw,
        Carriage::TlsPassthrough => Purpose::Tls,
        Carriage::Http => likely_purpose(target.address.port()),
    };
    let upstream = match engine.outside.dial(&policy, &target.allowed, purpose).await {
        Ok(upstream) => upstream,
        Err(error) => {
            report(flow, target, &error);
            pending.refuse();
            return Ok(());
        }
    };
    let guest = Counted::new(pending.accept().await?, Arc::clone(flow.traffic()));
    let Connected { stream, proxy } = upstream;
    let sides = StreamPair { guest: Box::new(guest), upstream: stream, proxy };
    plain::serve(engine, flow, target, sides).await
}

/// Records why the outside is not to be had.
pub(crate) fn report(flow: &Flow, target: &Target, error: &OutsideError) {
    match error.denied() {
        Some(denied) => flow.refuse_denied(None, denied),
        None => flow.fail(target.allowed.host(), Cause::of(error)),
    }
}

/// A proxy of the host's wants to know before we do; a wrong guess is made good later.
fn likely_purpose(port: u16) -> Purpose {
    match port {
        80 => Purpose::Http,
        443 => Purpose::Tls,
        _ => Purpose::Raw,
    }
}

/// Ends when a policy is in force that does not allow the flow.
pub(crate) async fn withdrawn(engine: &Engine, target: &Target) {
    let mut changes = engine.shared.policy_changes();
    // The sender lives as long as the engine, so that waiting cannot fail.
    let _ = changes.wait_for(|policy| !target.stands(policy)).await;
}
