//! The first bytes of a flow, held against the laxest servers of HTTP and TLS that there could be.

use matchlock_intercept::speech::{Detected, LONGEST_LINE, MAX_OPENING, Sniffer, Watch, of_server};

/// The answer comes, does not depend on how the bytes come, and lets nothing pass before the server
/// has answered that the laxest server would serve.
pub fn speech(input: &[u8]) {
    let whole = Sniffer::default().look(input);
    let mut sniffer = Sniffer::default();
    // Not every length for long inputs: the time would grow with the square.
    let step = input.len() / 512 + 1;
    let stepwise = (1..input.len()).step_by(step).find_map(|end| sniffer.look(&input[..end]));
    let stepwise = stepwise.or_else(|| sniffer.look(input));
    assert_eq!(whole, stepwise, "{}", input.escape_ascii());
    assert!(whole.is_some() || input.len() < LONGEST_LINE.max(MAX_OPENING), "no end in sight");
    if let Some(Detected::Known(opening)) = &whole {
        let first = &input[..opening.length()];
        assert!(first.len() <= MAX_OPENING);
        assert!(!serves_http(first), "{}", first.escape_ascii());
        assert!(!serves_tls(first), "{}", first.escape_ascii());
        for web in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x15\x03\x03\0\x02\x02\x28"] {
            assert_ne!(opening.is_answered(web), Some(true), "{:?}", opening.protocol());
        }
        let _ = (opening.is_answered(input), opening.server_name(input));
    }
    let _ = of_server(input);
    watch(input);
}

/// The watch comes to the same end however a turn is cut, whoever's it is.
fn watch(input: &[u8]) {
    let (greeting, rest) = input.split_at(input.len().min(16));
    for pieces in [rest.len().max(1), 7] {
        let mut watch = Watch::default();
        let _ = watch.server(greeting);
        let seen = rest.chunks(pieces).filter_map(|piece| watch.client(piece)).count();
        assert!(seen <= 1);
    }
    let cut = |pieces| {
        let mut watch = Watch::default();
        rest.chunks(pieces).find_map(|piece| watch.server(piece).err())
    };
    assert_eq!(cut(rest.len().max(1)), cut(5));
}

/// Whether a server that skips whatever is no letter, knows no limits and reads lines until one is a
/// request would see a request.
fn serves_http(bytes: &[u8]) -> bool {
    let lines = bytes.split(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let mut requests = lines.map(|line| {
        let start = line.iter().position(u8::is_ascii_alphanumeric).unwrap_or(line.len());
        let version = line.windows(5).position(|word| word.eq_ignore_ascii_case(b"HTTP/"));
        let is_get = line[start..].get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"GET /"));
        version.is_some_and(|version| version > start) || is_get
    });
    requests.any(|is_request| is_request)
}

/// Whether a server that skips records of all kinds, in any number, would see a hello.
fn serves_tls(mut bytes: &[u8]) -> bool {
    loop {
        match *bytes {
            [0x16, 3, ..] | [0x80..=0xff, _, 1, ..] => return true,
            [0x14..=0x18, 3, _, high, low, ..] => {
                let end = 5 + usize::from(u16::from_be_bytes([high, low]));
                bytes = bytes.get(end..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}
