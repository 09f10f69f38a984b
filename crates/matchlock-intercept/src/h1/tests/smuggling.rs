//! Messages that implementations are known to read in different ways. None of them gets through.

use super::*;
use crate::headers::InvalidHeader;

const NAME: H1Error = H1Error::Field(InvalidHeader::Name);
const VALUE: H1Error = H1Error::Field(InvalidHeader::Value);

fn refusal(input: &[u8]) -> H1Error {
    let (events, end) = requests([input]);
    let error = end.expect_err(&input.escape_ascii().to_string());
    let heads = events.iter().filter(|event| matches!(event, RequestEvent::Head(..))).count();
    assert!(heads <= 1, "{}: a second request got through", input.escape_ascii());
    error
}

/// A request with these lines after the request line, and this body.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

fn assert_refused(table: &[(&str, &str, H1Error)]) {
    for (fields, body, error) in table {
        assert_eq!(refusal(&post(fields, body)), *error, "{fields:?} {body:?}");
        let input = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
        let (_, end) = response(&request_head("GET", &[]), [input.as_bytes()]);
        assert_eq!(end, Err(error.clone()), "in a response: {fields:?} {body:?}");
    }
}

#[test]
fn content_length_with_transfer_encoding_is_refused() {
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_refused(&[
        ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", smuggled, H1Error::TwoLengths),
        ("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", smuggled, H1Error::TwoLengths),
        ("content-length: 0\r\ntransfer-encoding: x\r\n", smuggled, H1Error::TwoLengths),
        ("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", smuggled, H1Error::TwoLengths),
    ]);
}

#[test]
fn transfer_encoding_other_than_chunked_is_refused() {
    for value in [
        "xchunked",
        "chunked, identity",
        "identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "\"chunked\"",
        "chunked;a=b",
        "chunk\u{e9}d",
        "",
        "x",
        "chunked\u{a0}",
        "chunke\u{130}",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        assert_refused(&[(&fields, "0\r\n\r\n", H1Error::TransferEncoding)]);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-encoding: chunked\r\n";
    let other = "Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n";
    assert_refused(&[
        (twice, "0\r\n\r\n", H1Error::TransferEncoding),
        (other, "0\r\n\r\n", H1Error::TransferEncoding),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n", H1Error::SpaceBeforeColon),
        ("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n", H1Error::SpaceBeforeColon),
        (" Transfer-Encoding: chunked\r\n", "0\r\n\r\n", H1Error::ObsoleteFold),
        ("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", H1Error::ObsoleteFold),
        ("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n", VALUE),
        ("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n", VALUE),
        ("Transfer-Encoding: chunked\x0c\r\n", "0\r\n\r\n", VALUE),
        ("X: x\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", H1Error::LineEnd),
        ("X: x\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n", H1Error::LineEnd),
        ("\0Transfer-Encoding: chunked\r\n", "0\r\n\r\n", NAME),
        ("Transfer\\-Encoding: chunked\r\nTransfer Encoding: chunked\r\n", "0\r\n\r\n", NAME),
        ("\u{feff}Transfer-Encoding: chunked\r\n", "0\r\n\r\n", NAME),
    ]);
}

#[test]
fn transfer_encoding_of_http_1_0_is_refused() {
    let input = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refusal(input), H1Error::TransferEncoding);
}

#[test]
fn content_length_is_one_decimal_number() {
    for value in [
        "+3",
        "-3",
        "0x3",
        "3 3",
        "3,3",
        "3, 3",
        "3;",
        "3.0",
        "3e0",
        "",
        "\"3\"",
        "\u{663}",
        "9223372036854775808",
        "18446744073709551619",
        "00000000000000000003",
        "3_0",
        "infinity",
    ] {
        let fields = format!("Content-Length: {value}\r\n");
        assert_refused(&[(&fields, "abc", H1Error::ContentLength)]);
    }
    assert_refused(&[
        ("Content-Length: 3\r\nContent-Length: 4\r\n", "abc", H1Error::ContentLength),
        ("Content-Length: 3\r\ncontent-length: 3\r\n", "abc", H1Error::ContentLength),
        ("Content-Length: 3\r\nContent-Length:\r\n", "abc", H1Error::ContentLength),
        ("Content-Length : 3\r\n", "abc", H1Error::SpaceBeforeColon),
        ("Content-Length: 3\0\r\n", "abc", VALUE),
        ("Content-Length: \x0c3\r\n", "abc", VALUE),
    ]);
}

