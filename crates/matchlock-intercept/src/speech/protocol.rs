//! The closed list of protocols other than HTTP and TLS in which the client speaks first.
//!
//! Each has a grammar for the whole first message of the client and one for the first bytes of the
//! server's answer. Nothing but that message is passed on before the server has answered in the same
//! protocol, and it mentions neither `HTTP/` nor `GET /`. So a web server gets no request to see, however it reads.

use std::fmt;

/// The longest first message.
pub const MAX_OPENING: usize = 16 * 1024;
/// The longest answer of MongoDB and of Kafka that is believed.
const MAX_ANSWER: u32 = 48 << 20;

/// A protocol that passes unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 4253.
    Ssh,
    /// The daemon of rsync.
    Rsync,
    /// `git://`: the protocol of Git's own daemon.
    Git,
    /// PostgreSQL, version 3 of its protocol.
    Postgres,
    /// Redis and its relatives, in arrays of bulk strings.
    Redis,
    /// AMQP 0-9-1 and 1.0.
    Amqp,
    /// MQTT 3.1, 3.1.1 and 5.
    Mqtt,
    /// MongoDB.
    Mongo,
    /// Kafka, from its 0.10 on.
    Kafka,
    /// Cassandra's native protocol, versions 3 to 5.
    Cassandra,
}

/// Whether bytes are of a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match<T> {
    No,
    /// So far.
    More,
    Yes(T),
}

/// The first message of a client, which is of a protocol of the list. Only the classifier makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    protocol: Protocol,
    length: usize,
}

/// Finds the length of a first message.
type Grammar = fn(&[u8]) -> Match<usize>;

const ALL: [(Protocol, Grammar); 10] = [
    (Protocol::Ssh, |bytes| line(bytes, &[b"SSH-2.0-", b"SSH-1.99-"])),
    (Protocol::Rsync, |bytes| line(bytes, &[b"@RSYNCD: "])),
    (Protocol::Git, git),
    (Protocol::Postgres, postgres),
    (Protocol::Redis, redis),
    (Protocol::Amqp, amqp),
    (Protocol::Mqtt, mqtt),
    (Protocol::Mongo, mongo),
    (Protocol::Kafka, kafka),
    (Protocol::Cassandra, cassandra),
];

impl Opening {
    /// What is spoken.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How many bytes may be passed on before the server has answered.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The name that the first message is for, in a protocol whose servers have several. `bytes` are
    /// those that the opening was found in.
    #[must_use]
    pub fn server_name<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.protocol != Protocol::Git {
            return None;
        }
        let parameters = bytes.get(4..self.length)?.split(|&byte| byte == 0).skip(1);
        let mut names = parameters.filter_map(|text| text.strip_prefix(b"host="));
        names.next()
    }

    /// Whether the first bytes of the server are of the same protocol; none when more are needed.
    #[must_use]
    pub fn is_answered(&self, answer: &[u8]) -> Option<bool> {
        let known = |prefix: &[u8]| match answer {
            _ if answer.starts_with(prefix) => Some(true),
            _ if prefix.starts_with(answer) => None,
            _ => Some(false),
        };
        let &first = answer.first()?;
        match self.protocol {
            Protocol::Ssh => known(b"SSH-"),
            Protocol::Rsync => known(b"@RSYNCD: "),
            Protocol::Git => {
                let hexadecimal = answer.iter().take(4).all(u8::is_ascii_hexdigit);
                if hexadecimal && answer.len() < 4 { None } else { Some(hexadecimal) }
            }
            // The answer to a request for encryption is one byte.
            Protocol::Postgres if self.length == 8 => Some(b"SGNE".contains(&first)),
            Protocol::Postgres if !b"RENv".contains(&first) => Some(false),
            Protocol::Postgres => answer.get(1).map(|&high| high == 0),
            Protocol::Redis => Some(b"+-:$*%_~(,#>|=!".contains(&first)),
            Protocol::Amqp if first == b'A' => known(b"AMQP"),
            Protocol::Amqp => known(&[1, 0, 0]),
            Protocol::Mqtt => Some([0x20, 0xf0].contains(&first)),
            Protocol::Mongo => {
                let [length, _, _, code] = words(answer, u32::from_le_bytes)?;
                Some((16..MAX_ANSWER).contains(&length) && [1, 2012, 2013].contains(&code))
            }
            Protocol::Kafka => {
                let length = u32::from_be_bytes(*answer.first_chunk()?);
                Some((4..MAX_ANSWER).contains(&length))
            }
            Protocol::Cassandra => {
                let code = answer.get(4)?;
                Some(matches!(first, 0x83..=0x85) && [0, 2, 3, 6].contains(code))
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh => "ssh",
            Self::Rsync => "rsync",
            Self::Git => "git",
            Self::Postgres => "postgresql",
            Self::Redis => "redis",
            Self::Amqp => "amqp",
            Self::Mqtt => "mqtt",
            Self::Mongo => "mongodb",
            Self::Kafka => "kafka",
            Self::Cassandra => "cassandra",
        })
    }
}

