use std::io::{Read, Write};

use super::*;

fn raw(origin: &Origin, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(origin.http()).expect("the origin");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn records_requests_as_they_came() {
    let origin = Origin::start(&["api.example.com"]);
    let answer = raw(
        &origin,
        "POST /echo?x=1 HTTP/1.1\r\nHost: a.example\r\nX-oDD:  v \r\ncontent-length: 3\r\n\
         connection: close\r\n\r\nabc",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains(r#""body":"abc""#), "{answer}");
    let request = origin.last();
    assert_eq!(request.headers[1], ("X-oDD".into(), "v".into()));
    assert_eq!((request.body.as_slice(), request.body_length), (&b"abc"[..], 3));
    assert!(origin.ca_pem().contains("BEGIN CERTIFICATE"));
}

#[test]
fn answers_in_chunks_with_trailers() {
    let origin = Origin::start(&[]);
    let answer = raw(&origin, "GET /trailers?n=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("Transfer-Encoding: chunked"), "{answer}");
    assert!(answer.ends_with("0\r\nX-Checksum: abc123\r\nX-Second: two\r\n\r\n"), "{answer}");
}

#[test]
fn encodings_are_what_they_say() {
    use std::io::Read as _;
    let mut plain = Vec::new();
    let gzip = encode::encode("gzip", b"some text");
    flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut plain).expect("gzip");
    assert_eq!(plain, b"some text");
    let zstd = encode::encode("zstd", b"some text");
    assert_eq!(zstd::decode_all(&zstd[..]).expect("zstd"), b"some text");
    assert_eq!(encode::encode("br", b"ab")[3..5], *b"ab");
}
