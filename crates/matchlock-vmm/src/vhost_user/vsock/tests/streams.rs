//! What a guest that keeps the rules sees.

use std::io::{self, Write};
use std::net::Shutdown;

use vm_memory::{Bytes, GuestAddress};

use super::*;

#[test]
fn bytes_go_both_ways() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    host.write_all(b"to the guest").unwrap();
    bench.run();
    let (header, payload) = bench.receive().unwrap();
    assert_eq!((header.op, payload.as_slice()), (RW, &b"to the guest"[..]));
    bench.data(peer, b"to the host");
    assert_eq!(drain(&mut host), b"to the host");
}

#[test]
fn a_refused_connection_is_told() {
    let mut bench = Bench::new();
    let (_host, answered) = bench.dial();
    let (request, _) = bench.receive().unwrap();
    let (src_port, dst_port) = (PORT, request.src_port);
    let peer = Header {
        src_cid: CID,
        dst_cid: HOST_CID,
        src_port,
        dst_port,
        kind: 1,
        ..request
    };
    bench.send(&Header { op: RST, ..peer }, &[]);
    let error = answered.try_recv().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(bench.receive(), None);
}

#[test]
fn a_connection_given_up_before_it_was_sent_leaves_no_trace() {
    let mut bench = Bench::with_buffers(0);
    let (host, _answered) = bench.dial();
    drop(host);
    bench.run();
    bench
        .rx
        .add(&bench.memory, &[(RX_BUFFERS, RX_BUFFER, WRITE)])
        .unwrap();
    bench.run();
    assert_eq!(bench.receive(), None);
}

#[test]
fn a_connection_given_up_after_it_was_sent_is_reset() {
    let mut bench = Bench::new();
    let (host, _answered) = bench.dial();
    drop(host);
    bench.run();
    assert_eq!(bench.ops(), [REQUEST, RST]);
}

#[test]
fn the_request_waits_for_the_guest() {
    let mut bench = Bench::with_buffers(0);
    let (_host, answered) = bench.dial();
    assert!(answered.try_recv().is_err());
    bench
        .rx
        .add(&bench.memory, &[(RX_BUFFERS, RX_BUFFER, WRITE)])
        .unwrap();
    bench.run();
    assert_eq!(bench.ops(), [REQUEST]);
}

#[test]
fn the_guests_credit_is_respected() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(10_000);
    host.write_all(&[7; 25_000]).unwrap();
    bench.run();
    let mut sent = 0;
    let mut last = 0;
    while let Some((header, payload)) = bench.receive() {
        sent += payload.len();
        last = header.op;
    }
    // All of the credit, then one question for more.
    assert_eq!((sent, last), (10_000, CREDIT_REQUEST));
    bench.send(
        &Header {
            op: CREDIT_UPDATE,
            fwd_cnt: 4000,
            ..peer
        },
        &[],
    );
    let more: usize = std::iter::from_fn(|| bench.receive())
        .map(|(_, data)| data.len())
        .sum();
    assert_eq!(more, 4000);
}

#[test]
fn what_the_host_reads_late_is_kept_and_credited() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    let sent: Vec<u8> = (0..BUF_ALLOC).map(|i| (i % 251) as u8).collect();
    for chunk in sent.chunks(60_000) {
        bench.data(peer, chunk);
    }
    let mut read = Vec::new();
    while read.len() < sent.len() {
        let part = drain(&mut host);
        assert!(!part.is_empty());
        read.extend(part);
        bench.run();
    }
    assert!(read == sent);
    let last = std::iter::from_fn(|| bench.receive())
        .last()
        .expect("a credit update")
        .0;
    assert_eq!(last.op, CREDIT_UPDATE);
    assert!(BUF_ALLOC - last.fwd_cnt < BUF_ALLOC / 2, "{}", last.fwd_cnt);
}

#[test]
fn a_credit_request_is_answered() {
    let mut bench = Bench::new();
    let (_host, peer) = bench.connect(1 << 20);
    bench.send(
        &Header {
            op: CREDIT_REQUEST,
            ..peer
        },
        &[],
    );
    let (header, _) = bench.receive().unwrap();
    assert_eq!((header.op, header.buf_alloc), (CREDIT_UPDATE, BUF_ALLOC));
}

#[test]
fn the_host_half_closes() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    host.write_all(b"last words").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    bench.run();
    assert_eq!(bench.receive().unwrap().1, b"last words");
    let (header, _) = bench.receive().unwrap();
    assert_eq!((header.op, header.flags), (SHUTDOWN, 2));
    bench.data(peer, b"answer");
    assert_eq!(drain(&mut host), b"answer");
}

