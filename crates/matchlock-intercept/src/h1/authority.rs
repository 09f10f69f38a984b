//! Host and port as a request names them.

use std::fmt;

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

/// A host and perhaps a port, syntactically: the host is in lower case, and an IPv6 address has its
/// brackets. Whether the name is one is for `matchlock_policy` to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    host: String,
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
        if !is_host(host) {
            return Err(AuthorityError::Malformed);
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }

    /// The host, in lower case; an IPv6 address within brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if it is given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port that is given, or this one.
    #[must_use]
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn port(digits: &str) -> Option<u16> {
    let decimal = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&port| decimal && port != 0)
}

/// Less than RFC 3986 allows: no percent-encoding, which programs decode at different times, and no
/// punctuation that no host name has.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !host.is_empty() && host.bytes().all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_hosts_with_optional_ports() {
        let table = [
            ("example.com", "example.com", None),
            ("EXAMPLE.com.:8080", "example.com.", Some(8080)),
            ("10.0.0.1:1", "10.0.0.1", Some(1)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
            ("a_b.example.com", "a_b.example.com", None),
        ];
        for (text, host, port) in table {
            let authority = Authority::parse(text.as_bytes()).expect(text);
            assert_eq!((authority.host(), authority.port()), (host, port), "{text}");
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
            "[::1]x:80",
            "a:80:80",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), Err(AuthorityError::Malformed), "{text}");
        }
    }
}
