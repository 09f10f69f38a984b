//! A guest by hand, for tests: well-formed frames with whatever is in them, and frames taken apart.

use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, IpRepr, Ipv4Packet, Ipv4Repr, Ipv6Packet,
    Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::Addressing;
use super::deframe::PREFIX;

/// Where a segment is from and to, and what it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) control: TcpControl,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) window: u16,
    pub(super) payload: &'a [u8],
}

impl Segment<'_> {
    /// The frame that carries it; a SYN offers a window scale and a large segment size.
    pub(super) fn frame(&self, addressing: &Addressing) -> Vec<u8> {
        let syn = self.control == TcpControl::Syn;
        let repr = TcpRepr {
            src_port: self.from.port(),
            dst_port: self.to.port(),
            control: self.control,
            seq_number: TcpSeqNumber(self.seq as i32),
            ack_number: self.ack.map(|ack| TcpSeqNumber(ack as i32)),
            window_len: self.window,
            window_scale: syn.then_some(7),
            max_seg_size: syn.then_some(65480),
            sack_permitted: syn,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: self.payload,
        };
        let ip = IpRepr::new(
            self.from.ip().into(),
            self.to.ip().into(),
            IpProtocol::Tcp,
            repr.buffer_len(),
            64,
        );
        packet(addressing, &ip, |segment, checksums| {
            let mut segment = TcpPacket::new_unchecked(segment);
            repr.emit(&mut segment, &ip.src_addr(), &ip.dst_addr(), checksums);
        })
    }
}

/// The frame of a datagram.
#[cfg_attr(not(test), expect(dead_code, reason = "only tests ask"))]
pub(super) fn datagram(
    addressing: &Addressing,
    from: SocketAddr,
    to: SocketAddr,
    data: &[u8],
) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let length = repr.header_len() + data.len();
    let ip = IpRepr::new(from.ip().into(), to.ip().into(), IpProtocol::Udp, length, 64);
    packet(addressing, &ip, |payload, checksums| {
        let mut packet = UdpPacket::new_unchecked(payload);
        let copy = |payload: &mut [u8]| payload.copy_from_slice(data);
        repr.emit(&mut packet, &ip.src_addr(), &ip.dst_addr(), data.len(), copy, checksums);
    })
}

/// The frame of an IP packet to the gateway's MAC address.
pub(super) fn packet(
    addressing: &Addressing,
    ip: &IpRepr,
    fill: impl FnOnce(&mut [u8], &ChecksumCapabilities),
) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet[..], &checksums);
    fill(&mut packet[ip.header_len()..], &checksums);
    let protocol = match ip {
        IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
        IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
    };
    frame(addressing.guest_mac, addressing.gateway_mac, protocol, &packet)
}

pub(super) fn frame(
    from: [u8; 6],
    to: [u8; 6],
    protocol: EthernetProtocol,
    payload: &[u8],
) -> Vec<u8> {
    [&to[..], &from, &u16::from(protocol).to_be_bytes(), payload].concat()
}

/// The frames in a stream of them.
#[cfg_attr(not(test), expect(dead_code, reason = "only tests ask"))]
pub(super) fn frames(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk::<PREFIX>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*prefix) as usize);
        frames.push(frame);
        stream = rest;
    }
    frames
}

/// The TCP segment in a frame, with its checksums verified.
pub(super) fn segment(frame: &[u8]) -> Option<(IpRepr, TcpRepr<'_>)> {
    let checksums = ChecksumCapabilities::default();
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    let (ip, payload) = match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            (IpRepr::Ipv4(Ipv4Repr::parse(&packet, &checksums).ok()?), packet.payload())
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
            (IpRepr::Ipv6(Ipv6Repr::parse(&packet).ok()?), packet.payload())
        }
        _ => return None,
    };
    if ip.next_header() != IpProtocol::Tcp {
        return None;
    }
    let packet = TcpPacket::new_checked(payload).ok()?;
    let repr = TcpRepr::parse(&packet, &ip.src_addr(), &ip.dst_addr(), &checksums).ok()?;
    Some((ip, repr))
}
