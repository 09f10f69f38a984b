use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bench::{Bench, Guest, bounded, eventually};
use crate::audit::Decision;
use crate::http::ProxyHop;
use crate::http::h1::Limits;
use matchlock_intercept::headers::HeaderValue;
use matchlock_testkit::origin::pattern;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    for path in
        ["/echo?a=1", "/chunked?n=2", "/bytes/100000", "/status/204", "/status/304", "/echo"]
    {
        guest.send(get(path)).await;
        let (head, _) = guest.response().await;
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        assert!(!head.contains("close"), "{path}: {head}");
    }
    assert_eq!(bench.origin.connections(), 1);
    guest.close().await.unwrap();
    assert_eq!(bench.requests().len(), 6);
    assert_eq!(bench.responses().len(), 6);
    assert!(bench.requests().iter().all(|r| r.1 == Decision::Allowed));
}

#[tokio::test]
async fn heads_arrive_as_they_were_sent() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest
        .send(
            "POST /echo HTTP/1.1\r\nHost: api.example.com\r\nX-oDD: a  b\r\nAccept: x\r\n\
             Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Odd: c\r\ncontent-length: 2\r\n\r\nhi",
        )
        .await;
    let (_, body) = guest.response().await;
    assert!(String::from_utf8_lossy(&body).contains(r#""body":"hi""#));
    assert_eq!(
        String::from_utf8_lossy(&bench.origin.last().head),
        "POST /echo HTTP/1.1\r\nHost: api.example.com\r\nX-oDD: a  b\r\nAccept: x\r\n\
         X-Odd: c\r\ncontent-length: 2\r\n\r\n"
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::new();
    let guest = bench.connect().await;
    let all: String = (0..300).map(|i| get(&format!("/echo?n={i}"))).collect();
    let (mut read, mut write) = tokio::io::split(guest.io);
    let sending = tokio::spawn(async move {
        write.write_all(all.as_bytes()).await.unwrap();
        write
    });
    let mut seen = String::new();
    let mut next = 0;
    while next < 300 {
        let mut more = [0; 4096];
        let n = bounded(read.read(&mut more)).await.unwrap();
        assert_ne!(n, 0);
        seen += &String::from_utf8_lossy(&more[..n]);
        while let Some(at) = seen.find(&format!("\"target\":\"/echo?n={next}\"")) {
            seen.drain(..at);
            next += 1;
        }
    }
    drop((bounded(sending).await.unwrap(), read));
    bounded(guest.server).await.unwrap().unwrap();
    // The trail has each of them, and how each of them ended.
    assert_eq!((bench.requests().len(), bench.responses().len()), (300, 300));
    assert_eq!(bench.origin.requests().len(), 300);
}

#[tokio::test]
async fn a_body_waits_for_100_continue() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest
        .send(
            "POST /upload HTTP/1.1\r\nHost: api.example.com\r\nExpect: 100-continue\r\n\
             Content-Length: 5\r\n\r\n",
        )
        .await;
    assert_eq!(guest.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    guest.send("hello").await;
    let (head, body) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 200"));
    assert!(String::from_utf8_lossy(&body).contains(r#""length":5"#));
}

#[tokio::test]
async fn a_refused_body_is_answered_early() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest
        .send(
            "POST /refuse HTTP/1.1\r\nHost: api.example.com\r\nExpect: 100-continue\r\n\
             Content-Length: 500000000\r\n\r\n",
        )
        .await;
    let (head, body) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(body, b"too much");
    assert_eq!(guest.rest().await, b"");
}

#[tokio::test]
async fn early_hints_pass() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/early-hints")).await;
    let hints = guest.until("\r\n\r\n").await;
    assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\nLink: </style.css>"), "{hints}");
    assert_eq!(guest.response().await.1, b"after the hints");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest
        .send(
            "POST /reflect HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\
             TE: trailers\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n",
        )
        .await;
    let text = guest.until("X-Sum: 42\r\n\r\n").await;
    assert!(text.contains("3\r\nabc\r\n0\r\n"), "{text}");
    assert_eq!(bench.origin.last().trailers, [("X-Sum".into(), "42".into())]);
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest
        .send(
            "POST /reflect HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
    guest.until("\r\n\r\n").await;
    for text in ["one", "two", "six"] {
        guest.send(format!("3\r\n{text}\r\n")).await;
        assert_eq!(guest.until("\r\n").await, "3\r\n");
        assert_eq!(guest.until("\r\n").await, format!("{text}\r\n"));
    }
    guest.send("0\r\n\r\n").await;
    guest.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn an_event_passes_before_the_next_one_is_there() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/sse?n=2&wait")).await;
    guest.until("\r\n\r\n").await;
    bench.origin.release(1);
    guest.until("\"id\":0").await;
    bench.origin.release(1);
    guest.until("\"id\":1").await;
    guest.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn heads_without_bodies_have_none() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send("HEAD /bytes/5000 HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await;
    let head = guest.until("\r\n\r\n").await;
    assert!(head.contains("Content-Length: 5000"), "{head}");
    guest.send(get("/status/204")).await;
    let head = guest.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 204") && !head.contains("ength"), "{head}");
    guest.send(get("/bytes/3")).await;
    assert_eq!(guest.response().await.1, pattern(0, 3));
}

#[tokio::test]
async fn either_side_may_close() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    for path in ["/close", "/until-close", "/stale", "/echo"] {
        guest.send(get(path)).await;
        let (head, body) = guest.response().await;
        assert!(head.starts_with("HTTP/1.1 200") && !body.is_empty(), "{path}: {head}");
    }
    guest.send("GET /echo HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n").await;
    let (head, _) = guest.response().await;
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(guest.rest().await, b"");
    guest.close().await.unwrap();
    assert_eq!(bench.requests().len(), 5);
}

#[tokio::test]
async fn http10_is_answered_until_close() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send("GET /chunked?n=2 HTTP/1.0\r\nHost: api.example.com\r\n\r\n").await;
    let all = String::from_utf8(guest.rest().await).unwrap();
    assert!(all.contains("Connection: close\r\n") && !all.contains("chunked\r\n"), "{all}");
    assert!(all.ends_with("\r\n\r\nchunk 0\nchunk 1\n"), "{all}");
}

#[tokio::test]
async fn a_cut_off_response_is_cut_off_for_the_guest() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/truncate")).await;
    let head = guest.until("\r\n\r\n").await;
    assert!(head.contains("Content-Length: 100"), "{head}");
    assert_eq!(guest.rest().await, b"0123456789");
    bounded(guest.server).await.unwrap().unwrap_err();
    let (status, error) = bench.responses().remove(0);
    assert!(status == 200 && error.is_some(), "{error:?}");
}

#[tokio::test]
async fn no_answer_is_a_bad_gateway() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/abort")).await;
    let (head, _) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
}

