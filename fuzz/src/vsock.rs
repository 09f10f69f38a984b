//! Packets on the guest's transmit queue of the vsock device.

use matchlock_vmm::vhost_user::vsock::flow::{BUF_ALLOC, Event, Flow, Phase};
use matchlock_vmm::vhost_user::vsock::wire::{HEADER_LEN, Header, Op, Packet, Rejected};

const GUEST_CID: u64 = 3;

/// Headers from the guest into one stream, and between them what the host may do with it.
///
/// Every packet of the input is one byte, which chooses what the host does first, and a header.
pub fn vsock_packets(input: &[u8]) {
    let mut flow = Flow::new();
    let mut held = 0u32;
    for step in input.chunks_exact(HEADER_LEN + 1) {
        let Some((&action, bytes)) = step.split_first() else { return };
        let Some(bytes) = bytes.first_chunk() else { return };
        act(&mut flow, &mut held, action);
        let header = Header::parse(bytes);
        match Packet::check(&header, GUEST_CID) {
            Ok(packet) => arrive(&mut flow, &mut held, &packet),
            Err(Rejected::Answer(answer)) => {
                assert_eq!(answer.dst_cid, GUEST_CID, "an answer goes to whom it answers");
                let echo = Header { src_cid: GUEST_CID, dst_cid: answer.src_cid, ..answer };
                let reply = Packet::check(&echo, GUEST_CID);
                let ends = reply.map_or_else(|why| why == Rejected::Ignore, |p| p.op == Op::Reset);
                assert!(ends, "a reset must not be answered");
            }
            Err(Rejected::Ignore) => {}
        }
    }
}

fn arrive(flow: &mut Flow, held: &mut u32, packet: &Packet) {
    let before = flow.phase();
    match flow.on_packet(packet.op, packet.len, packet.credit) {
        Event::Deliver => *held += packet.len,
        Event::Discard => flow.on_forwarded(packet.len),
        Event::None | Event::Connected | Event::Refused => {}
    }
    assert!(*held <= BUF_ALLOC, "the guest made us hold more than we granted");
    if before == Phase::Over {
        assert_eq!(flow.phase(), Phase::Over, "what is over stays over");
    }
}

fn act(flow: &mut Flow, held: &mut u32, action: u8) {
    match action % 8 {
        0 => flow.on_forwarded(std::mem::take(held)),
        1 => {
            let half = *held / 2;
            *held -= half;
            flow.on_forwarded(half);
        }
        2 | 3 => {
            if let Some(op) = flow.control() {
                assert_ne!(flow.phase(), Phase::Over, "nothing is sent when it is over");
                flow.on_sent(op, 0);
            }
        }
        4 => {
            let room = flow.window();
            if room > 0 {
                flow.on_sent(Op::Data, room);
                assert_eq!(flow.window(), 0, "no more than the guest has room for");
            }
        }
        5 => flow.on_host_finished(),
        6 => flow.on_host_deaf(),
        _ => flow.on_starved(),
    }
}
