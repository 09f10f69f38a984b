//! Messages that are understood, and what becomes of them.

use super::*;

fn one_request(input: &str) -> (RequestHead, Framing, Vec<RequestEvent>) {
    let (events, end) = requests([input.as_bytes()]);
    assert_eq!(end, Ok(()), "{input:?}");
    let mut events = events.into_iter();
    let Some(RequestEvent::Head(head, framing)) = events.next() else { panic!("no head") };
    (head, framing, events.collect())
}

fn respond(method: &str, input: &str) -> (Framing, Vec<ResponseEvent>, Result<(), H1Error>) {
    let (events, end) = response(&request_head(method, &[]), [input.as_bytes()]);
    let mut events = events.into_iter();
    match events.next() {
        Some(ResponseEvent::Head(_, framing)) => (framing, events.collect(), end),
        other => panic!("{input:?}: {other:?}, {end:?}"),
    }
}

#[test]
fn a_request_keeps_order_case_and_repetition_of_its_fields() {
    let (head, framing, rest) = one_request(
        "GET /a?b HTTP/1.1\r\nhOsT: example.com\r\nX: 1\r\naccept:\t a \t\r\nx: 2\r\nE:\r\n\r\n",
    );
    assert_eq!(head.method.as_str(), "GET");
    assert_eq!(head.target, Target::Origin(PathAndQuery::new("/a?b").unwrap()));
    let fields = [("hOsT", "example.com"), ("X", "1"), ("accept", "a"), ("x", "2"), ("E", "")];
    assert_eq!(lines(&head.headers), fields);
    assert_eq!((framing, rest), (Framing::None, vec![RequestEvent::End]));
}

#[test]
fn one_empty_line_may_precede_a_request() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(one_request(&format!("\r\n{request}")), one_request(request));
    let (_, end) = requests([format!("\r\n\r\n{request}").as_bytes()]);
    assert_eq!(end, Err(H1Error::RequestLine));
}