#[tokio::test]
async fn websocket_frames_pass() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    let frame = [0x81, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3];
    let mut all = b"GET /ws HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"
        .to_vec();
    all.extend(frame);
    guest.send(&all).await;
    let head = guest.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("Upgrade: websocket") && head.contains("Connection: Upgrade"), "{head}");
    assert_eq!(guest.exactly(5).await, b"\x81\x03abc");
    guest.send(frame).await;
    assert_eq!(guest.exactly(5).await, b"\x81\x03abc");
    guest.close().await.unwrap();
    assert_eq!(bench.responses(), [(101, None)]);
}

#[tokio::test]
async fn large_bodies_pass_in_both_directions() {
    const LENGTH: usize = 50_000_000;
    let bench = Bench::new();
    let guest = bench.connect().await;
    let Guest { io, server, .. } = guest;
    let (mut read, mut write) = tokio::io::split(io);
    let sending = tokio::spawn(async move {
        let head = format!(
            "POST /reflect HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: {LENGTH}\r\n\
             Connection: close\r\n\r\n"
        );
        write.write_all(head.as_bytes()).await.unwrap();
        let block = vec![7; 500_000];
        for _ in 0..LENGTH / block.len() {
            write.write_all(&block).await.unwrap();
        }
        write
    });
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = bounded(read.read(&mut buffer)).await.unwrap();
        if n == 0 {
            break;
        }
        received += n;
    }
    drop(bounded(sending).await.unwrap());
    bounded(server).await.unwrap().unwrap();
    assert!(received > LENGTH, "{received}");
    assert_eq!(bench.origin.last().body_length, LENGTH as u64);
}

#[tokio::test]
async fn another_host_on_the_same_connection_is_misdirected() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/echo")).await;
    guest.response().await;
    guest.send("GET /other HTTP/1.1\r\nHost: other.example.com\r\n\r\n").await;
    let (head, _) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 421"), "{head}");
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(guest.rest().await, b"");
    assert_eq!(bench.origin.requests().len(), 1);
    assert_eq!(bench.requests()[1].1, Decision::Denied);
    assert_eq!(bench.shared.refusals().0.len(), 1);
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused() {
    let bench = Bench::new();
    let host = "Host: api.example.com\r\n";
    let table = [
        format!("GET / HTTP/1.1\r\n{host}Host: other.example.com\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
        "GET / HTTP/1.1\r\n\r\n".into(),
        format!("GET http://other.example.com/ HTTP/1.1\r\n{host}\r\n"),
        "GET http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n".into(),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"),
        format!("GET / HTTP/1.1\n{host}\r\n"),
        "GET / HTTP/1.1\r\nHost: api.example.com@evil.example\r\n\r\n".into(),
        "\u{16}\u{3}\u{1}nonsense\r\n\r\n".into(),
    ];
    for text in &table {
        let mut guest = bench.connect().await;
        guest.send(text).await;
        let (head, _) = guest.response().await;
        assert!(head.starts_with("HTTP/1.1 400"), "{text:?}: {head}");
        assert!(head.contains("Connection: close"), "{head}");
    }
    let mut guest = bench.connect().await;
    guest.send("CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n").await;
    assert!(guest.response().await.0.starts_with("HTTP/1.1 405"));
    assert!(bench.origin.requests().is_empty());
    assert_eq!(bench.requests().len(), table.len() + 1);
    assert!(bench.requests().iter().all(|r| r.1 == Decision::Denied));
}

#[tokio::test]
async fn a_new_policy_counts_from_the_next_request_on() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/echo")).await;
    assert!(guest.response().await.0.starts_with("HTTP/1.1 200"));
    let (without, removed) = bench.shared.policy().with_removed(&["api.example.com".to_owned()]);
    assert_eq!(removed.len(), 1);
    bench.shared.replace_policy(without);
    guest.send(get("/echo")).await;
    let (head, body) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(body, b"Blocked by policy");
    assert_eq!(bench.origin.requests().len(), 1);
}

