//! What a TLS ClientHello says before it is answered (RFC 8446, section 4.1.2).
//!
//! The name decides where a connection may go, so that what another parser could read in another way
//! is refused: a repeated extension, two names, bytes after the end.

use matchlock_policy::HostName;

/// The longest ClientHello that is read, in bytes without record headers.
pub const MAX_HELLO: usize = 64 * 1024;
/// The most records that it may come in.
pub const MAX_RECORDS: usize = 64;

/// The most bytes of a record of plain text (RFC 8446, section 5.1).
const MAX_RECORD: usize = 1 << 14;
pub(crate) const RECORD_HEADER: usize = 5;
pub(crate) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// What the first bytes of a connection are. Only [`NeedMore`](Peek::NeedMore) changes when more bytes
/// come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    /// A ClientHello so far, or nothing yet. Never for more than [`MAX_HELLO`] bytes and
    /// [`MAX_RECORDS`] headers.
    NeedMore,
    /// Of another protocol.
    NotTls,
    /// TLS, but nothing that is to be answered.
    Malformed,
    /// A whole ClientHello.
    Hello(ClientHello),
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The name of the server (RFC 6066, section 3).
    pub sni: Option<HostName>,
    /// Whether a name was given that is none, such as an address.
    pub invalid_sni: bool,
    /// The protocols for the connection, best first (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// Whether the hello may be an outer one, with another name encrypted within (RFC 9849), or its
    /// draft predecessor. Browsers send a decoy that looks the same.
    pub ech: bool,
    /// The versions, as numbers on the wire: 0x0304 is TLS 1.3.
    pub versions: Vec<u16>,
}

/// Looks at the first bytes of a connection.
#[must_use]
pub fn peek(input: &[u8]) -> Peek {
    HelloReader::default().read(input)
}

/// Looks at the first bytes of a connection as they come, each once.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// The handshake message, out of its records.
    message: Vec<u8>,
    /// The header of the next record, as far as it is there.
    header: Vec<u8>,
    /// What is still to come of the last record.
    missing: usize,
    records: usize,
    decided: Option<Peek>,
}

impl HelloReader {
    /// Takes the next bytes. Once it is clear what they are, more change nothing.
    pub fn read(&mut self, mut more: &[u8]) -> Peek {
        self.advance(&mut more)
    }

    /// The same; what follows a hello is left.
    pub(crate) fn advance(&mut self, more: &mut &[u8]) -> Peek {
        if self.decided.is_none() {
            self.decided = match self.take(more) {
                Ok(true) => Some(hello(&self.message[4..]).map_or(Peek::Malformed, Peek::Hello)),
                Ok(false) => None,
                Err(peek) => Some(peek),
            };
        }
        self.decided.clone().unwrap_or(Peek::NeedMore)
    }

    /// Whether the message is complete.
    fn take(&mut self, more: &mut &[u8]) -> Result<bool, Peek> {
        loop {
            if self.missing == 0 {
                let wanted = (RECORD_HEADER - self.header.len()).min(more.len());
                self.header.extend_from_slice(more.split_off(..wanted).unwrap_or_default());
                let Some(length) = self.record()? else { return Ok(false) };
                self.header.clear();
                self.records += 1;
                self.missing = length;
            }
            let present = self.missing.min(more.len());
            self.message.extend_from_slice(more.split_off(..present).unwrap_or_default());
            self.missing -= present;
            if self.is_whole()? {
                return Ok(true);
            }
            if self.missing > 0 {
                return Ok(false);
            }
            if self.records == MAX_RECORDS {
                return Err(Peek::Malformed);
            }
        }
    }

    /// The length of the record whose header is there.
    fn record(&self) -> Result<Option<usize>, Peek> {
        let other = if self.message.is_empty() { Peek::NotTls } else { Peek::Malformed };
        // The minor version is not to be looked at (RFC 8446, section 5.1), but tells other protocols.
        let header = &self.header;
        let looks = |at, good: fn(u8) -> bool| header.get(at).is_none_or(|&byte: &u8| good(byte));
        if !looks(0, |kind| kind == HANDSHAKE)
            || !looks(1, |major| major == 3)
            || !looks(2, |minor| minor <= 4)
        {
            return Err(other);
        }
        let Some(&[_, _, _, high, low]) = header.first_chunk::<RECORD_HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if (1..=MAX_RECORD).contains(&length) { Ok(Some(length)) } else { Err(Peek::Malformed) }
    }