#[test]
fn pipelined_requests_are_told_apart() {
    let (events, end) = requests([&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
        POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nde\r\n1\r\nf\r\n0\r\nT: 1\r\n\r\n\
        GET / HTTP/1.1\r\nHost: c\r\n\r\n"[..]]);
    assert_eq!(end, Ok(()));
    let shape: Vec<String> = events
        .iter()
        .map(|event| match event {
            RequestEvent::Head(head, framing) => {
                format!("{} {framing:?}", head.authority().unwrap())
            }
            RequestEvent::Data(data) => data.escape_ascii().to_string(),
            RequestEvent::Trailers(trailers) => format!("{:?}", lines(trailers)),
            RequestEvent::End => ".".to_owned(),
        })
        .collect();
    let expected =
        ["a Length(3)", "abc", ".", "b Chunked", "def", "[(\"T\", \"1\")]", ".", "c None", "."];
    assert_eq!(shape, expected);
}

#[test]
fn data_is_not_copied() {
    let mut input = BytesMut::from(
        &b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1"[..],
    );
    let body = input.windows(4).position(|window| window == b"body").unwrap();
    let there = input[body..].as_ptr();
    let mut decoder = RequestDecoder::new();
    decoder.decode(&mut input).unwrap();
    match decoder.decode(&mut input).unwrap() {
        Some(RequestEvent::Data(data)) => {
            assert_eq!((&data[..], data.as_ptr()), (&b"body"[..], there));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(decoder.decode(&mut input), Ok(Some(RequestEvent::End)));
    assert!(decoder.is_idle());
}

#[test]
fn a_body_of_any_size_passes_in_constant_memory() {
    let mut decoder = ResponseDecoder::new(&request_head("GET", &[]));
    let mut input =
        BytesMut::from(&b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n"[..]);
    assert!(matches!(decoder.decode(&mut input), Ok(Some(ResponseEvent::Head(..)))));
    for _ in 0..1000 {
        input.extend_from_slice(&[0; 8192]);
        match decoder.decode(&mut input) {
            Ok(Some(ResponseEvent::Data(data))) => assert_eq!(data.len(), 8192),
            other => panic!("{other:?}"),
        }
        assert_eq!(decoder.decode(&mut input), Ok(None));
        assert!(input.is_empty() && input.capacity() <= 64 * 1024, "{}", input.capacity());
    }
    assert_eq!(decoder.eof(), Err(H1Error::CutOff));
}

#[test]
fn a_request_that_is_cut_off_is_an_error() {
    let whole = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: 1\r\n\r\n";
    for end in 1..whole.len() {
        assert_eq!(requests([&whole.as_bytes()[..end]]).1, Err(H1Error::CutOff), "{end}");
    }
    assert_eq!(requests([b"".as_slice()]), (vec![], Ok(())));
}

#[test]
fn responses_end_as_rfc_9112_section_6_3_says() {
    use Framing::{Chunked, Length, None, UntilClose};
    let table = [
        ("GET", "200 OK\r\nContent-Length: 3\r\n\r\nabc", Length(3)),
        ("GET", "200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Chunked),
        ("GET", "200 OK\r\n\r\nabc", UntilClose),
        ("GET", "200\r\n\r\nabc", UntilClose),
        ("GET", "599 \r\nContent-Length: 3\r\n\r\nabc", Length(3)),
        ("CONNECT", "403 No\r\nContent-Length: 3\r\n\r\nabc", Length(3)),
        ("HEAD", "200 OK\r\nContent-Length: 3\r\n\r\n", None),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "204 No Content\r\nContent-Length: 0\r\n\r\n", None),
        ("GET", "304 Not Modified\r\nContent-Length: 3\r\n\r\n", None),
    ];
    for (method, rest, expected) in table {
        let (framing, events, end) = respond(method, &format!("HTTP/1.1 {rest}"));
        let data = ResponseEvent::Data(Bytes::from_static(b"abc"));
        let expected_events = if expected == None {
            vec![ResponseEvent::End]
        } else {
            vec![data, ResponseEvent::End]
        };
        assert_eq!(
            (framing, events, end),
            (expected, expected_events, Ok(())),
            "{method} {rest:?}"
        );
    }
}

#[test]
fn a_response_leaves_what_follows_it_in_the_buffer() {
    let mut decoder = ResponseDecoder::new(&request_head("HEAD", &[]));
    let mut input = BytesMut::from(&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..]);
    assert!(matches!(decoder.decode(&mut input), Ok(Some(ResponseEvent::Head(..)))));
    assert_eq!(decoder.decode(&mut input), Ok(Some(ResponseEvent::End)));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert_eq!((&input[..], decoder.eof()), (&b"abc"[..], Ok(None)));
}

#[test]
fn interim_responses_come_before_the_response() {
    let input = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let (events, end) = response(&request_head("POST", &[]), [input.as_bytes()]);
    assert_eq!(end, Ok(()));
    let [
        ResponseEvent::Informational(first),
        ResponseEvent::Informational(second),
        ResponseEvent::Head(last, Framing::Length(0)),
        ResponseEvent::End,
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!([first, second, last].map(|head| head.status.code()), [100, 103, 200]);
    assert_eq!(lines(&second.headers), [("Link", "a")]);
}

#[test]
fn http_ends_with_an_upgrade_that_was_asked_for_and_a_connect_that_succeeds() {
    let upgrade =
        request_head("GET", &[("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")]);
    let switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x00";
    let connected = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n\x01\x00";
    for (request, input) in [(&upgrade, switching), (&request_head("CONNECT", &[]), connected)] {
        let mut decoder = ResponseDecoder::new(request);
        let mut input = BytesMut::from(input);
        assert!(matches!(
            decoder.decode(&mut input),
            Ok(Some(ResponseEvent::Head(_, Framing::None)))
        ));
        assert_eq!(decoder.decode(&mut input), Ok(Some(ResponseEvent::Switched)));
        assert_eq!((decoder.decode(&mut input), &input[..]), (Ok(None), &b"\x01\x00"[..]));
    }
    let refused = response(&upgrade, [&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..]]);
    assert_eq!((refused.0.len(), refused.1), (2, Ok(())));
    let unasked = response(&request_head("GET", &[]), [switching.as_bytes()]);
    assert_eq!(unasked, (vec![], Err(H1Error::UnaskedUpgrade)));
}

#[test]
fn only_protocols_that_hide_no_http_are_upgraded_to() {
    let asks = |connection, upgrade| {
        asks_for_upgrade(&request_head("GET", &[("Connection", connection), ("Upgrade", upgrade)]))
    };
    assert!(asks("Upgrade", "websocket"));
    assert!(asks("close, upgrade", "tcp"));
    assert!(!asks("keep-alive", "websocket"));
    assert!(!asks("Upgrade", ""));
    for unseen in ["h2c", "H2C", "h2", "websocket, h2c", "HTTP/2.0", "TLS/1.2", "h3"] {
        assert!(!asks("Upgrade, HTTP2-Settings", unseen), "{unseen}");
    }
}

#[test]
fn connections_persist_by_version_and_field() {
    let table: &[(_, &[&str], _)] = &[
        (Version::Http11, &[], true),
        (Version::Http11, &["keep-alive"], true),
        (Version::Http11, &["Close"], false),
        (Version::Http11, &["a", "b, close"], false),
        (Version::Http10, &[], false),
        (Version::Http10, &["Keep-Alive"], true),
        (Version::Http10, &["keep-alive, close"], false),
    ];
    for (version, values, expected) in table {
        let fields: Vec<_> = values.iter().map(|value| ("connection", *value)).collect();
        assert_eq!(persists(*version, &headers(&fields)), *expected, "{version:?} {values:?}");
    }
}

#[test]
fn fields_of_one_hop_are_not_forwarded() {
    let all = [
        ("Host", "a"),
        ("Connection", "close, X-Hop, host, Content-Length"),
        ("connection", "y-hop"),
        ("X-Hop", "1"),
        ("Y-HOP", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic x"),
        ("TE", "gzip, trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "1"),
        ("HTTP2-Settings", "x"),
        ("Upgrade", "websocket"),
        ("Trailer", "T"),
    ];
    let mut plain = headers(&all);
    forwardable(&mut plain, false);
    let kept = [
        ("Host", "a"),
        ("Content-Length", "1"),
        ("Trailer", "T"),
        ("TE", "trailers"),
        ("Connection", "TE"),
    ];
    assert_eq!(lines(&plain), kept);
    let mut upgrade =
        headers(&[("Connection", "Upgrade, X"), ("Upgrade", "websocket"), ("X", "1")]);
    forwardable(&mut upgrade, true);
    assert_eq!(lines(&upgrade), [("Upgrade", "websocket"), ("Connection", "Upgrade")]);
}

#[test]
fn heads_are_written_with_the_framing_of_the_encoder() {
    let fields = [
        ("content-length", "7"),
        ("Host", "a"),
        ("Transfer-Encoding", "x"),
        ("Content-Length", "8"),
    ];
    let table = [
        (Framing::None, "Host: a\r\n\r\n"),
        (Framing::Length(3), "content-length: 3\r\nHost: a\r\n\r\n"),
        (Framing::Chunked, "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (Framing::UntilClose, "Host: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ];
    for (framing, expected) in table {
        let head = RequestHead { headers: headers(&fields), ..request_head("PUT", &[]) };
        let mut out = BytesMut::new();
        RequestEncoder::new().head(&head, framing, &mut out);
        assert_eq!(out, format!("PUT / HTTP/1.1\r\n{expected}"), "{framing:?}");
    }
    let mut out = BytesMut::new();
    RequestEncoder::new().head(&request_head("PUT", &[]), Framing::Length(0), &mut out);
    assert_eq!(out, "PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn content_length_stays_where_it_describes_what_is_not_sent() {
    for (code, length, expected) in [
        (200, "7", "Content-Length: 7\r\n"),
        (304, "7", "Content-Length: 7\r\n"),
        (204, "7", ""),
        (103, "7", ""),
        (200, "x", ""),
    ] {
        let mut head = ResponseHead::from_static(code, "Some");
        head.headers = headers(&[("Content-Length", length)]);
        let mut out = BytesMut::new();
        ResponseEncoder::new().head(&head, Framing::None, &mut out);
        assert_eq!(out, format!("HTTP/1.1 {code} Some\r\n{expected}\r\n"));
    }
}

#[test]
fn bodies_are_written_as_long_as_their_heads_say() {
    let head = ResponseHead::from_static(200, "OK");
    let mut out = BytesMut::new();
    let mut encoder = ResponseEncoder::new();
    encoder.head(&head, Framing::Length(3), &mut out);
    out.clear();
    assert_eq!(encoder.data(b"ab", &mut out), Ok(()));
    assert_eq!(encoder.data(b"cd", &mut out), Err(EncodeError::TooLong));
    assert_eq!(out, "ab");
    assert_eq!(encoder.end(None, &mut out), Err(EncodeError::TooShort));

    encoder.head(&head, Framing::None, &mut out);
    assert_eq!(encoder.data(b"a", &mut out), Err(EncodeError::TooLong));

    encoder.head(&head, Framing::Chunked, &mut out);
    out.clear();
    encoder.data(b"", &mut out).unwrap();
    encoder.data(&[b'x'; 17], &mut out).unwrap();
    let trailers = headers(&[("Grpc-Status", "0"), ("Content-Length", "5"), ("Host", "b")]);
    encoder.end(Some(&trailers), &mut out).unwrap();
    assert_eq!(out, "11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\nGrpc-Status: 0\r\n\r\n");

    encoder.head(&head, Framing::UntilClose, &mut out);
    out.clear();
    encoder.data(b"abc", &mut out).unwrap();
    encoder.end(Some(&trailers), &mut out).unwrap();
    assert_eq!(out, "abc");
}

#[test]
fn targets_change_between_the_forms_for_servers_and_for_proxies() {
    let (mut head, ..) =
        one_request("GET http://a.test:81/b?c HTTP/1.1\r\nHost: A.test:81\r\n\r\n");
    head.use_origin_form();
    assert_eq!(head.target, Target::Origin(PathAndQuery::new("/b?c").unwrap()));
    head.use_absolute_form(Scheme::Http).unwrap();
    let mut out = BytesMut::new();
    RequestEncoder::new().head(&head, Framing::None, &mut out);
    assert_eq!(out, "GET http://a.test:81/b?c HTTP/1.1\r\nHost: A.test:81\r\n\r\n");
}
