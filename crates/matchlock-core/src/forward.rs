//! Published ports: TCP listeners on the host whose connections end at the guest's loopback.
//!
//! The host dials the guest, as always: a connection becomes a vsock stream on which the agent is
//! asked for a port, and then carries plain bytes. No network device is involved.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use matchlock_proto::{AgentFrame, HostFrame, Request, WireMessage};
use matchlock_wire::io::{ReadError, read_one};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::audit::{ForwardSpan, Trail};
use crate::error::CoreError;
use crate::exec::ExecError;
use crate::guest::Line;

/// Connections at a time over all published ports of a sandbox. One more for each listener waits
/// accepted, others in its backlog.
const MAX_CONNECTIONS: usize = 256;

/// How long the guest may take to answer a connection: its program may be busy, its agent is not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that a listener may have waiting.
const BACKLOG: i32 = 128;

/// Pause after an `accept` that failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) const BUFFER: usize = 64 * 1024;

/// A port of the host and the port of the guest that it stands for: `REMOTE` or `LOCAL:REMOTE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortForward {
    /// On the host.
    pub local: NonZeroU16,
    /// In the guest.
    pub remote: NonZeroU16,
}

/// Not a port forward.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not [LOCAL:]REMOTE with ports from 1 to 65535")]
pub struct InvalidPortForward(String);

/// A listener and what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// On the host.
    pub address: SocketAddr,
    /// In the guest.
    pub remote: NonZeroU16,
}

/// Bound listeners that nobody serves yet.
#[derive(Debug)]
pub struct Listeners(Vec<(std::net::TcpListener, Binding)>);

/// Served listeners. Dropping it closes them, and soon every connection through them.
#[derive(Debug)]
pub(crate) struct Published {
    tasks: Vec<JoinHandle<()>>,
    /// Nothing is sent: its end is the message.
    stop: watch::Sender<()>,
}

impl FromStr for PortForward {
    type Err = InvalidPortForward;

    fn from_str(text: &str) -> Result<Self, InvalidPortForward> {
        let port = |text: &str| {
            // `parse` would take a sign.
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<NonZeroU16>().ok()).flatten()
        };
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        match (port(local), port(remote)) {
            (Some(local), Some(remote)) => Ok(Self { local, remote }),
            _ => Err(InvalidPortForward(text.to_owned())),
        }
    }
}

/// An address of this machine to listen on: an IP address, `[IPv6]` or `localhost`.
#[must_use]
pub fn bind_address(text: &str) -> Option<IpAddr> {
    if text == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok()
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> sandbox:{}", self.address, self.remote)
    }
}

impl Listeners {
    /// Listens for every forward on every address, or on none of them.
    ///
    /// # Errors
    /// [`CoreError::Listen`] names the first address that cannot be had.
    pub fn bind(forwards: &[PortForward], addresses: &[IpAddr]) -> Result<Self, CoreError> {
        let mut listeners = Vec::new();
        for forward in forwards {
            for &ip in addresses {
                let address = SocketAddr::new(ip, forward.local.get());
                let listener = listen(address)
                    .map_err(|errno| CoreError::Listen { address, source: errno.into() })?;
                listeners.push((listener, Binding { address, remote: forward.remote }));
            }
        }
        Ok(Self(listeners))
    }

    /// What was bound, in order.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> {
        self.0.iter().map(|(_, binding)| *binding)
    }
}

impl Published {
    /// Serves the listeners; `failed` is told of each connection that could not be made.
    pub(crate) fn serve(
        listeners: Listeners,
        line: &Line,
        trail: &Arc<Trail>,
        count: &Arc<AtomicU64>,
        failed: impl Fn(&ExecError) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (line, trail, count) = (line.clone(), Arc::clone(trail), Arc::clone(count));
        Self::through(listeners, &ToGuest { line, trail, count, failed: Arc::new(failed) })
    }

    /// The same, by whatever carries connections.
    pub(crate) fn through(listeners: Listeners, carrier: &impl Carry) -> io::Result<Self> {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stop, stopped) = watch::channel(());
        let serve = |(listener, binding): (std::net::TcpListener, Binding)| {
            let permits = Arc::clone(&permits);
            let port = Port { binding, carrier: carrier.clone(), permits };
            let listener = TcpListener::from_std(listener)?;
            Ok(tokio::spawn(port.accept(listener, stopped.clone())))
        };
        let tasks = listeners.0.into_iter().map(serve).collect::<io::Result<_>>()?;
        Ok(Self { tasks, stop })
    }

    /// Closes everything and waits until each connection's end is recorded.
    pub(crate) async fn close(self) {
        let Self { tasks, stop } = self;
        drop(stop);
        for task in tasks {
            // It ends by itself; a panic in it was reported by the panic itself.
            let _ = task.await;
        }
    }
}

/// Carries connections to the guest.
pub(crate) trait Carry: Clone + Send + Sync + 'static {
    /// Carries one to its end.
    fn carry(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        binding: Binding,
    ) -> impl Future<Output = ()> + Send;

    /// Is told of one that could not be accepted.
    fn not_accepted(&self, error: io::Error);
}

/// One listener at work.
struct Port<C> {
    binding: Binding,
    carrier: C,
    permits: Arc<Semaphore>,
}

impl<C: Carry> Port<C> {
    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.carrier.not_accepted(error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Only a connection takes room, never a listener that has none.
            let permit = tokio::select! {
                Ok(permit) = Arc::clone(&self.permits).acquire_owned() => permit,
                _ = stopped.changed() => break,
            };
            let (carrier, binding) = (self.carrier.clone(), self.binding);
            connections.spawn(async move {
                carrier.carry(stream, peer, binding).await;
                drop(permit);
            });
        }
        drop(listener);
        connections.shutdown().await;
    }
}