#[test]
fn the_guest_half_closes() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    bench.data(peer, b"last words");
    bench.send(
        &Header {
            op: SHUTDOWN,
            flags: 2,
            ..peer
        },
        &[],
    );
    assert_eq!(drain(&mut host), b"last words");
    assert!(at_end(&mut host));
    host.write_all(b"answer").unwrap();
    bench.run();
    assert_eq!(bench.receive().unwrap().1, b"answer");
    // More data now breaks the guest's word.
    bench.data(peer, b"!");
    assert_eq!(bench.ops(), [RST]);
}

#[test]
fn the_guest_stops_listening() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    bench.send(
        &Header {
            op: SHUTDOWN,
            flags: 1,
            ..peer
        },
        &[],
    );
    assert_eq!(
        host.write(b"x").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    bench.data(peer, b"still talking");
    assert_eq!(drain(&mut host), b"still talking");
}

#[test]
fn the_guest_closes_with_data_on_its_way() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    let sent = vec![3; BUF_ALLOC as usize];
    for chunk in sent.chunks(64 * 1024) {
        bench.data(peer, chunk);
    }
    bench.send(
        &Header {
            op: SHUTDOWN,
            flags: 3,
            ..peer
        },
        &[],
    );
    assert_eq!(bench.ops().last(), Some(&RST), "confirmed");
    let mut read = Vec::new();
    while !at_end_or_more(&mut host, &mut read) {
        bench.run();
    }
    assert_eq!(read.len(), sent.len());
}

#[test]
fn the_host_closes() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    host.write_all(b"last words").unwrap();
    drop(host);
    bench.run();
    let packets: Vec<_> = std::iter::from_fn(|| bench.receive()).collect();
    let data: Vec<u8> = packets.iter().flat_map(|(_, data)| data.clone()).collect();
    assert_eq!(data, b"last words");
    let (last, _) = packets.last().unwrap();
    assert_eq!((last.op, last.flags), (SHUTDOWN, 3));
    bench.data(peer, b"nobody hears this");
    bench.send(&Header { op: RST, ..peer }, &[]);
    bench.data(peer, b"nor this");
    assert_eq!(bench.ops(), [RST], "the connection is gone");
}

#[test]
fn a_guest_reset_ends_the_stream_after_its_data() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    bench.data(peer, b"before");
    bench.send(&Header { op: RST, ..peer }, &[]);
    assert_eq!(drain(&mut host), b"before");
    assert!(at_end(&mut host));
    assert_eq!(
        host.write(b"x").unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert_eq!(bench.receive(), None);
}

#[test]
fn a_packet_may_be_cut_anywhere() {
    let mut bench = Bench::new();
    let (mut host, peer) = bench.connect(1 << 20);
    let payload = b"split over many descriptors";
    let header = Header {
        op: RW,
        len: payload.len() as u32,
        ..peer
    };
    let bytes = [&header.to_bytes()[..], payload].concat();
    bench
        .memory
        .write_slice(&bytes, GuestAddress(TX_BUFFER))
        .unwrap();
    for piece in [1, 7, 43, 44, 45] {
        let mut parts = Vec::new();
        for start in (0..bytes.len()).step_by(piece) {
            let len = piece.min(bytes.len() - start);
            parts.push((TX_BUFFER + start as u64, len as u32, 0));
        }
        bench.tx.add(&bench.memory, &parts).unwrap();
        bench.run();
        assert!(bench.tx.take(&bench.memory, parts.len()).is_some());
        assert_eq!(drain(&mut host), payload, "pieces of {piece}");
    }
}

#[test]
fn a_receive_buffer_may_be_cut_anywhere() {
    let mut bench = Bench::with_buffers(0);
    let (mut host, _) = bench.dial();
    let parts: Vec<_> = (0..6).map(|i| (RX_BUFFERS + 64 * i, 10, WRITE)).collect();
    bench.rx.add(&bench.memory, &parts).unwrap();
    bench.run();
    let (_, len) = bench.rx.take(&bench.memory, 6).unwrap();
    assert_eq!(len as usize, HEADER_LEN);
    let mut bytes = [0; 50];
    for (i, part) in bytes.chunks_mut(10).enumerate() {
        bench
            .memory
            .read_slice(part, GuestAddress(RX_BUFFERS + 64 * i as u64))
            .unwrap();
    }
    let request = Header::parse(bytes.first_chunk().unwrap());
    assert_eq!((request.op, request.dst_port), (REQUEST, PORT));
    let _ = host.write(b"x");
}
