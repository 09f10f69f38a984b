//! Servers that say a secret's value wherever they can: it is in no event and in no line of the log,
//! and where it is to be scrubbed the guest does not see it.

use std::fmt::Write;
use std::future::poll_fn;

use http::{Request, Version};
use matchlock_intercept::hooks::Rules;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::bench::{Bench, VALUE, bounded};
use super::raw::{
    self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, frame,
};
use crate::lines::Lines;

/// Has a guest ask a server, and looks at all that was said.
async fn check(what: &str, guest: impl AsyncFn(&Bench) -> String) {
    for scrub in [false, true] {
        let bench = Bench::with(Rules::default(), None, scrub);
        let lines = Lines::default();
        let seen = {
            let _logging = tracing::subscriber::set_default(lines.clone());
            guest(&bench).await
        };
        super::bench::eventually("a record", || bench.responses().len() == 1).await;
        let kept = format!("{:?} {}", bench.events(), lines.text());
        let first = VALUE.escape_default().to_string();
        assert!(!kept.contains(&first), "{what}, scrubbed {scrub}: {kept}");
        assert!(!scrub || !seen.contains(&first), "{what}: {seen}");
    }
}

async fn ask_h1(bench: &Bench, upstream: DuplexStream) -> String {
    let mut guest = bench.connect_to(upstream);
    let key = &bench.placeholder;
    guest
        .send(format!(
            "GET / HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: {key}\r\n\
             Connection: upgrade\r\nUpgrade: x\r\n\r\n"
        ))
        .await;
    let mut seen = Vec::new();
    let mut io = guest.io;
    bounded(io.shutdown()).await.unwrap();
    let _ = bounded(io.read_to_end(&mut seen)).await;
    drop(io);
    let _ = bounded(guest.server).await.unwrap();
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn of_a_server_of_http1_no_word_is_kept() {
    let ok = "HTTP/1.1 200 OK\r\n";
    for answer in [
        format!("{VALUE}\r\n\r\n"),
        format!("HTTP/1.1 {VALUE}\r\n\r\n"),
        format!("HTTP/{VALUE} 200 OK\r\n\r\n"),
        format!("HTTP/1.1 200 {VALUE}\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 {VALUE}\u{1}\r\n\r\n"),
        format!("{ok}Content-Length: {VALUE}\r\n\r\n"),
        format!("{ok}Transfer-Encoding: {VALUE}\r\n\r\n"),
        format!("{ok}Content-Encoding: {VALUE}\r\nContent-Length: 1\r\n\r\nx"),
        format!("{ok}Content-Encoding: gzip, {VALUE}\r\nContent-Length: 1\r\n\r\nx"),
        format!("{ok}Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n{VALUE}", VALUE.len()),
        format!("{ok}Content-Encoding: zstd\r\nContent-Length: {}\r\n\r\n{VALUE}", VALUE.len()),
        format!("{ok}X {VALUE}\r\n\r\n"),
        format!("{ok} {VALUE}\r\n\r\n"),
        format!("{ok}{VALUE} : x\r\n\r\n"),
        format!("{ok}{VALUE}: x\r\nSet-Cookie: {VALUE}\r\nContent-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 302 Found\r\nLocation: http://{VALUE}/\r\nContent-Length: 0\r\n\r\n"),
        format!("{ok}Content-Type: {VALUE}\r\nContent-Length: 2\r\n\r\nok"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n{VALUE}\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n1;{VALUE}\u{1}\r\nx\r\n0\r\n\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n1\r\nx{VALUE}\r\n0\r\n\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n0\r\nX: {VALUE}\r\n{VALUE}: x\r\n\r\n"),
        format!("{ok}Transfer-Encoding: chunked\r\n\r\n0\r\n{VALUE}\r\n\r\n"),
        format!("{ok}Content-Length: 100\r\n\r\n{VALUE}"),
        format!("HTTP/1.1 103 {VALUE}\r\nX: {VALUE}\r\n\r\n{ok}Content-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 103 {VALUE}\r\n\r\n").repeat(20),
        format!("HTTP/1.1 101 {VALUE}\r\nUpgrade: {VALUE}\r\nConnection: upgrade\r\n\r\n"),
    ] {
        let what = answer.clone();
        check(&what, async |bench| ask_h1(bench, raw::h1(answer.clone().into())).await).await;
    }
}

async fn ask_h2(bench: &Bench, upstream: DuplexStream) -> String {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(crate::http::h2::serve(far, Box::new(upstream), bench.exchange()));
    let (send, connection) = bounded(h2::client::handshake(near)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = bounded(send.ready()).await.unwrap();
    let request = Request::builder()
        .uri("https://api.example.com/")
        .version(Version::HTTP_2)
        .header("authorization", &bench.placeholder)
        .body(())
        .unwrap();
    let (mut response, _) = send.send_request(request, true).unwrap();
    drop(send);
    let mut seen = String::new();
    while let Some(interim) = bounded(poll_fn(|cx| response.poll_informational(cx))).await {
        write!(seen, "{interim:?} ").unwrap();
        if interim.is_err() {
            break;
        }
    }
    match bounded(response).await {
        Err(error) => write!(seen, "{error}").unwrap(),
        Ok(response) => {
            let (head, mut body) = response.into_parts();
            write!(seen, "{head:?} ").unwrap();
            while let Some(data) = bounded(body.data()).await {
                write!(seen, "{data:?} ").unwrap();
                if data.is_err() {
                    break;
                }
            }
            write!(seen, "{:?}", bounded(body.trailers()).await).unwrap();
        }
    }
    let ended = bounded(connection).await.unwrap();
    let _ = bounded(server).await.unwrap();
    format!("{seen} {ended:?}")
}

#[tokio::test]
async fn of_a_server_of_http2_no_word_is_kept() {
    let head = |more: &[(&str, &str)]| {
        frame(HEADERS, END_HEADERS, 1, &raw::fields(&[&[(":status", "200")], more].concat()))
    };
    let end = frame(DATA, END_STREAM, 1, b"");
    let code = |code: u32, text: &str| [&code.to_be_bytes(), text.as_bytes()].concat();
    let goaway = |last: u32, reason: u32| {
        frame(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code(reason, VALUE)].concat())
    };
    let trailers =
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &raw::fields(&[("x", VALUE), (VALUE, "x")]));
    let interim = raw::fields(&[(":status", "103"), ("x", VALUE), (VALUE, "x")]);
    let interim = frame(HEADERS, END_HEADERS, 1, &interim);
    for (what, answer) in [
        ("GOAWAY that leaves the stream out", goaway(0, 11)),
        ("GOAWAY that has it", [goaway(1, 11), end.clone()].concat()),
        ("GOAWAY of an unknown reason", goaway(0, 0xdead_beef)),
        ("GOAWAY within a body", [head(&[]), goaway(0, 2)].concat()),
        ("RST_STREAM", frame(RST_STREAM, 0, 1, &code(8, ""))),
        ("RST_STREAM of a wrong length", frame(RST_STREAM, 0, 1, &code(8, VALUE))),
        ("SETTINGS of a wrong length", frame(SETTINGS, 0, 0, VALUE.as_bytes())),
        ("an unknown frame", [frame(99, 0, 1, VALUE.as_bytes()), head(&[]), end.clone()].concat()),
        ("no status", frame(HEADERS, END_HEADERS, 1, &raw::fields(&[("x", VALUE)]))),
        ("a status", frame(HEADERS, END_HEADERS, 1, &raw::fields(&[(":status", VALUE)]))),
        ("a pseudo field", [head(&[(":path", VALUE)]), end.clone()].concat()),
        ("a name in capitals", [head(&[(&VALUE.to_uppercase(), VALUE)]), end.clone()].concat()),
        (
            "a value with a control character",
            [head(&[("x", &format!("{VALUE}\u{1}"))]), end.clone()].concat(),
        ),
        ("a length", [head(&[("content-length", VALUE)]), end.clone()].concat()),
        ("a body that is no head block", frame(HEADERS, END_HEADERS, 1, VALUE.as_bytes())),
        ("a coding", [head(&[("content-encoding", VALUE)]), end.clone()].concat()),
        ("a coding that is not kept", {
            let data = frame(DATA, END_STREAM, 1, VALUE.as_bytes());
            [head(&[("content-encoding", "gzip")]), data].concat()
        }),
        (
            "fields",
            [head(&[("x", VALUE), (VALUE, "x"), ("location", VALUE)]), end.clone()].concat(),
        ),
        ("trailers", [head(&[]), trailers].concat()),
        ("interim responses", [interim.repeat(3), head(&[]), end.clone()].concat()),
        ("too many of them", interim.repeat(20)),
    ] {
        check(what, async |bench| ask_h2(bench, raw::h2(answer.clone(), 1)).await).await;
    }
}