#[test]
fn chunks_are_well_formed() {
    let table = [
        ("3\nabc\r\n0\r\n\r\n", H1Error::LineEnd),
        ("3\r\nabc\n0\r\n\r\n", H1Error::ChunkEnd),
        ("3\r\nabc\r0\r\n\r\n", H1Error::ChunkEnd),
        ("3\r\nabcd\r\n0\r\n\r\n", H1Error::ChunkEnd),
        ("3\r\nabc0\r\n\r\n", H1Error::ChunkEnd),
        ("0x3\r\nabc\r\n0\r\n\r\n", H1Error::ChunkSize),
        (" 3\r\nabc\r\n0\r\n\r\n", H1Error::ChunkSize),
        ("3 \r\nabc\r\n0\r\n\r\n", H1Error::ChunkSize),
        ("-1\r\nabc\r\n0\r\n\r\n", H1Error::ChunkSize),
        ("10000000000000003\r\nabc\r\n0\r\n\r\n", H1Error::ChunkSize),
        ("\r\n3\r\nabc\r\n0\r\n\r\n", H1Error::ChunkSize),
        ("3;\nabc\r\n0\r\n\r\n", H1Error::LineEnd),
        ("3;a\rb\r\nabc\r\n0\r\n\r\n", H1Error::LineEnd),
        ("3; a\r\nabc\r\n0\r\n\r\n", H1Error::ChunkExtension),
        ("3;\r\nabc\r\n0\r\n\r\n", H1Error::ChunkExtension),
        ("3;a=\"\r\nabc\r\n0\r\n\r\n", H1Error::ChunkExtension),
        ("0\r\nTransfer-Encoding: chunked\r\n\r\n", H1Error::Trailer),
        ("0\r\ncontent-length: 5\r\n\r\n", H1Error::Trailer),
        ("0\r\nHost: b\r\n\r\n", H1Error::Trailer),
        ("0\r\nConnection: close\r\n\r\n", H1Error::Trailer),
        ("0\r\nProxy-Authorization: x\r\n\r\n", H1Error::Trailer),
        ("0\r\n A: b\r\n\r\n", H1Error::ObsoleteFold),
        ("0\r\nA: b\n\r\n", H1Error::LineEnd),
        ("0\r\n\n", H1Error::LineEnd),
        ("0\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n", NAME),
    ];
    for (body, error) in table {
        // The request line has a colon only by accident; some versions of it have none.
        let error = if body.contains("GET") { H1Error::NoColon } else { error };
        assert_refused(&[("Transfer-Encoding: chunked\r\n", body, error)]);
    }
}

#[test]
fn chunk_extensions_are_bounded_each_and_together() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "a".repeat(600));
    let many = format!("1;{}\r\na\r\n", "a".repeat(255)).repeat(65);
    let few = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "a".repeat(255)).repeat(64));
    for body in [&long, &many] {
        assert_refused(&[("Transfer-Encoding: chunked\r\n", body, H1Error::ChunkExtension)]);
    }
    assert_eq!(requests([&post("Transfer-Encoding: chunked\r\n", &few)[..]]).1, Ok(()));
}

