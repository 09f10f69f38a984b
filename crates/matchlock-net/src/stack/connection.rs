//! The TCP state machine of one flow: a smoltcp interface with one socket, on a device that is the
//! shared buffer of frames.

use std::net::SocketAddr;
use std::task::Waker;
use std::{fmt, io};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetProtocol, HardwareAddress, IpCidr, IpListenEndpoint};

use super::egress::Egress;

/// A healthy idle guest answers these.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// A guest that is silent for so long, although something waits for its answer, is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a flow that nobody holds may take to deliver what is left and its FIN.
const ORPHAN: Duration = Duration::from_secs(60);
/// Should a state machine ever ask for "now" without doing anything then, it is asked again after
/// this.
const STUCK: Duration = Duration::from_millis(10);
/// Bytes of each of the two rings of a flow, by the number of flows that there are.
///
/// A multiple of the advertised 16-bit window at full: a SYN-ACK's window is not scaled but smoltcp
/// takes it for scaled, so with any other size a guest may send beyond the ring, which ends in a
/// panic there.
pub(super) const fn ring_size(flows: usize) -> usize {
    match flows {
        0..256 => 65535 << 2,
        256..1024 => 65535,
        _ => 16 * 1024,
    }
}

/// What happened to a flow, for the reason that a dead one has died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A segment of the guest.
    Guest,
    /// A deadline.
    Timer,
    /// The holder of the stream.
    Stream,
    /// There is room for frames again.
    Room,
}

/// Where our half of the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// FIN follows the data once there is a connection.
    Closing,
    Closed,
}

/// Whether frames wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// None was left, and the flow is not on the list yet.
    Wanted,
    /// The flow is on the list.
    Waiting,
}

/// Whether the table still knows the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Present,
    /// Nothing more will be sent or received.
    Over,
    /// Over, and removed from the table.
    Left,
}

/// One side of a TCP connection with the guest.
pub(super) struct Connection {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    protocol: EthernetProtocol,
    mtu: usize,
    read_waker: Option<Waker>,
    write_waker: Option<Waker>,
    sending: Sending,
    /// The guest has sent FIN, after all that it had to say.
    fin_received: bool,
    room: Room,
    presence: Presence,
    /// In the list of flows to settle after this batch of frames.
    touched: bool,
    /// Nobody holds the stream; until when to deliver what is left.
    orphan_until: Option<Instant>,
    /// Why there will be no more, if it was not a FIN.
    failure: Option<io::ErrorKind>,
}

