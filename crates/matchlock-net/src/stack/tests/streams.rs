//! Flows: what the holder of a stream sees, and what the guest sees of what it does.

use std::io::ErrorKind;

use super::*;

#[test]
fn bytes_go_both_ways_and_each_side_closes_for_itself() {
    let mut bench = Bench::new(1500);
    let (mut peer, mut flow) = bench.open(1);
    assert_eq!((flow.src(), flow.dst()), (peer.from, peer.to));
    assert!(read(&mut flow, 10).is_pending());
    let frame = peer.frame(TcpControl::Psh, b"hello");
    assert_eq!(controls(&bench.send(&frame)), [TcpControl::None], "acknowledged at once");
    assert_eq!(ready(read(&mut flow, 3)), b"hel");
    assert_eq!(ready(read(&mut flow, 3)), b"lo");
    let frame = peer.frame(TcpControl::Fin, &[]);
    bench.send(&frame);
    assert_eq!(ready(read(&mut flow, 3)), b"");
    assert_eq!(ready(write(&mut flow, b"still")), 5);
    shut_down(&mut flow);
    let frames = bench.receive();
    let (_, last) = guest_frames::segment(frames.last().expect("frames")).expect("a segment");
    assert_eq!(last.control, TcpControl::Fin);
    assert_eq!(kind(write(&mut flow, b"no")), Some(ErrorKind::BrokenPipe));
    peer.learn(&last);
    let frame = peer.frame(TcpControl::None, &[]);
    assert!(bench.send(&frame).is_empty());
    assert_eq!(bench.core.flows(), 0);
    assert_eq!(ready(read(&mut flow, 3)), b"");
    drop(flow);
    assert!(bench.receive().is_empty(), "it ended in peace");
}

#[test]
fn our_end_of_file_leaves_the_guest_its_half() {
    let mut bench = Bench::new(1500);
    let (mut peer, mut flow) = bench.open(1);
    shut_down(&mut flow);
    let frames = bench.receive();
    assert_eq!(controls(&frames), [TcpControl::Fin]);
    peer.learn(&guest_frames::segment(&frames[0]).expect("a segment").1);
    let frame = peer.frame(TcpControl::None, b"more");
    bench.send(&frame);
    assert_eq!(ready(read(&mut flow, 9)), b"more");
    let frame = peer.frame(TcpControl::Fin, &[]);
    assert_eq!(controls(&bench.send(&frame)), [TcpControl::None]);
    assert_eq!(ready(read(&mut flow, 9)), b"");
    assert_eq!(bench.core.flows(), 0, "TIME-WAIT takes no room");
}

#[test]
fn what_is_written_before_the_handshake_is_complete_waits() {
    let mut bench = Bench::new(1500);
    let mut peer = Peer::new(&bench, 1);
    let syn = peer.frame(TcpControl::Syn, &[]);
    bench.send(&syn);
    let mut flow = bench.keeper.take().pop().expect("a flow").accept();
    assert!(write(&mut flow, b"early").is_pending());
    shut_down(&mut flow);
    let replies = bench.receive();
    assert_eq!(controls(&replies), [TcpControl::Syn]);
    peer.learn(&guest_frames::segment(&replies[0]).expect("a segment").1);
    let ack = peer.frame(TcpControl::None, &[]);
    assert_eq!(controls(&bench.send(&ack)), [TcpControl::Fin], "only after its acknowledgement");
}

#[test]
fn a_dropped_flow_is_reset() {
    let mut bench = Bench::new(1500);
    let (_, flow) = bench.open(1);
    drop(flow);
    assert_eq!(controls(&bench.receive()), [TcpControl::Rst]);
    assert_eq!(bench.core.flows(), 0);
    let (_, flow) = bench.open(1);
    flow.reset();
    assert_eq!(controls(&bench.receive()), [TcpControl::Rst]);
    assert_eq!(bench.core.flows(), 0);
}

#[test]
fn unread_data_of_the_guest_is_not_taken_for_delivered() {
    let mut bench = Bench::new(1500);
    let (mut peer, mut flow) = bench.open(1);
    let frame = peer.frame(TcpControl::Fin, b"unread");
    bench.send(&frame);
    shut_down(&mut flow);
    drop(flow);
    assert!(controls(&bench.receive()).contains(&TcpControl::Rst));
}

