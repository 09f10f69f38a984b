//! What is watched on a flow that passes unread, though no rule says that it may be anything.
//!
//! Protocols change into TLS on their way (STARTTLS, PostgreSQL, MySQL). That must not become a way
//! to another server behind the same address, so the ClientHello is looked for where it belongs: at
//! the beginning of a turn of the client. A server that answers a hello which was not seen there
//! is not heard, and neither is one that speaks HTTP.

use crate::client_hello::{ClientHello, HelloReader, Peek};
use crate::retry::Retry;

/// As much of a ServerHello as tells it: the header of the record, kind and length of the message, and
/// its version (RFC 8446, section 4.1.3).
const SERVER_HELLO: usize = 11;
/// MySQL's request for TLS is a packet of this length, and the hello follows at once.
const MYSQL_REQUEST: usize = 36;

/// The state of a watched flow.
#[derive(Debug, Default)]
pub struct Watch {
    turn: Turn,
    /// The first bytes of this turn.
    start: Vec<u8>,
    hello: Option<HelloReader>,
    /// A hello was seen, and the server has not answered.
    seen: bool,
    /// The server has answered a hello that was seen. From here on all is encrypted, unless it asks for
    /// another hello.
    secured: bool,
    /// What comes after a hello that was seen.
    retry: Retry,
    /// The client has sent what no handshake has there: the server is not heard.
    lost: bool,
    /// The last bytes of the server.
    tail: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Nobody,
    Client,
    Server,
}

/// Why a flow is not carried on. What was given to [`Watch::server`] must not reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The server speaks HTTP.
    #[error("the server answers in HTTP")]
    Http,
    /// The server answers a ClientHello that was not seen.
    #[error("the server speaks TLS, and no server name was seen")]
    Tls,
}

impl Watch {
    /// Takes bytes of the client. A complete ClientHello is to be judged before the bytes are passed
    /// on.
    pub fn client(&mut self, mut bytes: &[u8]) -> Option<ClientHello> {
        if self.secured {
            return self.again(bytes);
        }
        if bytes.is_empty() {
            return None;
        }
        if self.turn != Turn::Client {
            self.turn = Turn::Client;
            self.start.clear();
            self.seen = false;
            self.hello = Some(HelloReader::default());
        }
        if self.seen {
            return self.again(bytes);
        }
        let is_request = |start: &[u8]| start.starts_with(&[MYSQL_REQUEST as u8 - 4, 0, 0]);
        while self.start.len() < MYSQL_REQUEST
            && (self.start.len() < 3 || is_request(&self.start))
            && let Some((&byte, rest)) = bytes.split_first()
        {
            self.start.push(byte);
            let reader = self.hello.as_mut()?;
            let peek = reader.read(&[byte]);
            bytes = rest;
            if self.start.len() == MYSQL_REQUEST {
                self.hello = Some(HelloReader::default());
            } else if let Some(hello) = self.told(peek) {
                return Some(hello);
            }
        }
        let peek = self.hello.as_mut()?.advance(&mut bytes);
        let hello = self.told(peek)?;
        // There is no answer yet that could ask for more.
        self.again(bytes);
        Some(hello)
    }

    /// A second hello, if these bytes of the client complete one.
    fn again(&mut self, bytes: &[u8]) -> Option<ClientHello> {
        self.retry.client(bytes).unwrap_or_else(|_unexpected| {
            self.lost = true;
            None
        })
    }

    fn told(&mut self, peek: Peek) -> Option<ClientHello> {
        match peek {
            Peek::NeedMore => None,
            // It may be the beginning of MySQL's request.
            Peek::NotTls | Peek::Malformed if self.start.len() < MYSQL_REQUEST => None,
            Peek::NotTls | Peek::Malformed => {
                self.hello = None;
                None
            }
            Peek::Hello(hello) => {
                self.hello = None;
                self.seen = true;
                self.retry = Retry::default();
                self.lost = false;
                Some(hello)
            }
        }
    }

    /// Takes bytes of the server.
    ///
    /// # Errors
    /// When they must not be passed on.
    pub fn server(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        if self.secured {
            return self.answered(bytes);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if self.turn != Turn::Server {
            self.turn = Turn::Server;
            self.start.clear();
        }
        let more = bytes.len().min(SERVER_HELLO.saturating_sub(self.start.len()));
        self.start.extend_from_slice(&bytes[..more]);
        if self.seen {
            match *self.start {
                [0x14..=0x16] => return self.answered(bytes),
                [0x14..=0x16, 3, ..] => {
                    self.secured = true;
                    return self.answered(bytes);
                }
                _ => self.seen = false,
            }
        }
        if self.start.len() > 5
            && self.start.starts_with(b"HTTP/")
            && self.start[5].is_ascii_digit()
        {
            return Err(Cut::Http);
        }
        self.look_for_hello(bytes)
    }

    /// Bytes of the server in a handshake whose hello was seen.
    fn answered(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        self.lost |= self.retry.server(bytes).is_err();
        if self.lost { Err(Cut::Tls) } else { Ok(()) }
    }

    /// A ServerHello anywhere: the client may have sent its own in a way that was not seen.
    fn look_for_hello(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        let border = [&self.tail, &bytes[..bytes.len().min(SERVER_HELLO - 1)]].concat();
        if has_server_hello(&border) || has_server_hello(bytes) {
            return Err(Cut::Tls);
        }
        let kept = match bytes.len() < SERVER_HELLO {
            true => &border[..],
            false => bytes,
        };
        self.tail = kept[kept.len().saturating_sub(SERVER_HELLO - 1)..].to_vec();
        Ok(())
    }
}

fn has_server_hello(bytes: &[u8]) -> bool {
    memchr::memchr_iter(0x16, bytes).any(|at| {
        let Some(&[_, major, minor, high, low, kind, zero, a, b, version, least]) =
            bytes[at..].first_chunk::<SERVER_HELLO>()
        else {
            return false;
        };
        let record = u16::from_be_bytes([high, low]);
        let message = u16::from_be_bytes([a, b]);
        (major, kind, zero, version) == (3, 2, 0, 3)
            && minor <= 4
            && least <= 4
            && record <= 1 << 14
            && message >= 38
    })
}