/// Whether a client speaks a protocol of the list.
pub(super) fn opening(bytes: &[u8]) -> Match<Opening> {
    let mut open = false;
    for (protocol, grammar) in ALL {
        match grammar(bytes) {
            Match::Yes(length) if mentions_request(&bytes[..length]) => return Match::No,
            Match::Yes(length) => return Match::Yes(Opening { protocol, length }),
            Match::More => open = true,
            Match::No => {}
        }
    }
    if open { Match::More } else { Match::No }
}

/// What no request does without, of HTTP/1 or of HTTP/0.9.
fn mentions_request(bytes: &[u8]) -> bool {
    let is_part = |window: &[u8]| {
        window.eq_ignore_ascii_case(b"HTTP/") || window.eq_ignore_ascii_case(b"GET /")
    };
    bytes.windows(5).any(is_part)
}

/// Whether `bytes` begin with one of these; `Yes` says how long that is.
fn prefix(bytes: &[u8], prefixes: &[&[u8]]) -> Match<usize> {
    if let Some(found) = prefixes.iter().find(|prefix| bytes.starts_with(prefix)) {
        return Match::Yes(found.len());
    }
    if prefixes.iter().any(|prefix| prefix.starts_with(bytes)) { Match::More } else { Match::No }
}

/// A message of which the length is known, as soon as all of it is there and `good`.
fn message(bytes: &[u8], length: usize, good: impl FnOnce(&[u8]) -> bool) -> Match<usize> {
    if length > MAX_OPENING {
        return Match::No;
    }
    match bytes.get(..length) {
        None => Match::More,
        Some(message) if good(message) => Match::Yes(length),
        Some(_) => Match::No,
    }
}

/// The first four numbers of four bytes.
fn words(bytes: &[u8], read: fn([u8; 4]) -> u32) -> Option<[u32; 4]> {
    let (words, _) = bytes.first_chunk::<16>()?.as_chunks::<4>();
    Some([read(words[0]), read(words[1]), read(words[2]), read(words[3])])
}

/// A first line that says who speaks (RFC 4253, section 4.2), without the `/` that a request needs.
fn line(bytes: &[u8], prefixes: &[&[u8]]) -> Match<usize> {
    const LONGEST: usize = 255;
    let start = match prefix(bytes, prefixes) {
        Match::Yes(start) => start,
        other => return other,
    };
    let line = &bytes[..bytes.len().min(LONGEST)];
    let end = line.iter().position(|&byte| byte == b'\n');
    let text = &line[start..end.unwrap_or(line.len())];
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let good = text.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'/');
    match end {
        _ if !good => Match::No,
        Some(end) if !text.is_empty() => Match::Yes(end + 1),
        Some(_) => Match::No,
        None if line.len() == LONGEST => Match::No,
        None => Match::More,
    }
}