#[test]
fn a_reset_of_the_guest_is_an_error_after_what_came_before() {
    let mut bench = Bench::new(1500);
    let (mut peer, mut flow) = bench.open(1);
    let frame = peer.frame(TcpControl::None, b"last");
    bench.send(&frame);
    let frame = peer.frame(TcpControl::Rst, &[]);
    assert!(bench.send(&frame).is_empty());
    assert_eq!(bench.core.flows(), 0);
    assert_eq!(ready(read(&mut flow, 9)), b"last");
    assert_eq!(kind(read(&mut flow, 9)), Some(ErrorKind::ConnectionReset));
    assert_eq!(kind(write(&mut flow, b"x")), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_guest_that_vanishes_with_data_on_its_way_times_out() {
    let mut bench = Bench::new(1500);
    let (_, mut flow) = bench.open(1);
    assert_eq!(ready(write(&mut flow, b"anyone")), 6);
    for _ in 0..119 {
        bench.pass(1);
    }
    assert!(read(&mut flow, 1).is_pending());
    bench.pass(2);
    assert_eq!(kind(read(&mut flow, 1)), Some(ErrorKind::TimedOut));
    assert_eq!(bench.core.flows(), 0);
}

#[test]
fn an_idle_guest_that_answers_stays_and_one_that_vanished_goes() {
    let mut bench = Bench::new(1500);
    let (mut peer, mut healthy) = bench.open(1);
    let (_, mut vanished) = bench.open(2);
    for _ in 0..40 {
        for frame in bench.pass(20) {
            let (_, probe) = guest_frames::segment(&frame).expect("a segment");
            if probe.dst_port == 1 {
                let frame = peer.frame(TcpControl::None, &[]);
                bench.send(&frame);
            }
        }
    }
    assert!(read(&mut healthy, 1).is_pending());
    assert_eq!(kind(read(&mut vanished, 1)), Some(ErrorKind::TimedOut));
    assert_eq!(bench.core.flows(), 1);
}

#[test]
fn a_reader_that_stops_closes_the_window_and_loses_nothing() {
    let mut bench = Bench::new(1500);
    let (mut peer, mut flow) = bench.open(1);
    let chunk = [7; 1400];
    let mut sent = 0;
    loop {
        let frame = peer.frame(TcpControl::None, &chunk);
        let replies = bench.send(&frame);
        sent += chunk.len();
        let (_, reply) = guest_frames::segment(&replies[0]).expect("a segment");
        if usize::from(reply.window_len) << 2 < chunk.len() {
            break;
        }
    }
    assert!(sent > 256_000, "{sent}");
    // What does not fit is not acknowledged.
    let frame = peer.frame(TcpControl::None, &chunk);
    bench.send(&frame);
    let mut got = 0;
    while let Poll::Ready(data) = read(&mut flow, 10_000) {
        got += data.expect("no error").len();
    }
    assert!((sent..sent + chunk.len()).contains(&got));
    let update = bench.receive();
    let (_, update) =
        guest_frames::segment(update.last().expect("a window update")).expect("a segment");
    assert!(update.window_len > 30_000);
}

/// A SYN-ACK says 65535 and means it; smoltcp takes it for scaled. The ring is such that both are
/// safe.
#[test]
fn a_guest_that_ignores_the_first_window_finds_the_end_of_the_ring() {
    let mut bench = Bench::new(65520);
    for (port, offset) in (1..).zip([300_000, 262_140, 262_139, 262_000, 250_000, 600_000]) {
        let (mut peer, mut flow) = bench.open(port);
        let start = peer.seq;
        peer.seq = start + offset;
        let frame = peer.frame(TcpControl::None, &[1; 60_000]);
        bench.send(&frame);
        peer.seq = start;
        for _ in 0..5 {
            let frame = peer.frame(TcpControl::None, &[2; 60_000]);
            bench.send(&frame);
        }
        let mut got = 0;
        while let Poll::Ready(data) = read(&mut flow, 100_000) {
            got += data.expect("no error").len();
        }
        assert_eq!(got, 65535 << 2);
        drop(flow);
        assert!(controls(&bench.receive()).contains(&TcpControl::Rst));
    }
}

#[test]
fn a_guest_that_does_not_read_is_owed_a_bounded_amount() {
    let mut bench = Bench::new(65520);
    let mut flows: Vec<_> = (1..=20).map(|port| bench.open(port)).collect();
    let mut written = vec![0; flows.len()];
    for (index, (_, flow)) in flows.iter_mut().enumerate() {
        while let Poll::Ready(count) = write(flow, &[index as u8; 50_000]) {
            written[index] += count.expect("no error");
        }
        assert!(written[index] >= 65535 << 2);
    }
    let mut stream = bench.core.egress(1);
    assert!(bench.core.shared.egress.is_full());
    let mut got = vec![0; flows.len()];
    let mut quiet = 0;
    while quiet < 2 {
        let more = bench.core.egress(100_000);
        quiet = if more.is_empty() { quiet + 1 } else { 0 };
        stream.extend(more);
    }
    assert!(stream.len() < 20 * 300_000);
    for frame in guest_frames::frames(&stream) {
        let (_, segment) = guest_frames::segment(frame).expect("a segment");
        let index = usize::from(segment.dst_port) - 1;
        assert!(segment.payload.iter().all(|&byte| usize::from(byte) == index));
        got[index] += segment.payload.len();
    }
    assert_eq!(got, written, "each byte once: nothing was dropped and sent again");
}

#[test]
fn flows_end_with_the_stack() {
    let mut bench = Bench::new(1500);
    let (_, mut flow) = bench.open(1);
    let mut peer = Peer::new(&bench, 2);
    let syn = peer.frame(TcpControl::Syn, &[]);
    bench.send(&syn);
    let late = bench.keeper.take().pop().expect("a flow");
    drop(bench);
    assert_eq!(kind(read(&mut flow, 1)), Some(ErrorKind::ConnectionReset));
    assert_eq!(kind(read(&mut late.accept(), 1)), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_handshake_that_the_guest_gives_up_is_an_error() {
    let mut bench = Bench::new(1500);
    let mut peer = Peer::new(&bench, 1);
    let syn = peer.frame(TcpControl::Syn, &[]);
    bench.send(&syn);
    let mut flow = bench.keeper.take().pop().expect("a flow").accept();
    let reset = peer.frame(TcpControl::Rst, &[]);
    bench.send(&reset);
    assert_eq!(bench.core.flows(), 0);
    assert_eq!(kind(read(&mut flow, 1)), Some(ErrorKind::ConnectionReset));
}