/// Dials the guest, and records it.
#[derive(Clone)]
struct ToGuest {
    line: Line,
    trail: Arc<Trail>,
    count: Arc<AtomicU64>,
    failed: Arc<dyn Fn(&ExecError) + Send + Sync>,
}

impl Carry for ToGuest {
    fn not_accepted(&self, error: io::Error) {
        (self.failed)(&ExecError::Lost(Some(error)));
    }

    async fn carry(self, mut stream: TcpStream, peer: SocketAddr, binding: Binding) {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let Binding { address, remote } = binding;
        let begun = ForwardSpan::begin(&self.trail, number, Some((address, peer)), remote.get());
        let mut span = match begun {
            Ok(span) => span,
            Err(lost) => return (self.failed)(&ExecError::Audit(lost)),
        };
        match connect(&self.line, remote).await {
            Ok(mut guest) => {
                // Small writes of an interactive protocol must not wait for each other.
                let _ = stream.set_nodelay(true);
                let copied = copy_bidirectional_with_sizes(&mut stream, &mut guest, BUFFER, BUFFER);
                // Either end may reset the connection: that is between them.
                if let Err(error) = copied.await {
                    span.failed(&error);
                }
            }
            Err(error) => {
                span.failed(&error);
                (self.failed)(&error);
            }
        }
    }
}

/// A stream to a port of the guest's loopback.
pub(crate) async fn connect(line: &Line, port: NonZeroU16) -> Result<UnixStream, ExecError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let connecting = async {
        let mut stream = line.dial(deadline).await.map_err(|error| ExecError::Lost(Some(error)))?;
        let mut bytes = Vec::new();
        let request = Request::Forward { port: port.get() };
        HostFrame::Open(Box::new(request)).encode(&mut bytes);
        stream.write_all(&bytes).await.map_err(|error| ExecError::Lost(Some(error)))?;
        // The byte after it belongs to the forwarded connection.
        match read_one(&mut stream).await.map_err(cut_off)? {
            AgentFrame::Started => Ok(stream),
            AgentFrame::Refused(failure) => Err(failure.into()),
            _ => Err(ExecError::Unexpected),
        }
    };
    match tokio::time::timeout_at(deadline.into(), connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(ExecError::Lost(Some(io::ErrorKind::TimedOut.into()))),
    }
}

/// An agent that says nothing is told as one whose answer was cut off.
fn cut_off(error: ReadError) -> ExecError {
    match error {
        ReadError::Closed => ExecError::Lost(Some(io::ErrorKind::UnexpectedEof.into())),
        error => error.into(),
    }
}

fn listen(address: SocketAddr) -> rustix::io::Result<std::net::TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // `::` beside `0.0.0.0` would else be refused.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    fn parsed(text: &str) -> Option<(u16, u16)> {
        let forward = text.parse::<PortForward>().ok()?;
        Some((forward.local.get(), forward.remote.get()))
    }

    #[test]
    fn one_port_or_two() {
        assert_eq!(parsed("80"), Some((80, 80)));
        assert_eq!(parsed("8080:80"), Some((8080, 80)));
        assert_eq!(parsed("65535:1"), Some((65535, 1)));
        let bad =
            ["", ":", "0", "0:80", "80:0", "65536", "80:", ":80", "1:2:3", "+80", "-1", " 80"];
        for text in bad.into_iter().chain(["80/tcp", "http", "127.0.0.1:80:80", "٨٠"]) {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    /// A port that nobody else is given while this lives, and that a listener can still have.
    fn reserve(ip: IpAddr, port: u16) -> rustix::io::Result<std::net::TcpListener> {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::new(ip, port))?;
        Ok(socket.into())
    }

    #[test]
    fn a_port_in_use_is_named_and_nothing_stays_bound() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let free = reserve(Ipv4Addr::LOCALHOST.into(), 0).expect("a port");
        let address = free.local_addr().expect("bound");
        let taken_port = taken.local_addr().expect("bound").port();
        let forward = |port| PortForward {
            local: NonZeroU16::new(port).expect("not 0"),
            remote: NonZeroU16::MIN,
        };
        let forwards = [forward(address.port()), forward(taken_port)];
        let error = Listeners::bind(&forwards, &[Ipv4Addr::LOCALHOST.into()]).expect_err("taken");
        let text = crate::DescribeChain(&error).to_string();
        let expected = format!("start port-forward listener: 127.0.0.1:{taken_port}: ");
        assert!(text.starts_with(&expected), "{text}");
        rustix::net::listen(&free, 1).expect("nobody listens there");
    }

    #[test]
    fn all_addresses_of_both_families_can_be_bound_together() {
        let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        // Somebody else may have the port of the other family.
        let reserve_both = |_| {
            let one = reserve(addresses[0], 0).expect("a port");
            let local = one.local_addr().expect("bound").port();
            Some((one, reserve(addresses[1], local).ok()?, local))
        };
        let Some((_one, _other, local)) = (0..16).find_map(reserve_both) else {
            return matchlock_testkit::skip("this host has no IPv6");
        };
        let local = NonZeroU16::new(local).expect("not 0");
        let forward = PortForward { local, remote: NonZeroU16::MIN };
        let listeners = Listeners::bind(&[forward], &addresses).expect("both are free");
        let shown: Vec<String> = listeners.bindings().map(|binding| binding.to_string()).collect();
        assert_eq!(shown[0], format!("127.0.0.1:{local} -> sandbox:1"));
        assert_eq!(shown[1], format!("[::1]:{local} -> sandbox:1"));
    }
}
