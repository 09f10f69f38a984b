//! The front: a frame of the guest to whom it concerns. No I/O, no waiting.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, TcpRepr, UdpPacket,
    UdpRepr,
};

use super::clock::Clock;
use super::connection::Cause;
use super::flow::Flow;
use super::pending::PendingFlow;
use super::shared::Shared;
use super::table::{Admission, FlowKey};
use super::udp::{Datagram, UdpReplies, UdpVerdict};
use super::wire::{self, Syn};
use super::{Addressing, Discard, Handler, StackConfig};

const ETHERNET: usize = 14;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// A frame goes to its end, or is discarded for a reason.
type Taken = Result<(), Discard>;

/// The stack without its socket and its task.
#[derive(Debug)]
pub(crate) struct StackCore<H> {
    pub(super) shared: Arc<Shared>,
    addressing: Addressing,
    checksums: ChecksumCapabilities,
    handler: Arc<H>,
    /// Flows that got something in this batch of frames.
    touched: Vec<Arc<Flow>>,
}

/// What is known of the frame around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cast {
    /// To the gateway's MAC address.
    Unicast,
    /// Broadcast or multicast.
    Group,
}

impl<H: Handler> StackCore<H> {
    #[cfg_attr(
        not(any(test, feature = "fuzzing")),
        expect(dead_code, reason = "only tests and the fuzzer ask")
    )]
    pub(super) fn new(config: StackConfig, clock: Clock, handler: Arc<H>) -> Self {
        Self::with_shared(Shared::new(&config, clock, None), config, handler)
    }

    pub(super) fn with_shared(shared: Arc<Shared>, config: StackConfig, handler: Arc<H>) -> Self {
        Self {
            shared,
            addressing: config.addressing,
            checksums: ChecksumCapabilities::default(),
            handler,
            touched: Vec::new(),
        }
    }

    /// Takes a frame of the guest, without its length prefix. [`Self::settle`] ends a batch of
    /// them.
    pub(super) fn take(&mut self, frame: &[u8]) {
        if let Err(reason) = self.frame(frame) {
            self.shared.counters.count(reason);
        }
    }

    /// Lets the flows that got something answer.
    pub(super) fn settle(&mut self) {
        for flow in self.touched.drain(..) {
            flow.settle(Cause::Guest);
        }
    }

    fn frame(&mut self, frame: &[u8]) -> Taken {
        if frame.len() > self.shared.mtu + ETHERNET {
            return Err(Discard::Malformed);
        }
        let frame = EthernetFrame::new_checked(frame).map_err(malformed)?;
        if frame.src_addr() != EthernetAddress(self.addressing.guest_mac) {
            return Err(Discard::Foreign);
        }
        let cast = match frame.dst_addr() {
            address if address == EthernetAddress(self.addressing.gateway_mac) => Cast::Unicast,
            address if address.is_unicast() => return Err(Discard::Foreign),
            _ => Cast::Group,
        };
        match frame.ethertype() {
            EthernetProtocol::Arp => self.arp(frame.payload()),
            EthernetProtocol::Ipv4 => self.ipv4(frame.payload(), cast),
            EthernetProtocol::Ipv6 => self.ipv6(frame.payload(), cast),
            EthernetProtocol::Unknown(_) => Err(Discard::Protocol),
        }
    }

    /// Answers for every address but the guest's; probes only for the gateway's, which alone is
    /// taken.
    fn arp(&self, payload: &[u8]) -> Taken {
        let packet = ArpPacket::new_checked(payload).map_err(malformed)?;
        let ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).map_err(malformed)?
        else {
            return Err(Discard::Protocol);
        };
        let addressing = &self.addressing;
        let probe = source_protocol_addr.is_unspecified();
        let known = probe || source_protocol_addr == addressing.guest_v4;
        if source_hardware_addr.0 != addressing.guest_mac || !known {
            return Err(Discard::Foreign);
        }
        let taken = !probe || target_protocol_addr == addressing.gateway_v4;
        if !taken || !self.is_remote_v4(target_protocol_addr) {
            return Err(Discard::Destination);
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(addressing.gateway_mac),
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        self.shared.egress.append(EthernetProtocol::Arp, reply.buffer_len(), |buffer| {
            reply.emit(&mut ArpPacket::new_unchecked(buffer));
        });
        Ok(())
    }

    fn ipv4(&mut self, payload: &[u8], cast: Cast) -> Taken {
        let packet = Ipv4Packet::new_checked(payload).map_err(malformed)?;
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Err(Discard::Fragment);
        }
        if usize::from(packet.header_len()) != IPV4_HEADER {
            return Err(Discard::Options);
        }
        let repr = Ipv4Repr::parse(&packet, &self.checksums).map_err(malformed)?;
        if repr.src_addr != self.addressing.guest_v4 {
            return Err(Discard::Foreign);
        }
        if cast == Cast::Group || !self.is_remote_v4(repr.dst_addr) {
            return Err(Discard::Destination);
        }
        let whole = &payload[..usize::from(packet.total_len())];
        match repr.next_header {
            IpProtocol::Icmp => self.icmp_v4(&repr, packet.payload()),
            IpProtocol::Tcp => self.tcp(&IpRepr::Ipv4(repr), whole, IPV4_HEADER),
            IpProtocol::Udp => self.udp(&IpRepr::Ipv4(repr), packet.payload()),
            _ => Err(Discard::Protocol),
        }
    }

    fn ipv6(&mut self, payload: &[u8], cast: Cast) -> Taken {
        let packet = Ipv6Packet::new_checked(payload).map_err(malformed)?;
        let repr = Ipv6Repr::parse(&packet).map_err(malformed)?;
        match repr.next_header {
            IpProtocol::Icmpv6 => return self.icmp_v6(&repr, packet.payload(), cast),
            IpProtocol::Tcp | IpProtocol::Udp => {}
            IpProtocol::Ipv6Frag => return Err(Discard::Fragment),
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
                return Err(Discard::Options);
            }
            _ => return Err(Discard::Protocol),
        }
        if repr.src_addr != self.addressing.guest_v6 {
            return Err(Discard::Foreign);
        }
        if cast == Cast::Group || !self.is_remote_v6(repr.dst_addr) {
            return Err(Discard::Destination);
        }
        let whole = &payload[..packet.total_len()];
        if repr.next_header == IpProtocol::Tcp {
            self.tcp(&IpRepr::Ipv6(repr), whole, IPV6_HEADER)
        } else {
            self.udp(&IpRepr::Ipv6(repr), packet.payload())
        }
    }

    fn tcp(&mut self, ip: &IpRepr, packet: &[u8], header: usize) -> Taken {
        let segment = TcpPacket::new_checked(&packet[header..]).map_err(malformed)?;
        let key = FlowKey {
            guest: SocketAddr::new(ip.src_addr().into(), segment.src_port()),
            remote: SocketAddr::new(ip.dst_addr().into(), segment.dst_port()),
        };
        if let Some(flow) = self.shared.table.flow(&key) {
            // Its checksum is verified by the flow.
            if flow.receive(packet) {
                self.touched.push(flow);
            }
            return Ok(());
        }
        let repr = TcpRepr::parse(&segment, &ip.src_addr(), &ip.dst_addr(), &self.checksums)
            .map_err(malformed)?;
        match (repr.control, repr.ack_number) {
            (TcpControl::Syn, None) => self.syn(key, ip, &repr),
            (TcpControl::Rst, _) => {
                let waited = self.shared.table.withdraw(&key, None);
                waited.map(drop).ok_or(Discard::NoFlow)
            }
            _ => {
                wire::reset(&self.shared, ip, &repr);
                Err(Discard::NoFlow)
            }
        }
    }

    fn syn(&self, key: FlowKey, ip: &IpRepr, repr: &TcpRepr<'_>) -> Taken {
        match self.shared.table.admit(key, Syn::new(ip, repr)) {
            Admission::New(id) => self.handler.syn(PendingFlow::new(&self.shared, key, id)),
            Admission::Waiting => {}
            Admission::Full => {
                wire::reset(&self.shared, ip, repr);
                return Err(Discard::TableFull);
            }
        }
        Ok(())
    }

    fn udp(&self, ip: &IpRepr, payload: &[u8]) -> Taken {
        let packet = UdpPacket::new_checked(payload).map_err(malformed)?;
        let repr = UdpRepr::parse(&packet, &ip.src_addr(), &ip.dst_addr(), &self.checksums)
            .map_err(malformed)?;
        let src = SocketAddr::new(ip.src_addr().into(), repr.src_port);
        let dst = SocketAddr::new(ip.dst_addr().into(), repr.dst_port);
        let datagram = Datagram { src, dst, payload: Bytes::copy_from_slice(packet.payload()) };
        match self.handler.udp(datagram, UdpReplies::new(&self.shared, dst, src)) {
            UdpVerdict::Taken => Ok(()),
            UdpVerdict::Refused => {
                wire::port_unreachable(&self.shared, ip, payload);
                Err(Discard::UdpRefused)
            }
        }
    }

    /// Echo, for the gateway.
    fn icmp_v4(&self, ip: &Ipv4Repr, payload: &[u8]) -> Taken {
        let packet = Icmpv4Packet::new_checked(payload).map_err(malformed)?;
        match Icmpv4Repr::parse(&packet, &self.checksums).map_err(malformed)? {
            Icmpv4Repr::EchoRequest { ident, seq_no, data }
                if ip.dst_addr == self.addressing.gateway_v4 =>
            {
                let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
                wire::icmp_v4(&self.shared, ip, &reply);
                Ok(())
            }
            _ => Err(Discard::Icmp),
        }
    }

    /// Echo, for the gateway, and neighbour solicitations.
    fn icmp_v6(&self, ip: &Ipv6Repr, payload: &[u8], cast: Cast) -> Taken {
        let packet = Icmpv6Packet::new_checked(payload).map_err(malformed)?;
        let repr = Icmpv6Repr::parse(&ip.src_addr, &ip.dst_addr, &packet, &self.checksums)
            .map_err(malformed)?;
        match repr {
            Icmpv6Repr::EchoRequest { ident, seq_no, data }
                if cast == Cast::Unicast && ip.dst_addr == self.addressing.gateway_v6 =>
            {
                if ip.src_addr != self.addressing.guest_v6 {
                    return Err(Discard::Foreign);
                }
                wire::icmp_v6(&self.shared, ip, &Icmpv6Repr::EchoReply { ident, seq_no, data });
                Ok(())
            }
            Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. })
                if ip.hop_limit == 255 =>
            {
                self.neighbor(ip, target_addr)
            }
            _ => Err(Discard::Icmp),
        }
    }

    /// Answers for every address but the guest's own and link-local ones. Whether an address is
    /// taken (an unspecified source, RFC 4862) is never answered: none that the guest may use is.
    fn neighbor(&self, ip: &Ipv6Repr, target: Ipv6Addr) -> Taken {
        let source = ip.src_addr;
        if source != self.addressing.guest_v6 && !source.is_unicast_link_local() {
            return Err(Discard::Foreign);
        }
        if !self.is_remote_v6(target) {
            return Err(Discard::Destination);
        }
        let mut flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
        if target == self.addressing.gateway_v6 {
            flags |= NdiscNeighborFlags::ROUTER;
        }
        let lladdr = Some(EthernetAddress(self.addressing.gateway_mac).into());
        let reply = NdiscRepr::NeighborAdvert { flags, target_addr: target, lladdr };
        let ip = Ipv6Repr { src_addr: target, dst_addr: source, hop_limit: 255, ..*ip };
        wire::send_icmp_v6(&self.shared, &ip, &Icmpv6Repr::Ndisc(reply));
        Ok(())
    }

    /// Whether it is one station's address, and not the guest's.
    fn is_remote_v4(&self, address: Ipv4Addr) -> bool {
        let first = address.octets()[0];
        address != self.addressing.guest_v4 && (1..224).contains(&first) && first != 127
    }

    fn is_remote_v6(&self, address: Ipv6Addr) -> bool {
        let special = address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_unicast_link_local();
        address != self.addressing.guest_v6 && !special
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl<H: Handler> StackCore<H> {
    /// Takes one frame at `now`, as a batch of its own, and runs the timers that are due by then.
    pub(crate) fn ingress(&mut self, frame: &[u8], now: smoltcp::time::Instant) {
        self.shared.clock.set(now);
        self.shared.run_timers();
        self.take(frame);
        self.settle();
    }

    /// Takes out what goes to the guest, up to `limit` bytes; frames have their length before them.
    pub(crate) fn egress(&mut self, limit: usize) -> Vec<u8> {
        let out = std::cell::RefCell::new(Vec::new());
        self.shared.drain(|bytes| {
            let mut out = out.borrow_mut();
            let count = bytes.len().min(limit - out.len());
            out.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(std::io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        });
        out.into_inner()
    }

    /// Connections, and those that wait to become one.
    pub(crate) fn flows(&self) -> usize {
        self.shared.table.len()
    }
}

impl<H> Drop for StackCore<H> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

fn malformed(_: smoltcp::wire::Error) -> Discard {
    Discard::Malformed
}