    fn is_whole(&self) -> Result<bool, Peek> {
        let message = &self.message;
        if message.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(Peek::Malformed);
        }
        let Some(&[_, a, b, c]) = message.first_chunk() else { return Ok(false) };
        let end = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
        // The keys may change after this message: nothing shares a record with its end.
        if end > MAX_HELLO || message.len() + self.missing > end {
            return Err(Peek::Malformed);
        }
        Ok(message.len() == end)
    }
}

fn hello(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(message);
    let version = reader.u16()?;
    reader.take(32)?;
    let session = reader.vector8()?;
    let suites = reader.vector16()?;
    let compressions = reader.vector8()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let mut hello = ClientHello { versions: vec![version], ..ClientHello::default() };
    // Before TLS 1.3, a hello may end here.
    if !reader.0.is_empty() {
        extensions(Reader(reader.vector16()?), &mut hello)?;
    }
    reader.0.is_empty().then_some(hello)
}

fn extensions(mut reader: Reader<'_>, hello: &mut ClientHello) -> Option<()> {
    let mut seen = Vec::new();
    while !reader.0.is_empty() {
        let kind = reader.u16()?;
        let data = Reader(reader.vector16()?);
        seen.push(kind);
        match kind {
            0x0000 => match server_name(data)? {
                Some(name) => hello.sni = Some(name),
                None => hello.invalid_sni = true,
            },
            0x0010 => hello.alpn = protocols(data)?,
            0x002b => hello.versions = versions(data)?,
            0xfe0d | 0xffce => hello.ech = true,
            _ => {}
        }
    }
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    (seen.len() == all).then_some(())
}

/// The one name in the list, if it is a name.
fn server_name(mut data: Reader<'_>) -> Option<Option<HostName>> {
    let mut list = Reader(data.vector16()?);
    let kind = list.u8()?;
    let name = list.vector16()?;
    if kind != 0 || name.is_empty() || !list.0.is_empty() || !data.0.is_empty() {
        return None;
    }
    // Names beyond ASCII are encoded on the wire.
    let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii());
    Some(text.and_then(|text| text.parse().ok()))
}

fn protocols(mut data: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(data.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8().filter(|protocol| !protocol.is_empty())?.to_vec());
    }
    (data.0.is_empty() && !protocols.is_empty()).then_some(protocols)
}

fn versions(mut data: Reader<'_>) -> Option<Vec<u16>> {
    let list = data.vector8()?;
    let (pairs, odd) = list.as_chunks::<2>();
    let sound = data.0.is_empty() && odd.is_empty() && !pairs.is_empty();
    sound.then(|| pairs.iter().map(|&pair| u16::from_be_bytes(pair)).collect())
}

