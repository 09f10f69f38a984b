use super::*;

/// What bytes are, whole and byte by byte.
fn speech(bytes: &[u8]) -> Option<Detected> {
    let whole = Sniffer::default().look(bytes);
    let mut sniffer = Sniffer::default();
    let stepwise = (1..=bytes.len()).find_map(|end| sniffer.look(&bytes[..end]));
    assert_eq!(whole, stepwise, "{}", bytes.escape_ascii());
    whole
}

fn known(bytes: &[u8]) -> Option<(Protocol, usize)> {
    match speech(bytes) {
        Some(Detected::Known(opening)) => Some((opening.protocol(), opening.length())),
        _ => None,
    }
}

fn at_end(bytes: &[u8]) -> Detected {
    Sniffer::default().at_end(bytes)
}

#[test]
fn what_could_be_a_request_is_one() {
    let long = [b"A".repeat(33), b" / HTTP/1.1\r\n".to_vec()].concat();
    let padded = [b"BREW /".to_vec(), b"a".repeat(9000), b"\0 HTTP/1.1\r\n".to_vec()].concat();
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"get / http/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b" \tGET / HTTP/1.1\r\n",
        b"GET\t/\tHTTP/1.1\r\n",
        b"GET\x0b/\x0cHTTP/1.1\r\n",
        b"GET /\x00 HTTP/1.1\r\n",
        b"BREW /pot HTTP/1.1\r\n",
        b"BREW /pot http/1.1\n",
        b"BREW /\0 HTTP/1.1\r\n",
        b"GET /\n",
        &long,
        &padded,
    ] {
        assert_eq!(speech(bytes), Some(Detected::Http1), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_some_server_takes_for_tls_is_tls() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\x15\x03\x01\0\x02\x01\x64\x16\x03\x01",
        b"\x14\x03\x03\0\x01\x01",
        b"\x17\x03\x03\0\x01\x01",
        b"\x18\x03\x03\0\x01\x01",
        b"\x80\x2e\x01\x03\x03",
        b"\xff\x2e\x01",
    ] {
        assert_eq!(speech(bytes), Some(Detected::Tls), "{}", bytes.escape_ascii());
    }
    assert_eq!(speech(b"\x16"), None);
}

#[test]
fn what_is_not_on_the_list_is_unknown() {
    for bytes in [
        &b"NICK someone\r\n"[..],
        b"EHLO mail.example.com\r\n",
        b"{\"jsonrpc\":\"2.0\"}",
        b"(GET / HTTP/1.1\r\n",
        b"G@T / HTTP/1.1\r\n",
        b"\x01\x01GET / HTTP/1.1\r\n",
        b"\0\0\0GET / HTTP/1.1\r\n",
        b"\x0bGET / HTTP/1.1\r\n",
        b"\x7fGET / HTTP/1.1\r\n",
        b"\x85\x85GET / HTTP/1.1\r\n",
        b"\xa0\xa0GET / HTTP/1.1\r\n",
        b"\xef\xbb\xbfGET / HTTP/1.1\r\n",
        b"\x16\x02\x01",
        b"PING\r\n",
    ] {
        assert_eq!(speech(bytes), Some(Detected::Unknown), "{}", bytes.escape_ascii());
    }
}

/// A first message, its protocol, an answer in it, and another.
type Row<'a> = (&'a [u8], Protocol, &'a [u8], &'a [u8]);