#[test]
fn fields_are_well_formed() {
    assert_refused(&[
        ("A b: c\r\n", "", NAME),
        (": c\r\n", "", NAME),
        ("A\r\n", "", H1Error::NoColon),
        ("A : b\r\n", "", H1Error::SpaceBeforeColon),
        (" A: b\r\n", "", H1Error::ObsoleteFold),
        ("A: b\r\n c\r\n", "", H1Error::ObsoleteFold),
        ("A: b\r\n\tc\r\n", "", H1Error::ObsoleteFold),
        ("A: b\r\n \r\n", "", H1Error::ObsoleteFold),
        ("A: b\n", "", H1Error::LineEnd),
        ("A: b\r\r\n", "", H1Error::LineEnd),
        ("A: b\n\n", "", H1Error::LineEnd),
        ("A: b\rC: d\r\n", "", H1Error::LineEnd),
        ("A: b\0c\r\n", "", VALUE),
        ("A: b\x7f\r\n", "", VALUE),
        ("A: \x1b[31m\r\n", "", VALUE),
        ("A\0: b\r\n", "", NAME),
        ("A(b): c\r\n", "", NAME),
        ("\u{e9}: c\r\n", "", NAME),
    ]);
}

#[test]
fn request_lines_are_well_formed() {
    use H1Error::{RequestLine, Version};
    let table = [
        ("GET /\r\n", RequestLine),
        ("GET\r\n", RequestLine),
        ("GET  / HTTP/1.1\r\n", RequestLine),
        ("GET /  HTTP/1.1\r\n", RequestLine),
        ("GET / HTTP/1.1 \r\n", RequestLine),
        (" GET / HTTP/1.1\r\n", RequestLine),
        ("GET /a b HTTP/1.1\r\n", RequestLine),
        ("GET\t/\tHTTP/1.1\r\n", RequestLine),
        ("GET / HTTP/1.1\n", H1Error::LineEnd),
        ("GET / HTTP/1.1\r\r\n", H1Error::LineEnd),
        ("GET /\rX HTTP/1.1\r\n", H1Error::LineEnd),
        ("GET / HTTP/0.9\r\n", Version),
        ("GET / HTTP/1.2\r\n", Version),
        ("GET / HTTP/2.0\r\n", Version),
        ("PRI * HTTP/2.0\r\n", Version),
        ("GET / HTTP/1.10\r\n", Version),
        ("GET / HTTP/1.\r\n", Version),
        ("GET / http/1.1\r\n", Version),
        ("GET / XTTP/1.1\r\n", Version),
        ("G(T / HTTP/1.1\r\n", H1Error::Start(InvalidHead::Method)),
        ("G\0T / HTTP/1.1\r\n", H1Error::Start(InvalidHead::Method)),
        ("head / HTTP/1.1\r\n", H1Error::Start(InvalidHead::Method)),
        ("Connect a:443 HTTP/1.1\r\n", H1Error::Start(InvalidHead::Method)),
        ("GET /\0 HTTP/1.1\r\n", H1Error::Target(InvalidTarget::Byte)),
        ("GET /#a HTTP/1.1\r\n", H1Error::Target(InvalidTarget::Byte)),
        ("GET /%00 HTTP/1.1\r\n", H1Error::Target(InvalidTarget::Nul)),
        ("GET * HTTP/1.1\r\n", H1Error::Target(InvalidTarget::Method)),
        ("GET a HTTP/1.1\r\n", H1Error::Target(InvalidTarget::Form)),
        ("GET gopher://a/ HTTP/1.1\r\n", H1Error::Target(InvalidTarget::Scheme)),
        ("\x16\x03\x01\x02\0\x01\0\x01\n", H1Error::LineEnd),
    ];
    for (line, error) in table {
        assert_eq!(refusal(format!("{line}Host: a\r\n\r\n").as_bytes()), error, "{line:?}");
    }
}