/// Takes values off the front; `None` when there is too little.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Bytes after their length in one byte.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// Bytes after their length in two bytes.
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector16(data)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        extension(0, &vector16(&[&[0][..], &vector16(name)].concat()))
    }

    /// A handshake message with these bytes for its extensions.
    fn message(extensions: &[u8]) -> Vec<u8> {
        let fixed = [&[3, 3][..], &[7; 32], &[2, 9, 9], &[0, 2, 0x13, 1], &[1, 0]].concat();
        let body = [fixed, extensions.to_vec()].concat();
        [&[1, 0][..], &vector16(&body)].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat()).collect()
    }

    fn with(extensions: &[Vec<u8>]) -> Vec<u8> {
        records(&message(&vector16(&extensions.concat())), MAX_RECORD)
    }

    fn full() -> Vec<Vec<u8>> {
        vec![
            sni(b"Example.com"),
            extension(0x0010, &vector16(b"\x02h2\x08http/1.1")),
            extension(0x002b, &[4, 3, 4, 3, 3]),
            extension(0x0a0a, &[]),
        ]
    }

    fn expected() -> ClientHello {
        ClientHello {
            sni: Some("example.com".parse().unwrap()),
            invalid_sni: false,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            ech: false,
            versions: vec![0x0304, 0x0303],
        }
    }

    #[test]
    fn a_hello_is_read_from_however_many_records() {
        let message = message(&vector16(&full().concat()));
        for size in [2, 3, 5, 50, MAX_RECORD] {
            assert_eq!(peek(&records(&message, size)), Peek::Hello(expected()), "{size}");
        }
        assert_eq!(peek(&records(&message, 1)), Peek::Malformed, "more than MAX_RECORDS");
    }

    #[test]
    fn what_follows_the_hello_is_not_looked_at() {
        let input = [with(&full()), b"early data".to_vec()].concat();
        assert_eq!(peek(&input), Peek::Hello(expected()));
    }

    #[test]
    fn a_hello_without_extensions_names_nothing() {
        let old = ClientHello { versions: vec![0x0303], ..ClientHello::default() };
        assert_eq!(peek(&records(&message(&[]), 99)), Peek::Hello(old.clone()));
        assert_eq!(peek(&with(&[])), Peek::Hello(old));
    }

    #[test]
    fn encrypted_hellos_are_seen() {
        for kind in [0xfe0d, 0xffce] {
            let Peek::Hello(hello) = peek(&with(&[sni(b"a.com"), extension(kind, b"x")])) else {
                panic!("{kind:x}")
            };
            assert!(hello.ech);
        }
    }

    #[test]
    fn names_that_are_none_are_told() {
        for name in [
            &b"10.0.0.1"[..],
            b"[::1]",
            b"::1",
            b"a\0.com",
            b"a b",
            b"a..b",
            b"\xff",
            "é.com".as_bytes(),
            b"*.a",
        ] {
            let Peek::Hello(hello) = peek(&with(&[sni(name)])) else { panic!("{name:?}") };
            assert_eq!((hello.sni, hello.invalid_sni), (None, true), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn other_protocols_are_not_tls() {
        for input in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            b"\x16\x02",
            b"\x16\x03\x09",
            b"\x80\x2e\x01\x03\x01",
            b"\x15\x03\x01\0\x02\x02\x28",
        ] {
            assert_eq!(peek(input), Peek::NotTls, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn hellos_that_could_be_read_in_two_ways_are_malformed() {
        let name = |text: &[u8]| [&[0][..], &vector16(text)].concat();
        let two_names = [name(b"a.com"), name(b"b.com")].concat();
        let table = [
            with(&[sni(b"a.com"), sni(b"a.com")]),
            with(&[extension(0, &vector16(&two_names))]),
            with(&[extension(0, &vector16(&[]))]),
            with(&[extension(0, &[])]),
            with(&[extension(0, &[vector16(&name(b"a.com")), vec![0]].concat())]),
            with(&[extension(0, &vector16(&[&[1][..], &vector16(b"a.com")].concat()))]),
            with(&[sni(b"")]),
            with(&[extension(0x0010, &vector16(b"\0"))]),
            with(&[extension(0x0010, &vector16(b"\x03h2"))]),
            with(&[extension(0x002b, &[3, 3, 4, 3])]),
            with(&[vec![0, 0, 0, 9, 0]]),
            records(&[message(&vector16(&[])), vec![0]].concat(), 999),
            records(&message(&[vector16(&[]), vec![0]].concat()), 999),
            records(&[2, 0, 0, 0], 9),
            records(&[1, 0, 0, 1, 0], 9),
            records(&[1, 1, 0, 0, 0], 9),
            b"\x16\x03\x01\0\0".to_vec(),
            b"\x16\x03\x01\x40\x01".to_vec(),
            [records(&message(&[])[..9], 9), b"\x17\x03\x03\0\x01x".to_vec()].concat(),
        ];
        for input in table {
            assert_eq!(peek(&input), Peek::Malformed, "{}", input.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn more_bytes_change_nothing_but_the_need_for_them(
            size in 3..200_usize,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut input = records(&message(&vector16(&full().concat())), size);
            for (at, byte) in flips {
                let at = at.index(input.len());
                input[at] = byte;
            }
            let last = peek(&input);
            let mut reader = HelloReader::default();
            let stepwise = input.iter().map(|byte| reader.read(&[*byte])).last();
            prop_assert_eq!(stepwise.as_ref(), Some(&last));
            for end in 0..input.len() {
                let early = peek(&input[..end]);
                prop_assert!(early == Peek::NeedMore || early == last, "{end}: {early:?} {last:?}");
            }
        }
    }
}