/// One packet line: `git-upload-pack /project.git`, a NUL, and parameters that end in NUL
/// (gitprotocol-pack).
fn git(bytes: &[u8]) -> Match<usize> {
    const SERVICES: &[&[u8]] =
        &[b"git-upload-pack /", b"git-receive-pack /", b"git-upload-archive /"];
    let Some((digits, rest)) = bytes.split_at_checked(4) else {
        let good = bytes.iter().all(u8::is_ascii_hexdigit);
        return if good { Match::More } else { Match::No };
    };
    let length = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    let Some(length) = length.and_then(|text| usize::from_str_radix(text, 16).ok()) else {
        return Match::No;
    };
    match prefix(rest, SERVICES) {
        Match::Yes(service) if length > 4 + service => message(bytes, length, |message| {
            message.last() == Some(&0) && message.iter().all(|&byte| byte == 0 || byte >= b' ')
        }),
        Match::Yes(_) | Match::No => Match::No,
        Match::More => Match::More,
    }
}

/// A start-up message, or a request for encryption or cancellation ("Message Formats" of
/// PostgreSQL's documentation).
fn postgres(bytes: &[u8]) -> Match<usize> {
    const LONGEST: u32 = 10_000;
    const CANCEL: u32 = 80_877_102;
    const ENCRYPT: [u32; 2] = [80_877_103, 80_877_104];
    if !bytes.iter().take(2).all(|&byte| byte == 0) {
        return Match::No;
    }
    let Some((words, _)) = bytes.first_chunk::<8>().map(|bytes| bytes.as_chunks::<4>()) else {
        return Match::More;
    };
    let [length, code] = [words[0], words[1]].map(u32::from_be_bytes);
    let start_up = |message: &[u8]| {
        let Some((&0, parameters)) = message.get(8..).and_then(<[u8]>::split_last) else {
            return false;
        };
        let text = parameters.iter().all(|&byte| byte == 0 || byte >= b' ');
        text && parameters.last().is_none_or(|&byte| byte == 0)
    };
    match code {
        _ if length > LONGEST => Match::No,
        CANCEL if (16..=268).contains(&length) => message(bytes, length as usize, |_| true),
        code if length == 8 && ENCRYPT.contains(&code) => Match::Yes(8),
        code if code >> 16 == 3 && length > 8 => message(bytes, length as usize, start_up),
        _ => Match::No,
    }
}

/// A command as an array of bulk strings (RESP).
fn redis(bytes: &[u8]) -> Match<usize> {
    const MOST: usize = 64;
    let mut at = 0;
    let count = match number(bytes, &mut at, b'*') {
        Match::Yes(count) if (1..=MOST).contains(&count) => count,
        Match::Yes(_) | Match::No => return Match::No,
        Match::More => return Match::More,
    };
    for index in 0..count {
        let length = match number(bytes, &mut at, b'$') {
            Match::Yes(length) if length <= MAX_OPENING => length,
            Match::Yes(_) | Match::No => return Match::No,
            Match::More => return Match::More,
        };
        if index == 0 && !is_command(bytes.get(at..).unwrap_or_default(), length) {
            return Match::No;
        }
        at += length;
        if at > MAX_OPENING {
            return Match::No;
        }
        match prefix(bytes.get(at..).unwrap_or_default(), &[b"\r\n"]) {
            Match::Yes(end) => at += end,
            other => return other,
        }
    }
    message(bytes, at, |_| true)
}

/// Whether the first bulk string of an array names a command, as far as it is there.
fn is_command(bytes: &[u8], length: usize) -> bool {
    let name = &bytes[..bytes.len().min(length)];
    let letters = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    letters && (1..=32).contains(&length)
}