impl Connection {
    /// Waits for a SYN to `local`, with two rings of `ring` bytes.
    pub(super) fn new(local: SocketAddr, mtu: usize, seed: u64, ring: usize, now: Instant) -> Self {
        let protocol = match local {
            SocketAddr::V4(_) => EthernetProtocol::Ipv4,
            SocketAddr::V6(_) => EthernetProtocol::Ipv6,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut Unplugged(mtu), now);
        let address = local.ip().into();
        let bits = if local.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|own| {
            let _ = own.push(IpCidr::new(address, bits));
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(listener(local, ring));
        Self {
            interface,
            sockets,
            handle,
            protocol,
            mtu,
            read_waker: None,
            write_waker: None,
            sending: Sending::Open,
            fin_received: false,
            room: Room::Enough,
            presence: Presence::Present,
            touched: false,
            orphan_until: None,
            failure: None,
        }
    }

    /// Takes an IP packet, and appends at most one in answer. True for the first of a batch.
    pub(super) fn receive(&mut self, packet: &[u8], egress: &Egress, now: Instant) -> bool {
        if self.presence == Presence::Present {
            let mut port = self.port(egress);
            port.packet = Some(packet);
            self.interface.poll_ingress_single(now, &mut port, &mut self.sockets);
        }
        !std::mem::replace(&mut self.touched, true)
    }

    /// Reads into `into`, which is not empty; `None` if there is nothing yet, 0 at the guest's FIN.
    pub(super) fn read(&mut self, into: &mut [u8], waker: &Waker) -> Option<io::Result<usize>> {
        let result = match self.socket_mut().recv_slice(into) {
            Ok(0) | Err(RecvError::InvalidState) => self.failure.map(|kind| Err(kind.into())),
            Ok(count) => Some(Ok(count)),
            Err(RecvError::Finished) => Some(Ok(0)),
        };
        if result.is_none() {
            self.read_waker = Some(waker.clone());
        }
        result
    }

    /// Queues some of `data`, which is not empty; `None` if there is no room, or no connection yet.
    pub(super) fn write(&mut self, data: &[u8], waker: &Waker) -> Option<io::Result<usize>> {
        if let Some(kind) = self.failure {
            return Some(Err(kind.into()));
        }
        if self.sending != Sending::Open {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = self.socket_mut().send_slice(data).unwrap_or(0);
        if count == 0 {
            self.write_waker = Some(waker.clone());
            return None;
        }
        Some(Ok(count))
    }

    /// FIN, after what was written.
    pub(super) fn close(&mut self) {
        if self.sending == Sending::Open {
            self.sending = Sending::Closing;
        }
    }

    /// RST, at once.
    pub(super) fn abort(&mut self, kind: io::ErrorKind) {
        self.failure.get_or_insert(kind);
        self.socket_mut().abort();
    }

    /// The stream is dropped: what is closed on both sides ends in peace, all else by RST.
    pub(super) fn abandon(&mut self, now: Instant) {
        self.read_waker = None;
        self.write_waker = None;
        let unread = self.socket().can_recv();
        if self.sending != Sending::Open && self.fin_received && !unread {
            self.orphan_until = Some(now + ORPHAN);
        } else if self.presence == Presence::Present {
            self.abort(io::ErrorKind::ConnectionAborted);
        }
    }

    /// The guest is gone: ends without a word to it.
    pub(super) fn vanish(&mut self) -> Wakers {
        self.failure.get_or_insert(io::ErrorKind::ConnectionReset);
        self.presence = Presence::Left;
        self.wakers()
    }

    /// Sends what can be sent and finds out what became of the connection.
    pub(super) fn settle(&mut self, egress: &Egress, now: Instant, cause: Cause) {
        self.touched = false;
        if cause == Cause::Room {
            self.room = Room::Enough;
        }
        if self.presence != Presence::Present {
            return;
        }
        if self.orphan_until.is_some_and(|until| until <= now) {
            self.abort(io::ErrorKind::TimedOut);
        }
        self.start_closing();
        let mut port = self.port(egress);
        while self.interface.poll_egress(now, &mut port, &mut self.sockets) != PollResult::None {}
        if port.full && self.room == Room::Enough {
            self.room = Room::Wanted;
        }
        self.judge(cause);
    }

    /// True once, if the flow is to be put on the list of those that wait for room.
    pub(super) fn waits_for_room(&mut self) -> bool {
        let wanted = self.room == Room::Wanted && self.presence == Presence::Present;
        if wanted {
            self.room = Room::Waiting;
        }
        wanted
    }

    /// When to settle again though nothing happened.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.presence != Presence::Present {
            return None;
        }
        if self.room != Room::Enough {
            return Some(now + KEEP_ALIVE);
        }
        let asked = self
            .interface
            .poll_at(now, &self.sockets)
            .map(|at| if at <= now { now + STUCK } else { at });
        asked.into_iter().chain(self.orphan_until).min()
    }

    /// Who can go on now.
    pub(super) fn wakers(&mut self) -> Wakers {
        let read = if self.is_readable() { self.read_waker.take() } else { None };
        let write = if self.is_writable() { self.write_waker.take() } else { None };
        Wakers([read, write])
    }