#[tokio::test]
async fn nothing_passes_without_an_audit_trail() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/echo")).await;
    guest.response().await;
    bench.log.broken.store(true, Ordering::SeqCst);
    guest.send(get("/echo")).await;
    assert_eq!(guest.rest().await, b"");
    bounded(guest.server).await.unwrap().unwrap_err();
    assert_eq!(bench.origin.requests().len(), 1);
}

#[tokio::test]
async fn a_guest_that_goes_away_ends_the_exchange() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get("/sse?n=2&wait")).await;
    guest.until("\r\n\r\n").await;
    drop(guest.io);
    bench.origin.release(2);
    let _ = bounded(guest.server).await.unwrap();
    eventually("a response record", || bench.responses().len() == 1).await;
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_whole() {
    let bench = Bench::new();
    let mut exchange = bench.exchange();
    exchange.tls = false;
    exchange.connection.sni = None;
    exchange.connection.address.set_port(80);
    let authorization = Some(HeaderValue::from_static("Basic dTpw"));
    exchange.proxy = Some(ProxyHop { authorization });
    let mut guest = bench.connect_as(exchange.clone()).await;
    let host = "Host: api.example.com\r\nProxy-Authorization: mine\r\n\r\n";
    guest.send(format!("GET /echo?x=1 HTTP/1.1\r\n{host}")).await;
    guest.response().await;
    let seen = bench.origin.last();
    assert_eq!(seen.target, "http://api.example.com/echo?x=1");
    assert_eq!(seen.header("proxy-authorization"), Some("Basic dTpw"));

    // An origin is not, whatever the guest writes.
    exchange.proxy = None;
    let mut guest = bench.connect_as(exchange).await;
    guest.send(format!("GET http://api.example.com/echo?x=2 HTTP/1.1\r\n{host}")).await;
    guest.response().await;
    let seen = bench.origin.last();
    assert_eq!((&*seen.target, seen.header("proxy-authorization")), ("/echo?x=2", None));
}

#[tokio::test]
async fn a_connection_to_nowhere_in_particular_is_not_served() {
    let bench = Bench::new();
    let mut exchange = bench.exchange();
    exchange.connection.bound = false;
    exchange.connection.sni = None;
    let mut guest = bench.connect_as(exchange).await;
    guest.send(get("/echo")).await;
    assert_eq!(guest.rest().await, b"");
    assert!(bench.origin.requests().is_empty());
}

#[tokio::test]
async fn a_slow_guest_holds_the_upstream_back() {
    const LENGTH: usize = 20_000_000;
    // The pipe of the test, and what is read, decoded and encoded at a time.
    const BOUND: u64 = 64 * 1024 + 256 * 1024;
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(get(&format!("/bytes/{LENGTH}"))).await;
    let mut taken = guest.until("\r\n\r\n").await.len() as u64;
    for _ in 0..LENGTH / 500_000 {
        taken += guest.exactly(500_000).await.len() as u64;
        // What the guest's end has read ahead is counted as taken.
        let ahead = guest.from_upstream.load(Ordering::SeqCst).saturating_sub(taken);
        assert!(ahead <= BOUND, "{ahead} bytes ahead of the guest");
    }
}

#[tokio::test]
async fn a_guest_may_not_take_for_ever() {
    let bench = Bench::new();
    let short = Duration::from_millis(50);
    let mut guest =
        bench.connect_within(Limits { head: short, ..Limits::default() }, bench.exchange()).await;
    guest.send("GET /echo HTTP/1.1\r\nHost: api").await;
    assert_eq!(guest.rest().await, b"");
    let error = bounded(guest.server).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // Long enough for a busy machine to answer the one request.
    let idle = Duration::from_secs(2);
    let mut guest =
        bench.connect_within(Limits { idle, ..Limits::default() }, bench.exchange()).await;
    guest.send(get("/echo")).await;
    assert!(guest.response().await.0.starts_with("HTTP/1.1 200"));
    assert_eq!(guest.rest().await, b"");
    bounded(guest.server).await.unwrap().unwrap();
}