/// A line of RESP that has a number behind `kind`.
fn number(bytes: &[u8], at: &mut usize, kind: u8) -> Match<usize> {
    const DIGITS: usize = 5;
    let rest = bytes.get(*at..).unwrap_or_default();
    let Some((&first, rest)) = rest.split_first() else { return Match::More };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if first != kind || digits > DIGITS || (digits == 0 && !rest.is_empty()) {
        return Match::No;
    }
    match prefix(&rest[digits..], &[b"\r\n"]) {
        Match::Yes(end) => {
            *at += 1 + digits + end;
            // All are digits, and few.
            let value =
                rest[..digits].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
            Match::Yes(value)
        }
        other => other,
    }
}

/// The protocol header of AMQP 0-9-1 (section 4.2.2) and 1.0 (part 2, section 2.2).
fn amqp(bytes: &[u8]) -> Match<usize> {
    prefix(
        bytes,
        &[b"AMQP\0\0\x09\x01", b"AMQP\0\x01\0\0", b"AMQP\x02\x01\0\0", b"AMQP\x03\x01\0\0"],
    )
}

/// CONNECT (MQTT 5, section 3.1).
fn mqtt(bytes: &[u8]) -> Match<usize> {
    const NAMES: &[&[u8]] = &[b"\0\x04MQTT\x04", b"\0\x04MQTT\x05", b"\0\x06MQIsdp\x03"];
    let Some((&kind, rest)) = bytes.split_first() else { return Match::More };
    if kind != 0x10 {
        return Match::No;
    }
    let mut length = 0;
    // Two bytes say as much as a first message may have.
    for (index, &byte) in rest.iter().take(2).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let start = 2 + index;
            return match prefix(&bytes[start..], NAMES) {
                Match::Yes(name) if length > name => message(bytes, start + length, |_| true),
                Match::Yes(_) | Match::No => Match::No,
                Match::More => Match::More,
            };
        }
    }
    if rest.len() < 2 { Match::More } else { Match::No }
}

/// `OP_QUERY` or `OP_MSG`, which are how drivers say hello.
fn mongo(bytes: &[u8]) -> Match<usize> {
    // The length is little-endian, and no answer to anything.
    let high = bytes.iter().skip(2).take(2).chain(bytes.iter().skip(8).take(4));
    if !high.into_iter().all(|&byte| byte == 0) {
        return Match::No;
    }
    let Some([length, _, _, code]) = words(bytes, u32::from_le_bytes) else { return Match::More };
    if length < 26 || ![2004, 2013].contains(&code) {
        return Match::No;
    }
    message(bytes, length as usize, |_| true)
}

/// `ApiVersions`, the first request of every client.
fn kafka(bytes: &[u8]) -> Match<usize> {
    const API_VERSIONS: [u8; 3] = [0, 18, 0];
    let Some((length, rest)) = bytes.split_first_chunk() else {
        let small = bytes.iter().take(2).all(|&byte| byte == 0);
        return if small { Match::More } else { Match::No };
    };
    let length = u32::from_be_bytes(*length) as usize;
    if !(10..MAX_OPENING).contains(&length) || rest.get(3).is_some_and(|&version| version > 9) {
        return Match::No;
    }
    match prefix(rest, &[&API_VERSIONS]) {
        Match::Yes(_) => message(bytes, 4 + length, |_| true),
        other => other,
    }
}

/// `STARTUP` or `OPTIONS` (native protocol v5, section 2).
fn cassandra(bytes: &[u8]) -> Match<usize> {
    const FRAME: usize = 9;
    let looks = |at: usize, good: &[u8]| bytes.get(at).is_none_or(|byte| good.contains(byte));
    if !looks(0, &[3, 4, 5]) || !looks(1, &[0, 0x10]) || !looks(4, &[1, 5]) {
        return Match::No;
    }
    let Some([.., a, b, c, d]) = bytes.first_chunk::<FRAME>() else { return Match::More };
    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    message(bytes, length.saturating_add(FRAME), |_| true)
}
