use std::future::poll_fn;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::bench::{Bench, VALUE, bounded, eventually};
use crate::audit::{Decision, Event};
use matchlock_testkit::origin::{Version, pattern};

struct Client {
    send: SendRequest<Bytes>,
    server: JoinHandle<std::io::Result<()>>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

async fn connect(bench: &Bench) -> Client {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let upstream = TcpStream::connect(bench.origin.http()).await.unwrap();
    let server = tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(2 << 20);
    let (send, connection) = bounded(builder.handshake(near)).await.unwrap();
    Client { send, server, connection: tokio::spawn(connection) }
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("https://api.example.com{path}");
    Request::builder().method(method).uri(uri).version(http::Version::HTTP_2).body(()).unwrap()
}

impl Client {
    async fn start(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = bounded(self.send.clone().ready()).await.unwrap();
        send.send_request(request, ends).unwrap()
    }

    async fn get(&mut self, path: &str) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
        let (response, _) = self.start(request("GET", path), true).await;
        finish(bounded(response).await.unwrap()).await
    }
}

async fn finish(response: Response<RecvStream>) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let (parts, mut body) = response.into_parts();
    let mut all = Vec::new();
    while let Some(data) = bounded(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    let trailers = bounded(body.trailers()).await.unwrap();
    (Response::from_parts(parts, ()), all, trailers)
}

#[tokio::test]
async fn streams_share_a_connection() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let mut waiting = Vec::new();
    for i in 0..50 {
        waiting.push(client.start(request("GET", &format!("/echo?n={i}")), true).await.0);
    }
    for (i, response) in waiting.into_iter().enumerate() {
        let (head, body, _) = finish(bounded(response).await.unwrap()).await;
        assert_eq!(head.status(), 200);
        assert!(String::from_utf8_lossy(&body).contains(&format!("\"target\":\"/echo?n={i}\"")));
    }
    assert_eq!(bench.origin.connections(), 1);
    assert!(bench.origin.requests().iter().all(|r| r.version == Version::Http2));
    assert_eq!(bench.origin.last().authority.as_deref(), Some("api.example.com"));
    assert_eq!(bench.requests().len(), 50);
    eventually("all records", || bench.responses().len() == 50).await;
    drop(client.send);
    bounded(client.server).await.unwrap().unwrap();
    bounded(client.connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn grpc_like_exchanges_stream_and_end_with_trailers() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let mut head = request("POST", "/grpc");
    head.headers_mut().insert("te", "trailers".parse().unwrap());
    head.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let (response, mut body) = client.start(head, false).await;
    let response = bounded(response).await.unwrap();
    let (_, mut answer) = response.into_parts();
    for text in ["one", "two"] {
        body.send_data(Bytes::from(text), false).unwrap();
        assert_eq!(bounded(answer.data()).await.unwrap().unwrap(), text);
    }
    body.send_data(Bytes::new(), true).unwrap();
    while let Some(data) = bounded(answer.data()).await {
        assert_eq!(data.unwrap(), "");
    }
    let trailers = bounded(answer.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(bench.origin.last().header("te"), Some("trailers"));
}

#[tokio::test]
async fn request_trailers_and_interim_responses_pass() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let (response, mut body) = client.start(request("POST", "/reflect"), false).await;
    body.send_data(Bytes::from("abc"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    let (_, all, trailers) = finish(bounded(response).await.unwrap()).await;
    assert_eq!(
        (all.as_slice(), &trailers.unwrap()["x-sum"]),
        (&b"abc"[..], &"42".parse().unwrap())
    );

    let (mut response, _) = client.start(request("GET", "/early-hints"), true).await;
    let hints = bounded(poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.headers()["link"], "</style.css>; rel=preload");
    assert_eq!(finish(bounded(response).await.unwrap()).await.1, b"after the hints");
}

#[tokio::test]
async fn an_event_passes_before_the_next_one_is_there() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let (response, _) = client.start(request("GET", "/sse?n=2&wait"), true).await;
    let (_, mut body) = bounded(response).await.unwrap().into_parts();
    for _ in 0..2 {
        bench.origin.release(1);
        let event = bounded(body.data()).await.unwrap().unwrap();
        assert!(event.starts_with(b"event: tick"));
    }
}

#[tokio::test]
async fn heads_without_bodies_have_none() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let (response, _) = client.start(request("HEAD", "/bytes/5000"), true).await;
    let (head, body, _) = finish(bounded(response).await.unwrap()).await;
    assert_eq!((&head.headers()["content-length"], body.len()), (&"5000".parse().unwrap(), 0));
    assert_eq!(client.get("/status/204").await.0.status(), 204);
    assert_eq!(client.get("/bytes/1000").await.1, pattern(0, 1000));
}