#[test]
fn the_closed_list() {
    let startup = b"\0\0\0\x14\0\x03\0\0user\0alice\0\0";
    let kafka = b"\0\0\0\x0e\0\x12\0\x03\0\0\0\x01\0\x04test";
    let mongo = [b"\x1a\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0".to_vec(), vec![0; 10]].concat();
    let table: [Row<'_>; 16] = [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Protocol::Ssh, b"SSH-2.0-x", b"HTTP/1.1"),
        (b"@RSYNCD: 31.0 sha512 md5\n", Protocol::Rsync, b"@RSYNCD: 31.0\n", b"@HTTP"),
        (b"SSH-1.99-x\n", Protocol::Ssh, b"SSH-", b"220 "),
        (b"0033git-upload-pack /a.git\0host=git.example.com\0", Protocol::Git, b"00a8", b"HTTP"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Protocol::Postgres, b"S", b"H"),
        (b"\0\0\0\x08\x04\xd2\x16\x30", Protocol::Postgres, b"N", b"\x15\x03"),
        (startup, Protocol::Postgres, b"R\0", b"HTTP"),
        (b"*1\r\n$4\r\nPING\r\n", Protocol::Redis, b"+PONG", b"HTTP"),
        (b"*2\r\n$4\r\nAUTH\r\n$3\r\na\0b\r\n", Protocol::Redis, b"-ERR", b"<html"),
        (b"AMQP\0\0\x09\x01", Protocol::Amqp, b"\x01\0\0", b"HTTP"),
        (b"AMQP\x03\x01\0\0", Protocol::Amqp, b"AMQP", b"\x15\x03\x01"),
        (b"\x10\x0c\0\x04MQTT\x05\x02\0\x3c\0\0", Protocol::Mqtt, b"\x20", b"\x15"),
        (b"\x10\x10\0\x06MQIsdp\x03\x02\0\x3c\0\x02ab", Protocol::Mqtt, b"\x20", b"H"),
        (&mongo, Protocol::Mongo, &mongo, b"HTTP/1.1 400 Bad Request"),
        (kafka, Protocol::Kafka, b"\0\0\x01\0", b"HTTP"),
        (b"\x04\0\0\x01\x05\0\0\0\0", Protocol::Cassandra, b"\x84\0\0\x01\x06", b"HTTP/"),
    ];
    for (bytes, protocol, good, bad) in table {
        let shown = bytes.escape_ascii();
        let mut bytes = bytes.to_vec();
        if protocol == Protocol::Git {
            let length = format!("{:04x}", bytes.len());
            bytes[..4].copy_from_slice(length.as_bytes());
        }
        // Bytes of later messages are none of the first one.
        let more = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        for bytes in [&bytes, &more] {
            assert_eq!(known(bytes).map(|(protocol, _)| protocol), Some(protocol), "{shown}");
        }
        assert_eq!(known(&more).map(|(_, length)| length), Some(bytes.len()), "{shown}");
        let Some(Detected::Known(opening)) = Sniffer::default().look(&bytes) else { panic!() };
        for (answer, expected) in [(good, true), (bad, false)] {
            let answered = (1..=answer.len()).find_map(|end| opening.is_answered(&answer[..end]));
            assert_eq!(answered, Some(expected), "{shown} {}", answer.escape_ascii());
            assert_eq!(opening.is_answered(answer), Some(expected), "{shown}");
        }
    }
}

