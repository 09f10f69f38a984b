//! Queues that flow control does not cover.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::Request;
use matchlock_intercept::hooks::Rules;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::bench::{Bench, Guest, bounded};
use super::raw::{self, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, frame};

const INTERIMS: usize = 16;

const GET: &str = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";

#[tokio::test]
async fn interim_responses_over_http1_are_counted() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    for (count, status) in [(INTERIMS, "200"), (INTERIMS + 1, "502"), (100_000, "502")] {
        let bench = Bench::new();
        let mut answer = interim.repeat(count);
        answer += "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let mut guest = bench.connect_to(raw::h1(answer.into_bytes()));
        guest.send(GET).await;
        for _ in 0..INTERIMS {
            assert!(guest.until("\r\n\r\n").await.starts_with("HTTP/1.1 103"));
        }
        let head = guest.response().await.0;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{count}: {head}");
    }
}

#[tokio::test]
async fn interim_responses_are_no_longer_than_a_head_together() {
    let bench = Bench::new();
    let interim = format!("HTTP/1.1 103 A\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    let mut guest = bench.connect_to(raw::h1(interim.repeat(2).into_bytes()));
    guest.send(GET).await;
    assert!(guest.until("\r\n\r\n").await.starts_with("HTTP/1.1 103"));
    assert!(guest.until("\r\n\r\n").await.starts_with("HTTP/1.1 502"));
    let error = bench.responses().remove(0).1.expect("an error");
    assert!(error.contains("interim responses"), "{error}");
}

type Client = (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>);

/// A guest of HTTP/2.
async fn connect(bench: &Bench, upstream: DuplexStream) -> Client {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    let (send, connection) = bounded(h2::client::handshake(near)).await.unwrap();
    (send, tokio::spawn(connection))
}

fn get() -> Request<()> {
    let uri = "https://api.example.com/";
    Request::builder().uri(uri).version(http::Version::HTTP_2).body(()).unwrap()
}

#[tokio::test]
async fn interim_responses_over_http2_are_counted() {
    for (count, status) in [(INTERIMS, 200), (INTERIMS + 1, 502), (100_000, 502)] {
        let bench = Bench::new();
        let interim = raw::fields(&[(":status", "103"), ("link", "</a>")]);
        let mut answer = frame(HEADERS, END_HEADERS, 1, &interim).repeat(count);
        let last = raw::field(":status", "200");
        answer.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &last));
        let (send, _connection) = connect(&bench, raw::h2(answer, 1)).await;
        let mut send = bounded(send.ready()).await.unwrap();
        let (mut response, _) = send.send_request(get(), true).unwrap();
        let mut interims = 0;
        while let Some(interim) = bounded(poll_fn(|cx| response.poll_informational(cx))).await {
            assert_eq!(interim.unwrap().status(), 103);
            interims += 1;
        }
        assert_eq!(interims, INTERIMS);
        assert_eq!(bounded(response).await.unwrap().status(), status, "{count}");
    }
}

/// A request on a stream.
fn ask(stream: u32) -> Vec<u8> {
    let head = raw::fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "api.example.com"),
    ]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
}

/// A guest of HTTP/2 that asks for something with the largest window there is, and then reads
/// nothing any more.
async fn ask_and_read_nothing(bench: &Bench, upstream: DuplexStream) -> DuplexStream {
    let (mut guest, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    let window = [&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let hello = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &window),
        frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()),
        ask(1),
    ];
    guest.write_all(&hello.concat()).await.unwrap();
    guest
}

/// How much of something without end is taken. All is in memory and in one thread: what a thousand
/// turns of everybody else do not take, nobody takes.
async fn taken(write: &mut (impl AsyncWriteExt + Unpin), part: &[u8]) -> usize {
    taken_of(write, |_| part.to_vec()).await
}

/// The same of parts that differ.
async fn taken_of(
    write: &mut (impl AsyncWriteExt + Unpin),
    part: impl Fn(usize) -> Vec<u8>,
) -> usize {
    let mut taken = 0;
    loop {
        let part = part(taken);
        let mut writing = pin!(write.write_all(&part));
        let mut turns = 0;
        loop {
            match poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await {
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(_)) => return taken,
                Poll::Pending if turns == 1000 => return taken,
                Poll::Pending => turns += 1,
            }
            tokio::task::yield_now().await;
        }
        taken += 1;
        assert!(taken < 1_000_000, "it does not end");
    }
}

#[tokio::test]
async fn short_frames_of_data_do_not_pile_up_for_a_guest_that_does_not_read() {
    let bench = Bench::new();
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let _guest = ask_and_read_nothing(&bench, near).await;
    far.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    let head = raw::field(":status", "200");
    let (mut read, mut write) = tokio::io::split(far);
    // The request is there before it is answered.
    let mut seen = Vec::new();
    while !seen.windows(5).any(|five| five == [HEADERS, END_HEADERS | END_STREAM, 0, 0, 0]) {
        assert_ne!(read.read_buf(&mut seen).await.unwrap(), 0);
    }
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    write.write_all(&frame(HEADERS, END_HEADERS, 1, &head)).await.unwrap();
    let taken = taken(&mut write, &frame(DATA, 0, 1, b"x")).await;
    // What h2 lets a receiver keep waiting, our places, and the streams between.
    assert!(taken < 20_000, "{taken} frames");
}

#[tokio::test]
async fn pings_of_a_guest_that_does_not_read_hold_it_back() {
    let bench = Bench::new();
    let mut guest = ask_and_read_nothing(&bench, raw::h2(Vec::new(), 0)).await;
    let taken = taken(&mut guest, &frame(PING, 0, 0, &[7; 8])).await;
    assert!(taken < 50_000, "{taken} frames");
}

