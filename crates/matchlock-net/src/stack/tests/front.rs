//! What arrives, what does not, and what is answered without a flow.

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr, Ipv4Packet, Ipv6Address, Ipv6Packet, Ipv6Repr,
    NdiscRepr,
};

use super::*;

fn arp(bench: &Bench, source: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(bench.addressing.guest_mac),
        source_protocol_addr: source.into(),
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target.into(),
    };
    let mut buffer = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut buffer));
    guest_frames::frame(bench.addressing.guest_mac, [0xff; 6], EthernetProtocol::Arp, &buffer)
}

#[test]
fn the_gateway_answers_for_every_address_but_the_guests() {
    let mut bench = Bench::new(1500);
    let (guest, gateway, other) = ([198, 18, 0, 2], [198, 18, 0, 1], [198, 19, 1, 1]);
    for (source, target, replies) in [
        (guest, gateway, 1),
        (guest, other, 1),
        (guest, guest, 0),
        ([0; 4], guest, 0),
        ([0; 4], other, 0),
        ([0; 4], gateway, 1),
        (other, gateway, 0),
        (guest, [127, 0, 0, 1], 0),
        (guest, [224, 0, 0, 1], 0),
    ] {
        let request = arp(&bench, source, target);
        let answers = bench.send(&request);
        assert_eq!(answers.len(), replies, "{source:?} asks for {target:?}");
        for answer in answers {
            let frame = EthernetFrame::new_checked(&answer[..]).expect("a frame");
            let packet = ArpPacket::new_checked(frame.payload()).expect("a packet");
            assert_eq!(packet.source_hardware_addr(), bench.addressing.gateway_mac);
            assert_eq!(packet.source_protocol_addr(), target);
        }
    }
}

fn solicitation(bench: &Bench, source: Ipv6Address, target: Ipv6Address) -> Vec<u8> {
    let message =
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr: target, lladdr: None });
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: "ff02::1:ff00:1".parse().expect("an address"),
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    guest_frames::packet(&bench.addressing, &IpRepr::Ipv6(ip), |payload, checksums| {
        let mut packet = Icmpv6Packet::new_unchecked(payload);
        message.emit(&ip.src_addr, &ip.dst_addr, &mut packet, checksums);
    })
}

#[test]
fn neighbour_discovery_is_answered_like_arp() {
    let mut bench = Bench::new(1500);
    let guest = bench.addressing.guest_v6;
    let link_local: Ipv6Address = "fe80::5".parse().expect("an address");
    let other: Ipv6Address = "fd6d:6c6b:0:1::9".parse().expect("an address");
    for (source, target, replies) in [
        (guest, bench.addressing.gateway_v6, 1),
        (link_local, other, 1),
        (guest, guest, 0),
        (guest, link_local, 0),
        (Ipv6Address::UNSPECIFIED, other, 0),
        (other, bench.addressing.gateway_v6, 0),
    ] {
        let request = solicitation(&bench, source, target);
        assert_eq!(bench.send(&request).len(), replies, "{source} asks for {target}");
    }
}

#[test]
fn a_source_that_is_not_the_guests_is_dropped() {
    let mut bench = Bench::new(1500);
    let mut peer = Peer::new(&bench, 1);
    peer.from = SocketAddr::from(([198, 18, 0, 3], 1));
    let frame = peer.frame(TcpControl::Syn, &[]);
    assert!(bench.send(&frame).is_empty());
    peer.from = SocketAddr::new("fe80::2".parse().expect("an address"), 1);
    peer.to = SocketAddr::new(bench.addressing.gateway_v6.into(), 1);
    let frame = peer.frame(TcpControl::Syn, &[]);
    assert!(bench.send(&frame).is_empty());
    let mut frame = Peer::new(&bench, 1).frame(TcpControl::Syn, &[]);
    frame[11] ^= 1;
    assert!(bench.send(&frame).is_empty());
    assert_eq!(bench.count(Discard::Foreign), 3);
    assert_eq!(bench.core.flows(), 0);
}

/// Changes a TCP frame and puts the checksum of its IPv4 header right.
fn altered(bench: &Bench, change: impl FnOnce(&mut Ipv4Packet<&mut [u8]>)) -> Vec<u8> {
    let mut frame = Peer::new(bench, 1).frame(TcpControl::Syn, &[]);
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    change(&mut packet);
    packet.fill_checksum();
    frame
}

#[test]
fn what_there_is_no_code_for_ends_here() {
    let mut bench = Bench::new(1500);
    let frames = [
        (altered(&bench, |packet| packet.set_more_frags(true)), Discard::Fragment),
        (altered(&bench, |packet| packet.set_frag_offset(8)), Discard::Fragment),
        (altered(&bench, |packet| packet.set_header_len(24)), Discard::Options),
        (
            altered(&bench, |packet| packet.set_next_header(IpProtocol::Unknown(47))),
            Discard::Protocol,
        ),
        (altered(&bench, |packet| packet.set_next_header(IpProtocol::Igmp)), Discard::Protocol),
        (
            altered(&bench, |packet| packet.set_dst_addr([127, 0, 0, 1].into())),
            Discard::Destination,
        ),
        (altered(&bench, |packet| packet.set_dst_addr([255; 4].into())), Discard::Destination),
        (altered(&bench, |packet| packet.set_total_len(3000)), Discard::Malformed),
        (vec![0; 1515], Discard::Malformed),
        (Vec::new(), Discard::Malformed),
    ];
    for (frame, reason) in frames {
        let before = bench.count(reason);
        assert!(bench.send(&frame).is_empty());
        assert_eq!(bench.count(reason), before + 1, "{reason:?}");
    }
    assert!(bench.keeper.take().is_empty());
}

