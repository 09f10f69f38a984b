//! Datagrams of the guest: DNS at the gateway, and, with the public network open, a relay.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use matchlock_policy::Dialable;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::Engine;
use super::flow::Flow;
use super::target::Target;
use crate::audit::Protocol;
use crate::cause::Cause;

/// Pairs of endpoints at a time; each has a socket of the host.
pub(super) const SESSIONS: usize = 256;
/// Datagrams that wait for a socket; more are dropped, as datagrams may be.
const WAITING: usize = 64;
/// A pair that is silent for so long is forgotten (RFC 4787, REQ-5, asks for minutes; programs
/// that are silent longer keep themselves alive).
const IDLE: Duration = Duration::from_secs(60);
/// Destinations that are remembered as refused. A program that tries again is not news.
const REFUSED: usize = 256;
/// The largest payload of a datagram.
const LARGEST: usize = 65_507;

/// QUIC (RFC 9114) and DNS over QUIC (RFC 9250), and what else would hide from interception.
const HIDING: [u16; 2] = [443, 853];

/// Sends datagrams back to the guest.
pub(crate) trait Replies: Send + Sync + 'static {
    /// A datagram that does not fit now is lost.
    fn send(&self, payload: &[u8]);
}

/// The pairs of endpoints that datagrams go between.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    table: Mutex<HashMap<Pair, mpsc::Sender<Bytes>>>,
    refused: Mutex<HashSet<SocketAddr>>,
}

/// Guest and outside.
type Pair = (SocketAddr, SocketAddr);

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is on its way, or lost on purpose.
    Taken,
    /// Nobody is there, as far as the guest is concerned.
    Refused,
}

/// Relays a datagram from `pair.0` to `pair.1`.
pub(crate) fn relay(
    engine: &Arc<Engine>,
    pair: Pair,
    payload: Bytes,
    replies: impl Replies,
) -> Verdict {
    if engine.shared.is_closed() {
        return Verdict::Refused;
    }
    let mut table = engine.udp.table.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = table.get(&pair).filter(|session| !session.is_closed()) {
        // A full queue loses the datagram.
        let _ = session.try_send(payload);
        return Verdict::Taken;
    }
    if table.len() >= SESSIONS {
        drop(table);
        tracing::debug!("the guest has too many UDP sessions");
        return Verdict::Taken;
    }
    let (sender, receiver) = mpsc::channel(WAITING);
    let _ = sender.try_send(payload);
    table.insert(pair, sender);
    // Deciding records, which needs no lock of ours.
    drop(table);
    let Some((flow, target, dialable)) = open(engine, pair.1) else {
        forget(engine, pair);
        return Verdict::Refused;
    };
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let _gone = Gone { engine: &engine, pair };
        let session = Session { flow: &flow, replies: &replies, receiver };
        tokio::select! {
            ended = session.run(&dialable) => if let Err(error) = ended {
                let cause = Cause::of(&error);
                tracing::debug!(flow = flow.id(), %cause, "UDP session failed");
            },
            () = engine.shared.closed() => {}
            () = super::tcp::withdrawn(&engine, &target) => {
                flow.refuse(None, "the policy no longer allows it");
            }
        }
    });
    Verdict::Taken
}

/// Decides about a pair, and records it.
fn open(engine: &Engine, address: SocketAddr) -> Option<(Flow, Target, Dialable)> {
    let policy = engine.shared.policy();
    let flow = || Flow::new(Arc::clone(&engine.shared), Protocol::Udp, address, None);
    let deny = |record: &dyn Fn(Flow)| {
        if engine.udp.is_news(address) {
            record(flow());
        }
        None
    };
    if policy.is_sealed() {
        return deny(&|flow| flow.deny_for("only TCP leaves a sealed sandbox"));
    }
    if policy.intercepts() && HIDING.contains(&address.port()) {
        return deny(&|flow| flow.deny_for("UDP to this port cannot be looked into"));
    }
    // By address only: with the public network open, names lead to real addresses.
    let target = match Target::decide(&policy, address, Vec::new()) {
        Ok(target) => target,
        Err(denied) => return deny(&|flow| flow.deny(&denied)),
    };
    let dialable = target.allowed.fixed()?;
    let mut flow = flow();
    flow.open(target.allowed.rule()).ok()?;
    Some((flow, target, dialable))
}

impl Sessions {
    fn is_news(&self, address: SocketAddr) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REFUSED {
            refused.clear();
        }
        refused.insert(address)
    }
}

fn forget(engine: &Engine, pair: Pair) {
    engine.udp.table.lock().unwrap_or_else(PoisonError::into_inner).remove(&pair);
}

/// Frees the place of a pair, however its task ends.
struct Gone<'a> {
    engine: &'a Engine,
    pair: Pair,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        forget(self.engine, self.pair);
    }
}

struct Session<'a, R> {
    flow: &'a Flow,
    replies: &'a R,
    receiver: mpsc::Receiver<Bytes>,
}

impl<R: Replies> Session<'_, R> {
    async fn run(mut self, dialable: &Dialable) -> io::Result<()> {
        let &[address, ..] = dialable.addresses() else { return Ok(()) };
        let local: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(local).await?;
        // Connected, so that only this address is heard.
        socket.connect(address).await?;
        let traffic = self.flow.traffic();
        let mut buffer = vec![0; LARGEST];
        let mut idle = Instant::now() + IDLE;
        loop {
            let step = async {
                tokio::select! {
                    payload = self.receiver.recv() => Ok(payload.map(Step::Up)),
                    received = socket.recv(&mut buffer) => received.map(|n| Some(Step::Down(n))),
                }
            };
            match timeout_at(idle, step).await {
                Err(_) => return Ok(()),
                Ok(step) => match step? {
                    None => return Ok(()),
                    Some(Step::Up(payload)) => {
                        socket.send(&payload).await?;
                        traffic.add_up(payload.len());
                    }
                    Some(Step::Down(length)) => {
                        self.replies.send(&buffer[..length]);
                        traffic.add_down(length);
                    }
                },
            }
            idle = Instant::now() + IDLE;
        }
    }
}

enum Step {
    Up(Bytes),
    Down(usize),
}
