//! What a guest that breaks the rules gets.

use super::*;
use crate::vhost_user::testing::{Descriptor, INDIRECT, NEXT};
use crate::vhost_user::vsock::table::{MAX_CONNECTIONS, MAX_RESETS};

#[test]
fn the_guest_cannot_dial() {
    let mut bench = Bench::new();
    let request = Header {
        src_cid: CID,
        dst_cid: HOST_CID,
        src_port: 5,
        dst_port: 22,
        kind: 1,
        op: REQUEST,
        buf_alloc: 1 << 20,
        ..Header::default()
    };
    bench.send(&request, &[]);
    let (header, _) = bench.receive().unwrap();
    assert_eq!((header.op, header.src_port, header.dst_port), (RST, 22, 5));
    // Nor as if it were an answer, nor on top of a connection that the host made.
    bench.send(
        &Header {
            op: RESPONSE,
            ..request
        },
        &[],
    );
    assert_eq!(bench.ops(), [RST]);
    let (mut host, peer) = bench.connect(1 << 20);
    bench.send(
        &Header {
            op: REQUEST,
            ..peer
        },
        &[],
    );
    assert_eq!(bench.ops(), [RST]);
    assert!(at_end(&mut host));
}

#[test]
fn a_flood_of_requests_is_answered_within_a_bound() {
    let mut bench = Bench::with_buffers(0);
    let request = Header {
        src_cid: CID,
        dst_cid: HOST_CID,
        src_port: 5,
        kind: 1,
        op: REQUEST,
        ..Header::default()
    };
    for dst_port in 0..10_000 {
        bench.send(
            &Header {
                dst_port,
                ..request
            },
            &[],
        );
    }
    for i in 0..u64::from(QUEUE) {
        let addr = RX_BUFFERS + i * u64::from(RX_BUFFER);
        bench
            .rx
            .add(&bench.memory, &[(addr, RX_BUFFER, WRITE)])
            .unwrap();
    }
    bench.run();
    assert_eq!(bench.ops(), [RST; MAX_RESETS]);
}

#[test]
fn packets_of_nobody_are_reset_but_not_resets() {
    let mut bench = Bench::new();
    let (_host, peer) = bench.connect(1 << 20);
    let stranger = Header {
        src_port: PORT + 1,
        ..peer
    };
    for op in [RESPONSE, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST, 0, 99] {
        bench.send(&Header { op, ..stranger }, &[]);
        assert_eq!(bench.ops(), [RST], "operation {op}");
    }
    bench.send(
        &Header {
            op: RST,
            ..stranger
        },
        &[],
    );
    bench.send(
        &Header {
            op: RW,
            src_cid: 4,
            ..peer
        },
        &[],
    );
    assert_eq!(bench.receive(), None);
}

#[test]
fn a_guest_beyond_its_credit_is_reset() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    let chunk = vec![1; 64 * 1024];
    let mut ops = Vec::new();
    // Nobody reads: the socket takes some, then we hold as much as we granted, then it is enough.
    for _ in 0..32 {
        bench.data(peer, &chunk);
        ops.extend(bench.ops());
    }
    assert!(ops.contains(&RST), "{ops:?}");
    let mut held = Vec::new();
    while !at_end_or_more(&mut host, &mut held) {
        bench.run();
    }
    assert!(held.len() >= BUF_ALLOC as usize, "{}", held.len());
}

#[test]
fn connections_are_bounded_and_the_abandoned_make_room() {
    let mut bench = Bench::new();
    let mut held: Vec<_> = (0..MAX_CONNECTIONS).map(|_| bench.connect(4096)).collect();
    let (_host, answered) = bench.dial();
    let error = answered.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    // This one's guest never confirms.
    drop(held.pop());
    bench.run();
    assert_eq!(bench.ops(), [SHUTDOWN]);
    let (_host, answered) = bench.dial();
    assert!(answered.try_recv().is_err(), "waits for the guest");
    let mut ops = bench.ops();
    ops.sort_unstable();
    assert_eq!(ops, [REQUEST, RST]);
}

#[test]
fn a_packet_shorter_than_it_says_is_reset() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    for len in [5, 64 * 1024, u32::MAX] {
        bench.send(
            &Header {
                op: RW,
                len,
                ..peer
            },
            b"four",
        );
    }
    assert_eq!(bench.ops().first(), Some(&RST));
    assert_eq!(drain(&mut host), b"");
}

#[test]
fn broken_chains_are_given_back() {
    let mut bench = Bench::with_buffers(0);
    let (_host, _answered) = bench.dial();
    let outside = 0xffff_ffff_ffff_f000;
    let chains: [&[(u64, u32, u16)]; 6] = [
        &[(TX_BUFFER, 10, 0)],
        &[(TX_BUFFER, 0, 0)],
        &[(TX_BUFFER, 44, WRITE)],
        &[(outside, 44, 0)],
        &[(TX_BUFFER, 20, 0), (outside, u32::MAX, 0)],
        &[(8 * 1024 * 1024 - 10, 44, 0)],
    ];
    for chain in chains {
        for (driver, write) in [(&mut bench.tx, 0), (&mut bench.rx, WRITE)] {
            let chain: Vec<_> = chain.iter().map(|(a, l, f)| (*a, *l, f ^ write)).collect();
            driver.add(&bench.memory, &chain).unwrap();
        }
        bench.run();
        assert!(bench.tx.take(&bench.memory, chain.len()).is_some());
        assert_eq!(
            bench
                .rx
                .take(&bench.memory, chain.len())
                .map(|(_, len)| len),
            Some(0)
        );
    }
}

#[test]
fn descriptor_loops_end() {
    let mut bench = Bench::new();
    let (addr, len) = (TX_BUFFER, 0);
    // Around and around, without a byte and with indirection to itself.
    let lap = Descriptor {
        addr,
        len,
        flags: NEXT,
        next: 0,
    };
    bench.tx.store(&bench.memory, 0, lap);
    bench.tx.publish(&bench.memory, 0);
    bench.run();
    assert!(bench.tx.take(&bench.memory, 0).is_some());
    let own = Descriptor {
        addr: 0x1_0000,
        len: 16,
        flags: INDIRECT,
        next: 0,
    };
    bench.tx.store(&bench.memory, 0, own);
    bench.tx.publish(&bench.memory, 0);
    bench.run();
    assert!(bench.tx.take(&bench.memory, 0).is_some());
    bench.tx.store(
        &bench.memory,
        0,
        Descriptor {
            addr,
            len: 64 * 1024,
            flags: NEXT,
            next: 0,
        },
    );
    bench.tx.publish(&bench.memory, 0);
    bench.run();
    assert!(bench.tx.take(&bench.memory, 0).is_some());
}

#[test]
fn a_ring_that_claims_too_much_stops() {
    let mut bench = Bench::new();
    bench.tx.set_available(&bench.memory, 5000);
    bench.run();
    assert_eq!(bench.tx.take(&bench.memory, 0), None);
    // A head outside of the queue.
    let mut bench = Bench::new();
    bench.tx.publish(&bench.memory, 9999);
    bench.run();
    assert_eq!(bench.tx.take(&bench.memory, 0), None);
}