    /// True once, when it is over and the table can forget it.
    pub(super) fn leaves(&mut self) -> bool {
        let leaves = self.presence == Presence::Over;
        if leaves {
            self.presence = Presence::Left;
        }
        leaves
    }

    fn is_readable(&self) -> bool {
        self.socket().can_recv() || self.fin_received || self.failure.is_some()
    }

    /// A writer is woken for a good part of the ring, not for every acknowledged segment.
    fn is_writable(&self) -> bool {
        let socket = self.socket();
        let room = socket.send_capacity() - socket.send_queue();
        let open = socket.may_send() && room >= socket.send_capacity() / 4;
        open || self.sending != Sending::Open || self.failure.is_some()
    }

    /// Only an established connection is closed: smoltcp would take the acknowledgement of its SYN
    /// for that of its FIN.
    fn start_closing(&mut self) {
        if self.sending == Sending::Closing && self.socket().may_send() {
            self.sending = Sending::Closed;
            self.socket_mut().close();
        }
    }

    fn judge(&mut self, cause: Cause) {
        let state = self.socket().state();
        self.fin_received |=
            matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait);
        let dead = matches!(state, State::Closed | State::Listen);
        if dead && !(self.fin_received && self.sending == Sending::Closed) {
            self.failure.get_or_insert(match cause {
                Cause::Timer => io::ErrorKind::TimedOut,
                _ => io::ErrorKind::ConnectionReset,
            });
        }
        // The link loses nothing, so that TIME-WAIT ends as soon as the last acknowledgement is
        // out.
        let rests = state == State::TimeWait && self.room == Room::Enough;
        if rests || self.socket().remote_endpoint().is_none() {
            self.presence = Presence::Over;
        }
    }

    fn port<'a>(&self, egress: &'a Egress) -> Port<'a> {
        Port { packet: None, egress, protocol: self.protocol, mtu: self.mtu, full: false }
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("state", &self.socket().state())
            .field("sending", &self.sending)
            .field("room", &self.room)
            .field("presence", &self.presence)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// Tasks to wake once no lock is held.
#[derive(Debug)]
#[must_use]
pub(super) struct Wakers([Option<Waker>; 2]);

impl Wakers {
    pub(super) fn wake(self) {
        self.0.into_iter().flatten().for_each(Waker::wake);
    }
}

fn listener(local: SocketAddr, ring: usize) -> Socket<'static> {
    // Zeroed by the allocator, which for this size means pages that exist when they are touched.
    let buffer = || SocketBuffer::new(vec![0; ring]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.set_timeout(Some(USER_TIMEOUT));
    let endpoint = IpListenEndpoint { addr: Some(local.ip().into()), port: local.port() };
    // Fails only for port 0, where no SYN will ever match.
    let _ = socket.listen(endpoint);
    socket
}

fn capabilities(mtu: usize) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = mtu;
    capabilities
}

/// Only says what the device of a flow is like, when the interface is made.
struct Unplugged(usize);

impl Device for Unplugged {
    type RxToken<'b> = Rx<'b>;
    type TxToken<'b> = Tx<'b>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        None
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.0)
    }
}

/// The device of a flow for the time of one poll.
struct Port<'a> {
    packet: Option<&'a [u8]>,
    egress: &'a Egress,
    protocol: EthernetProtocol,
    mtu: usize,
    full: bool,
}

impl Device for Port<'_> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b>
    where
        Self: 'b;

    /// The answer to a segment always has room: while there is none, no segment is read.
    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.packet.take()?;
        Some((Rx(packet), Tx { egress: self.egress, protocol: self.protocol }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        self.full = self.egress.is_full();
        (!self.full).then_some(Tx { egress: self.egress, protocol: self.protocol })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.mtu)
    }
}

struct Rx<'a>(&'a [u8]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Tx<'a> {
    egress: &'a Egress,
    protocol: EthernetProtocol,
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.egress.append(self.protocol, length, f)
    }
}