#[test]
fn a_request_is_for_one_host() {
    use AuthorityError::{Malformed, Mismatch, Missing, Repeated};
    let table = [
        ("/", "", Missing),
        ("/", "Host:\r\n", Malformed),
        ("/", "Host: a\r\nHost: a\r\n", Repeated),
        ("/", "Host: a\r\nhost: b\r\n", Repeated),
        ("/", "Host: a, b\r\n", Malformed),
        ("/", "Host: a b\r\n", Malformed),
        ("/", "Host: u@a\r\n", Malformed),
        ("/", "Host: a/b\r\n", Malformed),
        ("/", "Host: a%00.b\r\n", Malformed),
        ("/", "Host: a:80:90\r\n", Malformed),
        ("/", "Host: a:-1\r\n", Malformed),
        ("/", "Host: a#b\r\n", Malformed),
        ("http://a/", "", Missing),
        ("http://a/", "Host: b\r\n", Mismatch),
        ("http://a/", "Host: a:8080\r\n", Mismatch),
        ("http://a/", "Host: a\r\nHost: a\r\n", Repeated),
    ];
    for (target, host, error) in table {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let input = format!("GET {target} {version}\r\n{host}\r\n");
            assert_eq!(refusal(input.as_bytes()), H1Error::Authority(error), "{input:?}");
        }
    }
}

#[test]
fn a_connect_has_no_body() {
    for field in ["Content-Length: 0", "Transfer-Encoding: chunked"] {
        let input = format!("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        assert_eq!(refusal(input.as_bytes()), H1Error::ConnectBody, "{field}");
    }
}

#[test]
fn heads_are_bounded() {
    let fill = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
        format!("{start}{}\r\n\r\n", "a".repeat(bytes - start.len() - 4))
    };
    assert_eq!(requests([fill(MAX_HEAD).as_bytes()]).1, Ok(()));
    assert_eq!(refusal(fill(MAX_HEAD + 1).as_bytes()), H1Error::TooLong);
    assert_eq!(refusal(&vec![b'a'; MAX_HEAD]), H1Error::TooLong);
    assert_eq!(requests([&vec![b'a'; MAX_HEAD - 1][..]]).1, Err(H1Error::CutOff));
    assert_eq!(requests([&post(&"A: b\r\n".repeat(MAX_FIELDS - 1), "")[..]]).1, Ok(()));
    assert_refused(&[
        (&"A: b\r\n".repeat(MAX_FIELDS + 1), "", H1Error::TooManyFields),
        (&format!("A: {}\r\n", "a".repeat(MAX_HEAD)), "", H1Error::TooLong),
    ]);
    let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
    assert_refused(&[("Transfer-Encoding: chunked\r\n", &trailers, H1Error::TooManyFields)]);
}

#[test]
fn status_lines_are_well_formed() {
    use H1Error::{StatusLine, Version};
    let table = [
        ("HTTP/1.1 20 OK", StatusLine),
        ("HTTP/1.1 2000 OK", StatusLine),
        ("HTTP/1.1  200 OK", StatusLine),
        ("HTTP/1.1 +20 OK", StatusLine),
        ("HTTP/1.1 200OK", StatusLine),
        ("HTTP/1.1", StatusLine),
        ("", StatusLine),
        ("ICY 200 OK", StatusLine),
        ("HTTP/2.0 200 OK", Version),
        ("HTTP/1.1 099 No", H1Error::Start(InvalidHead::Status)),
        ("HTTP/1.1 200 O\0K", H1Error::Start(InvalidHead::Reason)),
        ("HTTP/1.1 200 O\rK", H1Error::LineEnd),
        ("HTTP/1.1 200 OK\nA: b", H1Error::LineEnd),
    ];
    for (line, error) in table {
        let input = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let (_, end) = response(&request_head("GET", &[]), [input.as_bytes()]);
        assert_eq!(end, Err(error), "{line:?}");
    }
}

#[test]
fn an_error_is_for_ever() {
    let mut decoder = RequestDecoder::new();
    let mut input = BytesMut::from(&b"GET /\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]);
    for _ in 0..3 {
        assert_eq!(decoder.decode(&mut input), Err(H1Error::RequestLine));
    }
    assert_eq!(decoder.eof(), Err(H1Error::RequestLine));
    assert_eq!(H1Error::RequestLine.status(), 400);
}