#[tokio::test]
async fn every_stream_is_for_the_host_of_the_connection() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    assert_eq!(client.get("/echo").await.0.status(), 200);
    let mut other = request("GET", "/other");
    *other.uri_mut() = "https://other.example.com/other".parse().unwrap();
    let (response, _) = client.start(other, true).await;
    assert_eq!(bounded(response).await.unwrap().status(), 421);
    let mut two = request("GET", "/two");
    two.headers_mut().insert("host", "other.example.com".parse().unwrap());
    let (response, _) = client.start(two, true).await;
    assert_eq!(bounded(response).await.unwrap().status(), 400);
    let connect = Request::builder().method("CONNECT").uri("api.example.com:443").body(()).unwrap();
    let (response, _) = client.start(connect, true).await;
    assert_eq!(bounded(response).await.unwrap().status(), 405);
    // The connection goes on.
    assert_eq!(client.get("/echo").await.0.status(), 200);
    assert_eq!(bench.origin.requests().len(), 2);
    let denied = bench.requests().iter().filter(|r| r.1 == Decision::Denied).count();
    assert_eq!((bench.requests().len(), denied), (5, 3));
}

#[tokio::test]
async fn secrets_go_in_and_leaks_do_not() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let mut head = request("POST", &format!("/echo?k={}", bench.placeholder));
    let bearer = format!("Bearer {}", bench.placeholder);
    head.headers_mut().insert("authorization", bearer.parse().unwrap());
    let length = bench.placeholder.len();
    head.headers_mut().insert("content-length", length.into());
    let (response, mut body) = client.start(head, false).await;
    body.send_data(Bytes::from(bench.placeholder.clone()), true).unwrap();
    assert_eq!(bounded(response).await.unwrap().status(), 200);
    let seen = bench.origin.last();
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")));
    assert_eq!(seen.target, format!("/echo?k={VALUE}"));
    assert_eq!(seen.body, VALUE.as_bytes());

    let (response, _) = client.start(request("GET", &format!("/?k={}", bench.foreign)), true).await;
    assert_eq!(bounded(response).await.unwrap().status(), 403);
    let (response, mut body) = client.start(request("POST", "/upload"), false).await;
    body.send_data(Bytes::from(bench.foreign.clone()), true).unwrap();
    assert_eq!(bounded(response).await.unwrap().status(), 403);
    let leaks = bench.events().into_iter().filter(|e| matches!(e, Event::SecretLeak { .. }));
    assert_eq!(leaks.count(), 2);
    assert!(bench.origin.requests().iter().all(|r| !r.body.starts_with(bench.foreign.as_bytes())));
}

#[tokio::test]
async fn resets_pass_in_both_directions() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let (response, _) = client.start(request("GET", "/abort"), true).await;
    let error = bounded(response).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));

    let (response, mut body) = client.start(request("POST", "/reflect"), false).await;
    let (_, mut answer) = bounded(response).await.unwrap().into_parts();
    body.send_data(Bytes::from("abc"), false).unwrap();
    bounded(answer.data()).await.unwrap().unwrap();
    body.send_reset(Reason::CANCEL);
    drop((body, answer));
    eventually("a record", || bench.responses().len() == 2).await;
    assert!(bench.responses()[1].1.is_some());
    assert_eq!(client.get("/echo").await.0.status(), 200);
}

