//! A second ClientHello, which a server may ask for (RFC 8446, section 4.1.4).

use crate::client_hello::{ClientHello, HANDSHAKE, HelloReader, Peek, RECORD_HEADER};

/// The random of a ServerHello that asks for it: SHA-256 of `HelloRetryRequest` (section 4.1.3).
const ASKS_AGAIN: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Kind, length and version of a ServerHello, and its random.
const SERVER_HELLO_HEAD: usize = 1 + 3 + 2 + 32;
const SERVER_HELLO: u8 = 2;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;

/// What has no place in a handshake between a ClientHello and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TLS handshake does not go on as handshakes do")]
pub struct Unexpected;

/// Follows a handshake from its first ClientHello on, until a second one was seen or none can come.
#[derive(Debug, Default)]
pub struct Retry {
    state: State,
    client: Records,
    server: Records,
    /// As much of the server's first message as is needed.
    answer: Vec<u8>,
    /// The second hello, as far as it has come.
    hello: Option<HelloReader>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// The server has not answered.
    #[default]
    Waiting,
    /// It asks for another hello.
    Asked,
    /// What follows is encrypted.
    Done,
}

impl Retry {
    /// From these bytes of the client on, which begin with a whole ClientHello.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn after(mut bytes: &[u8]) -> Result<Self, Unexpected> {
        HelloReader::default().advance(&mut bytes);
        let mut new = Self::default();
        new.client(bytes)?;
        Ok(new)
    }

    /// Takes bytes of the client. A second ClientHello is to be judged before its last byte is passed
    /// on.
    ///
    /// # Errors
    /// No server may see these bytes.
    pub fn client(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, Unexpected> {
        while self.state != State::Done
            && let Some(part) = self.client.next(&mut bytes)
        {
            match part.kind {
                // Of early data, too, which such a server skips.
                CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA if self.hello.is_none() => {}
                HANDSHAKE if self.state == State::Asked => {
                    let reader = self.hello.get_or_insert_default();
                    reader.read(part.header.as_ref().map_or(&[], |header| header));
                    match reader.read(part.content) {
                        Peek::NeedMore => {}
                        Peek::Hello(hello) => {
                            self.state = State::Done;
                            return Ok(Some(hello));
                        }
                        Peek::NotTls | Peek::Malformed => return Err(Unexpected),
                    }
                }
                _ => return Err(Unexpected),
            }
        }
        Ok(None)
    }

    /// Takes bytes of the server, before the client sees them.
    ///
    /// # Errors
    /// They are no answer to a ClientHello.
    pub fn server(&mut self, mut bytes: &[u8]) -> Result<(), Unexpected> {
        while self.state == State::Waiting
            && let Some(part) = self.server.next(&mut bytes)
        {
            match part.kind {
                HANDSHAKE => {}
                CHANGE_CIPHER_SPEC => continue,
                // The handshake has failed.
                ALERT => self.state = State::Done,
                _ => return Err(Unexpected),
            }
            let more = part.content.len().min(SERVER_HELLO_HEAD - self.answer.len());
            self.answer.extend_from_slice(&part.content[..more]);
            if self.answer.first().is_some_and(|&kind| kind != SERVER_HELLO) {
                return Err(Unexpected);
            }
            if self.answer.len() == SERVER_HELLO_HEAD {
                let asked = self.answer.ends_with(&ASKS_AGAIN);
                self.state = if asked { State::Asked } else { State::Done };
            }
        }
        Ok(())
    }
}

/// Records (RFC 8446, section 5.1), as they come.
#[derive(Debug, Default)]
struct Records {
    header: Vec<u8>,
    kind: u8,
    missing: usize,
}

/// Some of a record.
struct Part<'a> {
    kind: u8,
    /// If the record begins here.
    header: Option<[u8; RECORD_HEADER]>,
    content: &'a [u8],
}

impl Records {
    /// The next part, taken off the bytes.
    fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        if bytes.is_empty() {
            return None;
        }
        let mut header = None;
        if self.missing == 0 {
            let wanted = (RECORD_HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(bytes.split_off(..wanted)?);
            let &whole = self.header.first_chunk::<RECORD_HEADER>()?;
            self.header.clear();
            self.kind = whole[0];
            self.missing = usize::from(u16::from_be_bytes([whole[3], whole[4]]));
            header = Some(whole);
        }
        let content = bytes.split_off(..self.missing.min(bytes.len()))?;
        self.missing -= content.len();
        Some(Part { kind: self.kind, header, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3][..], &length, content].concat()
    }