#[tokio::test]
async fn pings_of_a_server_that_does_not_read_hold_it_back() {
    let bench = Bench::new();
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let _guest = ask_and_read_nothing(&bench, near).await;
    far.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    for kind in [PING, SETTINGS] {
        let payload: &[u8] = if kind == PING { &[7; 8] } else { &[] };
        let taken = taken(&mut far, &frame(kind, 0, 0, payload)).await;
        assert!(taken < 50_000, "{taken} frames of type {kind}");
    }
}

/// A server that takes back every stream that is opened.
async fn reset_all(mut far: DuplexStream) -> std::io::Result<()> {
    far.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    far.read_exact(&mut [0; 24]).await?;
    loop {
        let mut head = [0; 9];
        far.read_exact(&mut head).await?;
        let [a, b, c, kind, _, stream @ ..] = head;
        far.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize]).await?;
        if kind == HEADERS {
            let stream = u32::from_be_bytes(stream);
            far.write_all(&frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes())).await?;
        }
    }
}

#[tokio::test]
async fn resets_of_a_server_do_not_pile_up_for_a_guest_that_does_not_read() {
    let bench = Bench::new();
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(reset_all(far));
    let mut guest = ask_and_read_nothing(&bench, near).await;
    let stream = |asked: usize| u32::try_from(2 * asked + 3).unwrap();
    let taken = taken_of(&mut guest, |asked| ask(stream(asked))).await;
    // What fills the stream to the guest, 13 bytes each, and what h2 lets wait beyond.
    assert!(taken < 50_000, "{taken} requests");
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n";

/// A guest that has asked for something, and the server that has answered with this head.
async fn answered(bench: &Bench, request: &str, head: &str) -> (Guest, DuplexStream) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let mut guest = bench.connect_to(near);
    guest.send(request).await;
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert_ne!(bounded(far.read_buf(&mut read)).await.unwrap(), 0);
    }
    far.write_all(head.as_bytes()).await.unwrap();
    guest.until("\r\n\r\n").await;
    (guest, far)
}

#[tokio::test]
async fn a_side_of_a_websocket_that_does_not_read_holds_the_other_back() {
    let head = "HTTP/1.1 101 A\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for of_server in [true, false] {
        let bench = Bench::new();
        let (mut guest, mut far) = answered(&bench, UPGRADE, head).await;
        let from = if of_server { &mut far } else { &mut guest.io };
        let taken = taken(from, &[0x82; 1024]).await;
        assert!(taken < 512, "{taken} KiB, of the server: {of_server}");
    }
}

#[tokio::test]
async fn events_wait_for_a_guest_that_does_not_read() {
    let head = "HTTP/1.1 200 A\r\nContent-Type: text/event-stream\r\n\r\n";
    let event = format!("data: {}\n\n", "x".repeat(1016));
    let edited = json!([{"phase": "after", "body_replacements": [{"find": "x", "replace": "y"}]}]);
    for rules in [Rules::default(), super::hooks::rules(edited)] {
        let bench = Bench::with(rules, None, true);
        let (_guest, mut far) = answered(&bench, GET, head).await;
        let taken = taken(&mut far, event.as_bytes()).await;
        assert!(taken < 1024, "{taken} KiB");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_rules_of_http2_gives_no_whole_response() {
    const PUSH_PROMISE: u8 = 5;
    const WINDOW_UPDATE: u8 = 8;
    const CONTINUATION: u8 = 9;
    let window = |by: u32| frame(WINDOW_UPDATE, 0, 0, &by.to_be_bytes());
    let head = raw::field(":status", "200");
    let whole = frame(HEADERS, END_HEADERS, 1, &head);
    let long = raw::field("x", &"y".repeat(120)).repeat(100);
    let promise = [&2_u32.to_be_bytes()[..], &raw::field(":method", "GET")].concat();
    let trailers = [
        frame(HEADERS, END_STREAM, 1, &long),
        frame(CONTINUATION, 0, 1, &long).repeat(9),
        frame(CONTINUATION, END_HEADERS, 1, &long),
    ];
    for (what, answer) in [
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &promise)),
        ("resets without end", frame(RST_STREAM, 0, 1, &[0; 4]).repeat(1_000_000)),
        ("a window of nothing", window(0)),
        ("windows beyond the largest", window(0x7fff_ffff).repeat(2)),
        ("a head that does not end", {
            let more = frame(CONTINUATION, 0, 1, &long).repeat(10_000);
            [frame(HEADERS, 0, 1, &head), more].concat()
        }),
        ("a head of empty parts", {
            let more = frame(CONTINUATION, 0, 1, &[]).repeat(1_000_000);
            [frame(HEADERS, 0, 1, &head), more].concat()
        }),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &head)),
        ("long trailers", [whole.clone(), trailers.concat()].concat()),
    ] {
        let bench = Bench::new();
        let (send, _connection) = connect(&bench, raw::h2(answer, 1)).await;
        let mut send = bounded(send.ready()).await.unwrap();
        let (response, _) = send.send_request(get(), true).unwrap();
        if let Ok(response) = bounded(response).await
            && response.status() == 200
        {
            let mut body = response.into_body();
            while let Some(Ok(_)) = bounded(body.data()).await {}
            assert!(bounded(body.trailers()).await.is_err(), "{what}");
        }
        let ended = || bench.responses().first().is_some_and(|response| response.1.is_some());
        super::bench::eventually(what, ended).await;
    }
}