#[tokio::test]
async fn an_upstream_that_goes_drains_the_guest() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    assert_eq!(client.get("/echo").await.0.status(), 200);
    drop(bench.origin);
    bounded(client.server).await.unwrap().unwrap();
    let _ = bounded(client.connection).await.unwrap();
}

#[tokio::test]
async fn a_websocket_passes_over_a_stream() {
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    eventually("extended CONNECT", || client.send.is_extended_connect_protocol_enabled()).await;
    let mut head = request("CONNECT", "/ws");
    head.extensions_mut().insert(Protocol::from_static("websocket"));
    let (response, mut body) = client.start(head, false).await;
    let response = bounded(response).await.unwrap();
    assert_eq!(response.status(), 200);
    let (_, mut answer) = response.into_parts();
    let frame = [0x81, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3];
    body.send_data(Bytes::copy_from_slice(&frame), false).unwrap();
    assert_eq!(bounded(answer.data()).await.unwrap().unwrap(), &b"\x81\x03abc"[..]);
    body.send_data(Bytes::new(), true).unwrap();
    while let Some(data) = bounded(answer.data()).await {
        data.unwrap();
    }
    assert_eq!(bench.origin.last().method, "CONNECT");
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    const LENGTH: usize = 50_000_000;
    let bench = Bench::new();
    let mut client = connect(&bench).await;
    let (response, mut body) = client.start(request("POST", "/reflect"), false).await;
    let sending = tokio::spawn(async move {
        let mut left = LENGTH;
        while left > 0 {
            body.reserve_capacity(left.min(1 << 18));
            let ready = bounded(poll_fn(|cx| body.poll_capacity(cx))).await.unwrap().unwrap();
            let length = ready.min(left);
            left -= length;
            body.send_data(Bytes::from(vec![7; length]), left == 0).unwrap();
        }
    });
    let (_, mut answer) = bounded(response).await.unwrap().into_parts();
    let mut received = 0;
    while let Some(data) = bounded(answer.data()).await {
        let data = data.unwrap();
        received += data.len();
        answer.flow_control().release_capacity(data.len()).unwrap();
    }
    bounded(sending).await.unwrap();
    assert_eq!(received, LENGTH);
}

/// A frame (RFC 9113 section 4.1): type, flags, payload.
async fn frame(guest: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, u8, Vec<u8>) {
    use tokio::io::AsyncReadExt;
    let mut head = [0; 9];
    bounded(guest.read_exact(&mut head)).await.expect("a frame");
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    bounded(guest.read_exact(&mut payload)).await.expect("its payload");
    (kind, flags, payload)
}

#[tokio::test]
async fn a_guest_that_is_slow_to_acknowledge_settings_is_waited_for() {
    use tokio::io::AsyncWriteExt;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let bench = Bench::new();
    let (mut guest, far) = tokio::io::duplex(256 * 1024);
    let upstream = TcpStream::connect(bench.origin.http()).await.unwrap();
    let _server = tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    guest.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // Tunnels are to be had now, but our first settings are still without an answer.
    let ping = loop {
        match frame(&mut guest).await {
            (PING, 0, payload) => break payload,
            (kind, ..) => assert!(kind == SETTINGS || kind == 8, "frame of type {kind}"),
        }
    };
    guest.write_all(b"\0\0\0\x04\x01\0\0\0\0").await.unwrap();
    guest.write_all(&[&b"\0\0\x08\x06\x01\0\0\0\0"[..], &ping].concat()).await.unwrap();
    loop {
        match frame(&mut guest).await {
            // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3).
            (SETTINGS, flags, payload) if flags & ACK == 0 => {
                return assert_eq!(payload, [0, 8, 0, 0, 0, 1]);
            }
            (kind, flags, _) => assert!(kind != 7, "GOAWAY with flags {flags}"),
        }
    }
}