#[test]
fn a_first_message_with_a_request_in_it_is_of_no_protocol() {
    let request = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let embed = |head: &[u8], tail: &[u8]| [head, request, tail].concat();
    let length = u8::try_from(request.len()).unwrap();
    let mongo =
        [length + 26, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for bytes in [
        embed(b"SSH-2.0-", b"\r\n"),
        b"SSH-2.0-x / HTTP/1.1\r\n".to_vec(),
        b"SSH-2.0-x /\r\n".to_vec(),
        embed(&[0, 0, 0, length + 12, 0, 3, 0, 0, b'a', 0], b"\0\0"),
        embed(&[0, 0, 0, length + 10, 0, 3, 0, 0], b"\0\0"),
        embed(format!("*1\r\n${}\r\n", request.len()).as_bytes(), b"\r\n"),
        embed(format!("*2\r\n$4\r\nECHO\r\n${}\r\n", request.len()).as_bytes(), b"\r\n"),
        embed(&[0x10, length + 12, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0], b""),
        embed(&mongo, b""),
        embed(&[0, 0, 0, length + 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, length], b""),
        embed(&[4, 0, 0, 1, 5, 0, 0, 0, length], b""),
        embed(b"0045git-upload-pack /", b"\0host=a.example.com\0"),
    ] {
        assert_eq!(known(&bytes), None, "{}", bytes.escape_ascii());
        assert!(speech(&bytes).is_some(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_host_of_a_git_request_is_told() {
    let bytes = b"0036git-upload-pack /a.git\0host=git.example.com:9418\0\0v\0";
    let mut bytes = bytes.to_vec();
    let length = format!("{:04x}", bytes.len());
    bytes[..4].copy_from_slice(length.as_bytes());
    let Some(Detected::Known(opening)) = speech(&bytes) else { panic!("{:?}", speech(&bytes)) };
    assert_eq!(opening.server_name(&bytes), Some(&b"git.example.com:9418"[..]));
}

#[test]
fn what_ends_within_its_first_line_is_no_request_unless_it_says_so() {
    for bytes in [&b"a question"[..], b"ping", b"PRI", b"\x16", b" ", b"SSH-2.0", b"\0\0"] {
        assert_eq!(at_end(bytes), Detected::Unknown, "{}", bytes.escape_ascii());
    }
    for bytes in [&b"GET /"[..], b"get ", b"PRI * HTTP/2.0", b"FOO / http/1"] {
        assert_eq!(at_end(bytes), Detected::Http1, "{}", bytes.escape_ascii());
    }
    assert_eq!(at_end(b""), Detected::Silent);
}

#[test]
fn the_preface_is_recognised() {
    assert_eq!(speech(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Detected::Http2));
    assert_eq!(speech(b"PRI * HTTP/2"), None);
    assert_eq!(speech(b"GE"), None);
}

#[test]
fn no_input_keeps_us_reading_for_ever() {
    for byte in 0..=255 {
        let flood = vec![byte; LONGEST_LINE];
        assert!(Sniffer::default().look(&flood).is_some(), "{byte:#x}");
        assert!(of_server(&flood).is_some(), "{byte:#x}");
    }
    let line = [b"FOO ".to_vec(), vec![b'x'; LONGEST_LINE]].concat();
    assert_eq!(speech(&line), Some(Detected::Http1));
    let array = [b"*9\r\n$4\r\nMSET\r\n$16384\r\n".to_vec(), vec![b'x'; MAX_OPENING]].concat();
    assert!(speech(&array).is_some());
}

#[test]
fn a_server_that_speaks_first_is_of_the_web_or_not() {
    for bytes in [
        &b"HTTP/1.1 408 Request Timeout\r\n"[..],
        b"http/1.0 400",
        b"\r\nHTTP/1.1 408",
        b"<!DOCTYPE html>",
        b"\0\0\x06\x04\0\0\0\0\0",
        b"\x15\x03\x03\0\x02\x02\x28",
        b"\x16\x03\x03",
        b"\x80\x03\0",
    ] {
        let found = (1..=bytes.len()).find_map(|end| of_server(&bytes[..end]));
        assert_eq!(found, Some(Server::Web), "{}", bytes.escape_ascii());
    }
    for bytes in [
        &b"220 mail.example.com ESMTP\r\n"[..],
        b"SSH-2.0-x",
        b"\r\nlogin: ",
        b"* OK IMAP ready",
        b"\x4a\0\0\0\x0a8.0.36",
        b"INFO {}",
        b"Hello",
        b"\0\0\x06\x03\0\0\0\0\0",
    ] {
        let found = (1..=bytes.len()).find_map(|end| of_server(&bytes[..end]));
        assert_eq!(found, Some(Server::Own), "{}", bytes.escape_ascii());
    }
    for bytes in [&b"H"[..], b"HTTP", b"\r\n", b"\x16", b"\0\0", b"\0\0\x06\x04\0"] {
        assert_eq!(of_server(bytes), None, "{}", bytes.escape_ascii());
    }
}

/// A ClientHello for `name`.
fn hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let length = u8::try_from(name.len()).unwrap();
    let sni = [&[0, 0, 0, length + 5, 0, length + 3, 0, 0, length][..], name].concat();
    let fixed = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, length + 9]].concat();
    let body = [fixed, sni].concat();
    let size = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, size + 4, 1, 0, 0, size][..], &body].concat()
}

const SERVER_HELLO: &[u8] =
    b"\x16\x03\x03\0\x2a\x02\0\0\x26\x03\x03abcdefghijklmnopqrstuvwxyz012345\0\x13\x01\0";

/// The server names that are seen, until the flow is cut or all of it has passed.
fn watched(steps: &[(bool, &[u8])], size: usize) -> Result<Vec<String>, Cut> {
    let mut watch = Watch::default();
    let mut names = Vec::new();
    for (client, bytes) in steps {
        for part in bytes.chunks(size) {
            if *client {
                let hello = watch.client(part);
                names.extend(hello.map(|hello| hello.sni.expect("a name").to_string()));
            } else {
                watch.server(part)?;
            }
        }
    }
    Ok(names)
}

