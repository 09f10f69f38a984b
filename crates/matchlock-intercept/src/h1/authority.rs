//! Host and port as a request names them.

use std::fmt;

use matchlock_policy::{Endpoint, Host};

/// What names no host, or not one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// No `Host` field.
    #[error("the request has no Host field")]
    Missing,
    /// More than one `Host` field.
    #[error("the request has more than one Host field")]
    Repeated,
    /// Not a host and an optional port: empty, user information, a byte that no host name has.
    #[error("the authority is not a host and a port")]
    Malformed,
    /// `Host` and the authority of the target differ.
    #[error("the Host field and the request target name different hosts")]
    Mismatch,
}

/// A host, in its canonical form, and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    host: Host,
    port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:port`, `[address]` or `[address]:port`.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let text = std::str::from_utf8(bytes).map_err(|_| AuthorityError::Malformed)?;
        let end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']').ok_or(AuthorityError::Malformed)? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end);
        let port = match rest.strip_prefix(':') {
            Some(digits) => Some(port(digits).ok_or(AuthorityError::Malformed)?),
            None if rest.is_empty() => None,
            None => return Err(AuthorityError::Malformed),
        };
        // Names beyond ASCII are for whoever types them: on the wire they are encoded.
        let host = Some(host).filter(|host| host.is_ascii()).and_then(|host| host.parse().ok());
        Ok(Self { host: host.ok_or(AuthorityError::Malformed)?, port })
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, if it is given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Where that is, in a scheme with this port.
    #[must_use]
    pub fn endpoint(&self, default_port: u16) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.port.unwrap_or(default_port) }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn port(digits: &str) -> Option<u16> {
    let decimal = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&port| decimal && port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_hosts_with_optional_ports() {
        let table = [
            ("example.com", "example.com", None),
            ("EXAMPLE.com.:8080", "example.com", Some(8080)),
            ("10.0.0.1:1", "10.0.0.1", Some(1)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
            ("a_b.example.com", "a_b.example.com", None),
        ];
        for (text, host, port) in table {
            let authority = Authority::parse(text.as_bytes()).expect(text);
            assert_eq!((authority.host().to_string().as_str(), authority.port()), (host, port));
            assert_eq!(authority.endpoint(7).port, port.unwrap_or(7));
        }
    }

    #[test]
    fn authorities_with_anything_else_are_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:8 0",
            "a:000080",
            "u@a",
            "a/b",
            "a b",
            "a%00",
            "a%2ecom",
            "a\0b",
            "é.com",
            "[::1",
            "::1",
            "[]",
            "[::1]80",
            "[fe80::1%eth0]",
            "[a]",
            "a,b",
            "a#b",
            "a?b",
            "a\\b",
            "0x7f.1",
            "127.1",
            "*",
            "a..b",
            "-a",
            "[::1]x:80",
            "a:80:80",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(AuthorityError::Malformed), "{text}");
        }
    }
}