    /// A ClientHello with no more than a name.
    fn hello(name: &str) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        let sni = [&[0, 0, 0, length + 5, 0, length + 3, 0, 0, length], name.as_bytes()].concat();
        let fixed = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0, 0, length + 9]].concat();
        let size = u8::try_from(fixed.len() + sni.len()).unwrap();
        [&[1, 0, 0, size][..], &fixed, &sni].concat()
    }

    fn server_hello(random: [u8; 32]) -> Vec<u8> {
        [&[2, 0, 0, 86, 3, 3][..], &random, &[0; 52]].concat()
    }

    /// The names of second hellos, when everything comes in pieces of this size.
    fn follow(steps: &[(bool, Vec<u8>)], size: usize) -> Result<Vec<String>, Unexpected> {
        let mut retry = Retry::after(&record(HANDSHAKE, &hello("a.example")))?;
        let mut names = Vec::new();
        for (client, bytes) in steps {
            for piece in bytes.chunks(size) {
                match client {
                    true => names.extend(retry.client(piece)?.and_then(|hello| hello.sni)),
                    false => retry.server(piece)?,
                }
            }
        }
        Ok(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_second_hello_is_seen_behind_early_data_and_in_pieces() {
        let asks = record(HANDSHAKE, &server_hello(ASKS_AGAIN));
        let split: Vec<u8> =
            server_hello(ASKS_AGAIN).chunks(3).flat_map(|part| record(HANDSHAKE, part)).collect();
        let second = record(HANDSHAKE, &hello("b.example"));
        let parts: Vec<u8> =
            hello("b.example").chunks(9).flat_map(|part| record(HANDSHAKE, part)).collect();
        let early = record(APPLICATION_DATA, b"early data");
        let change = record(CHANGE_CIPHER_SPEC, &[1]);
        for answer in
            [asks, split, [change.clone(), record(HANDSHAKE, &server_hello(ASKS_AGAIN))].concat()]
        {
            for again in [&second, &parts] {
                let again = [&early[..], &change, again, &early].concat();
                let steps = [(true, early.clone()), (false, answer.clone()), (true, again)];
                for size in [1, 2, 5, 7, 1000] {
                    assert_eq!(follow(&steps, size), Ok(vec!["b.example".to_owned()]), "{size}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_looked_at_once_all_is_encrypted() {
        let second = record(HANDSHAKE, &hello("b.example"));
        for answer in [record(HANDSHAKE, &server_hello([7; 32])), record(ALERT, &[2, 40])] {
            let steps = [(false, answer), (true, second.clone()), (true, vec![0xff; 40])];
            for size in [1, 3, 1000] {
                assert_eq!(follow(&steps, size), Ok(Vec::new()));
            }
        }
    }

    #[test]
    fn what_has_no_place_is_an_error() {
        let second = record(HANDSHAKE, &hello("b.example"));
        let asks = record(HANDSHAKE, &server_hello(ASKS_AGAIN));
        let finished = record(HANDSHAKE, &[20, 0, 0, 1, 0]);
        let split = [record(HANDSHAKE, &hello("b.example")[..9]), record(ALERT, &[1, 0])].concat();
        let table = [
            // Before the server has asked for it.
            vec![(true, second.clone())],
            vec![(false, asks[..20].to_vec()), (true, second)],
            vec![(false, asks.clone()), (true, finished.clone())],
            vec![(false, asks.clone()), (true, split)],
            vec![(false, asks), (true, b"GET / HTTP/1.1\r\n".to_vec())],
            vec![(false, finished)],
            vec![(false, record(HANDSHAKE, &[0, 0, 0, 0]))],
            vec![(false, record(APPLICATION_DATA, b"x"))],
        ];
        for (number, steps) in table.iter().enumerate() {
            for size in [1, 3, 1000] {
                assert_eq!(follow(steps, size), Err(Unexpected), "{number} {size}");
            }
        }
        let pipelined =
            [record(HANDSHAKE, &hello("a.example")), record(HANDSHAKE, &hello("b.example"))];
        assert!(Retry::after(&pipelined.concat()).is_err());
    }
}
