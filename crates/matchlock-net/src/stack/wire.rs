//! Packets that the front makes itself.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpAddress, IpProtocol, IpRepr, Ipv4Repr, Ipv6Repr, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::shared::Shared;

/// The hop limit of what comes from the gateway.
const HOP_LIMIT: u8 = 64;
/// Most bytes of the offending packet's payload that an ICMP error quotes: it stays below the
/// smallest MTU of both versions (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4).
const QUOTE: usize = 512;

/// A SYN of the guest, as checked: options it came with, data it came with dropped.
#[derive(Clone, Debug)]
pub(super) struct Syn {
    pub(super) ip: IpRepr,
    tcp: TcpRepr<'static>,
}

impl Syn {
    pub(super) fn new(ip: &IpRepr, tcp: &TcpRepr<'_>) -> Self {
        Self { ip: ip.clone(), tcp: TcpRepr { payload: &[], ..*tcp } }
    }

    /// The IP packet that it came in.
    pub(super) fn packet(&self) -> Vec<u8> {
        let ip = answer_of(&self.ip, false, IpProtocol::Tcp, self.tcp.buffer_len());
        let mut packet = vec![0; ip.buffer_len()];
        let checksums = ChecksumCapabilities::default();
        ip.emit(&mut packet[..], &checksums);
        let mut segment = TcpPacket::new_unchecked(&mut packet[ip.header_len()..]);
        self.tcp.emit(&mut segment, &ip.src_addr(), &ip.dst_addr(), &checksums);
        packet
    }

    pub(super) fn refuse(&self, shared: &Shared) {
        reset(shared, &self.ip, &self.tcp);
    }
}

/// Answers a segment of no connection by RST (RFC 9293, section 3.10.7.1).
pub(super) fn reset(shared: &Shared, ip: &IpRepr, tcp: &TcpRepr<'_>) {
    if tcp.control == TcpControl::Rst {
        return;
    }
    let (seq_number, ack_number) = match tcp.ack_number {
        Some(number) => (number, None),
        None => (TcpSeqNumber(0), Some(tcp.seq_number + tcp.segment_len())),
    };
    let reply = TcpRepr {
        src_port: tcp.dst_port,
        dst_port: tcp.src_port,
        control: TcpControl::Rst,
        seq_number,
        ack_number,
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let ip = answer_of(ip, true, IpProtocol::Tcp, reply.buffer_len());
    shared.send(&ip, |segment, checksums| {
        let mut segment = TcpPacket::new_unchecked(segment);
        reply.emit(&mut segment, &ip.src_addr(), &ip.dst_addr(), checksums);
    });
}

/// Sends a datagram.
pub(super) fn datagram(shared: &Shared, from: (IpAddress, u16), to: (IpAddress, u16), data: &[u8]) {
    let repr = UdpRepr { src_port: from.1, dst_port: to.1 };
    let length = repr.header_len() + data.len();
    let ip = IpRepr::new(from.0, to.0, IpProtocol::Udp, length, HOP_LIMIT);
    shared.send(&ip, |payload, checksums| {
        let mut packet = UdpPacket::new_unchecked(payload);
        let copy = |payload: &mut [u8]| payload.copy_from_slice(data);
        repr.emit(&mut packet, &from.0, &to.0, data.len(), copy, checksums);
    });
}

/// Tells the guest that nobody is at the port that it sent the datagram `payload` to.
pub(super) fn port_unreachable(shared: &Shared, ip: &IpRepr, payload: &[u8]) {
    let data = &payload[..payload.len().min(QUOTE)];
    match *ip {
        IpRepr::Ipv4(header) => {
            let reason = Icmpv4DstUnreachable::PortUnreachable;
            icmp_v4(shared, &header, &Icmpv4Repr::DstUnreachable { reason, header, data });
        }
        IpRepr::Ipv6(header) => {
            let reason = Icmpv6DstUnreachable::PortUnreachable;
            let reply = Icmpv6Repr::DstUnreachable { reason, header, data };
            icmp_v6(shared, &header, &reply);
        }
    }
}

/// Answers a packet with the header `to` by ICMP.
pub(super) fn icmp_v4(shared: &Shared, to: &Ipv4Repr, reply: &Icmpv4Repr<'_>) {
    let ip = answer_of(&IpRepr::Ipv4(*to), true, IpProtocol::Icmp, reply.buffer_len());
    shared.send(&ip, |payload, checksums| {
        reply.emit(&mut Icmpv4Packet::new_unchecked(payload), checksums);
    });
}

/// Answers a packet with the header `to` by ICMPv6.
pub(super) fn icmp_v6(shared: &Shared, to: &Ipv6Repr, reply: &Icmpv6Repr<'_>) {
    let (src_addr, dst_addr) = (to.dst_addr, to.src_addr);
    send_icmp_v6(shared, &Ipv6Repr { src_addr, dst_addr, hop_limit: HOP_LIMIT, ..*to }, reply);
}

/// Sends ICMPv6 with the addresses and the hop limit of `ip`.
pub(super) fn send_icmp_v6(shared: &Shared, ip: &Ipv6Repr, message: &Icmpv6Repr<'_>) {
    let payload_len = message.buffer_len();
    let repr = IpRepr::Ipv6(Ipv6Repr { next_header: IpProtocol::Icmpv6, payload_len, ..*ip });
    shared.send(&repr, |payload, checksums| {
        let mut packet = Icmpv6Packet::new_unchecked(payload);
        message.emit(&ip.src_addr, &ip.dst_addr, &mut packet, checksums);
    });
}

fn answer_of(ip: &IpRepr, back: bool, protocol: IpProtocol, length: usize) -> IpRepr {
    let (from, to) = match back {
        true => (ip.dst_addr(), ip.src_addr()),
        false => (ip.src_addr(), ip.dst_addr()),
    };
    IpRepr::new(from, to, protocol, length, HOP_LIMIT)
}