#[test]
fn extension_headers_are_not_looked_behind() {
    let mut bench = Bench::new(1500);
    for (protocol, reason) in [
        (IpProtocol::HopByHop, Discard::Options),
        (IpProtocol::Ipv6Route, Discard::Options),
        (IpProtocol::Ipv6Opts, Discard::Options),
        (IpProtocol::Ipv6Frag, Discard::Fragment),
        (IpProtocol::Unknown(41), Discard::Protocol),
    ] {
        let mut peer = Peer::new(&bench, 1);
        peer.from = SocketAddr::new(bench.addressing.guest_v6.into(), 1);
        peer.to = SocketAddr::new(bench.addressing.gateway_v6.into(), 1);
        let mut frame = peer.frame(TcpControl::Syn, &[]);
        Ipv6Packet::new_unchecked(&mut frame[14..]).set_next_header(protocol);
        assert!(bench.send(&frame).is_empty());
        assert!(bench.count(reason) > 0, "{protocol}");
    }
    assert!(bench.keeper.take().is_empty());
}

#[test]
fn a_wrong_checksum_is_not_a_connection() {
    let mut bench = Bench::new(1500);
    let mut frame = Peer::new(&bench, 1).frame(TcpControl::Syn, &[]);
    *frame.last_mut().expect("bytes") ^= 1;
    assert!(bench.send(&frame).is_empty());
    assert_eq!(bench.count(Discard::Malformed), 1);
    assert_eq!(bench.core.flows(), 0);
}

#[test]
fn a_segment_of_no_connection_is_reset_but_not_a_reset() {
    let mut bench = Bench::new(1500);
    let mut peer = Peer::new(&bench, 1);
    peer.ack = Some(77);
    for control in [TcpControl::None, TcpControl::Fin, TcpControl::Syn] {
        let frame = peer.frame(control, b"");
        let replies = bench.send(&frame);
        let (_, reply) = guest_frames::segment(&replies[0]).expect("a segment");
        assert_eq!((reply.control, reply.seq_number.0), (TcpControl::Rst, 77));
    }
    let frame = peer.frame(TcpControl::Rst, b"");
    assert!(bench.send(&frame).is_empty());
    assert_eq!(bench.count(Discard::NoFlow), 4);
}

#[test]
fn a_syn_waits_once_and_is_refused_when_dropped() {
    let mut bench = Bench::new(1500);
    let mut peer = Peer::new(&bench, 1);
    let syn = peer.frame(TcpControl::Syn, &[]);
    for _ in 0..3 {
        assert!(bench.send(&syn).is_empty());
    }
    let mut pending = bench.keeper.take();
    assert_eq!((pending[0].src(), pending[0].dst()), (peer.from, peer.to));
    assert_eq!((pending.len(), bench.core.flows()), (1, 1));
    drop(pending.pop());
    let replies = bench.receive();
    let (_, reply) = guest_frames::segment(&replies[0]).expect("a segment");
    assert_eq!(reply.control, TcpControl::Rst);
    assert_eq!(reply.ack_number.map(|ack| ack.0), Some(1001));
    assert_eq!(bench.core.flows(), 0);
}

#[test]
fn a_waiting_syn_that_is_reset_is_forgotten() {
    let mut bench = Bench::new(1500);
    let mut peer = Peer::new(&bench, 1);
    let syn = peer.frame(TcpControl::Syn, &[]);
    bench.send(&syn);
    let reset = peer.frame(TcpControl::Rst, &[]);
    bench.send(&reset);
    assert_eq!(bench.core.flows(), 0);
    let mut flow = bench.keeper.take().pop().expect("a flow").accept();
    assert_eq!(kind(read(&mut flow, 1)), Some(std::io::ErrorKind::ConnectionReset));
    assert!(bench.receive().is_empty());
}

#[test]
fn a_flood_of_syns_has_an_end() {
    let mut bench = Bench::new(1500);
    for port in 1..=5000 {
        let syn = Peer::new(&bench, port).frame(TcpControl::Syn, &[]);
        let replies = bench.send(&syn);
        assert_eq!(replies.len(), usize::from(usize::from(port) > MAX_FLOWS));
    }
    assert_eq!(bench.core.flows(), MAX_FLOWS);
    assert_eq!(bench.count(Discard::TableFull), 5000 - MAX_FLOWS as u64);
    assert_eq!(bench.keeper.take().len(), MAX_FLOWS);
    assert_eq!(bench.core.flows(), 0);
    assert_eq!(bench.receive().len(), MAX_FLOWS, "each was refused");
}

#[test]
fn datagrams_are_answered_refused_and_bounded() {
    let mut bench = Bench::new(1500);
    let from = SocketAddr::new(bench.addressing.guest_v6.into(), 9);
    for (port, size) in [(2, 100), (3, 1400)] {
        let to = SocketAddr::new(bench.addressing.gateway_v6.into(), port);
        let frame = guest_frames::datagram(&bench.addressing, from, to, &vec![5; size]);
        let replies = bench.send(&frame);
        let expected = if port == 2 { frame.len() } else { 14 + 40 + 8 + 40 + 512 };
        assert_eq!(replies.iter().map(Vec::len).collect::<Vec<_>>(), [expected]);
    }
    assert_eq!(bench.count(Discard::UdpRefused), 1);
    let to = SocketAddr::from((bench.addressing.gateway_v4, 2));
    let replies = UdpReplies::new(&bench.core.shared, to, to);
    let error = replies.send(&[0; 1473]).expect_err("it does not fit");
    assert_eq!(error, UdpReplyError::TooLarge { size: 1473, limit: 1472 });
    assert_eq!(replies.send(&[0; 1472]), Ok(()));
    assert_eq!(bench.receive().len(), 1);
}