#[test]
fn the_name_of_an_upgrade_to_tls_is_seen() {
    let hello = hello("mail.example.com");
    let mysql = [&[32, 0, 0, 1][..], &[0x85; 32], &hello].concat();
    let encrypted = b"\x17\x03\x03\0\x05HTTP/1.1 200";
    let smtp: &[(bool, &[u8])] = &[
        (false, b"220 ready\r\n"),
        (true, b"EHLO a\r\n"),
        (false, b"250 STARTTLS\r\n"),
        (true, b"STARTTLS\r\n"),
        (false, b"220 go\r\n"),
        (true, &hello),
        (false, SERVER_HELLO),
        (true, encrypted),
        (false, encrypted),
    ];
    let sql: &[(bool, &[u8])] =
        &[(false, b"\x4a\0\0\0\x0a8.0"), (true, &mysql), (false, SERVER_HELLO), (false, encrypted)];
    for size in [1, 2, 3, 7, 1000] {
        for steps in [smtp, sql] {
            assert_eq!(watched(steps, size), Ok(vec!["mail.example.com".to_owned()]), "{size}");
        }
    }
}

#[test]
fn a_second_hello_of_an_upgrade_is_seen_where_the_server_asks_for_it() {
    let random = b"\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\
                   \xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c";
    let asks = [&SERVER_HELLO[..11], random, &SERVER_HELLO[43..]].concat();
    let (first, second) = (hello("mail.example.com"), hello("other.example.com"));
    let both = [first.clone(), second.clone()].concat();
    let go: (bool, &[u8]) = (false, b"220 go\r\n");
    let asked = [go, (true, &*first), (false, &*asks), (true, &*second), (false, SERVER_HELLO)];
    let unasked = [go, (true, &*first), (true, &*second), (false, SERVER_HELLO)];
    let together = [go, (true, &*both), (false, &*asks)];
    for size in [1, 2, 5, 13, 1000] {
        let names = ["mail.example.com", "other.example.com"].map(str::to_owned).to_vec();
        assert_eq!(watched(&asked, size), Ok(names), "{size}");
        assert_eq!(watched(&unasked, size), Err(Cut::Tls), "{size}");
        assert_eq!(watched(&together, size), Err(Cut::Tls), "{size}");
    }
}

#[test]
fn an_upgrade_that_hides_its_hello_is_cut() {
    let good = hello("mail.example.com");
    let evil = [b"\x15\x03\x01\0\x02\x01\x64".to_vec(), hello("evil.example.net")].concat();
    let pipelined = [b"STARTTLS\r\n".to_vec(), hello("evil.example.net")].concat();
    let late = [b"220 go\r\n".to_vec(), SERVER_HELLO.to_vec()].concat();
    let greeting: (bool, &[u8]) = (false, b"220 ready\r\n");
    let cases: [&[(bool, &[u8])]; 4] = [
        &[greeting, (true, &evil), (false, SERVER_HELLO)],
        &[greeting, (true, &pipelined), (false, b"220 go\r\n"), (false, SERVER_HELLO)],
        &[greeting, (true, &pipelined), (false, &late)],
        // One that is only shown does not do for one that is not.
        &[greeting, (true, &good), (false, b"500 what\r\n"), (true, &pipelined), (false, &late)],
    ];
    for (number, steps) in cases.iter().enumerate() {
        for size in [1, 2, 5, 13, 1000] {
            assert_eq!(watched(steps, size), Err(Cut::Tls), "{number} {size}");
        }
    }
}

#[test]
fn a_server_that_answers_in_http_is_cut() {
    let steps: &[(bool, &[u8])] = &[
        (false, b"220 ready\r\n"),
        (true, b"GET / HTTP/1.1\r\n\r\n"),
        (false, b"HTTP/1.1 200 OK"),
    ];
    for size in [1, 3, 1000] {
        assert_eq!(watched(steps, size), Err(Cut::Http));
    }
    let steps: &[(bool, &[u8])] = &[(true, b"a"), (false, b"HTTP/ is a protocol, HTTP/1.1 too")];
    assert_eq!(watched(steps, 4), Ok(Vec::new()));
}
