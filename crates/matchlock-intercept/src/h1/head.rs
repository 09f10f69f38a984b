//! Heads of messages: values of which each can be written out as it is.

use std::fmt;

use bytes::Bytes;

use super::{Authority, AuthorityError, Scheme, Target};
use crate::headers::{Headers, is_token};

/// What no start line may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHead {
    /// The method is not a token, or a known one in another case.
    #[error("the method is malformed")]
    Method,
    /// The status is not of three digits.
    #[error("the status code is not between 100 and 999")]
    Status,
    /// The reason phrase has a control character.
    #[error("the reason phrase has a control character")]
    Reason,
}

/// A method: a token, which is case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Bytes);

impl Method {
    /// Checks that the bytes are a token.
    pub fn new(method: impl Into<Bytes>) -> Result<Self, InvalidHead> {
        let method = method.into();
        if is_token(&method) { Ok(Self(method)) } else { Err(InvalidHead::Method) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a token is ASCII")
    }

    /// Whether this is that method.
    #[must_use]
    pub fn is(&self, method: &str) -> bool {
        self.0 == method.as_bytes()
    }

    pub(super) fn is_but_for_case(&self, method: &str) -> bool {
        !self.is(method) && self.0.eq_ignore_ascii_case(method.as_bytes())
    }
}

impl TryFrom<&str> for Method {
    type Error = InvalidHead;

    fn try_from(method: &str) -> Result<Self, InvalidHead> {
        Self::new(Bytes::copy_from_slice(method.as_bytes()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version in a start line: no other is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

impl Version {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"HTTP/1.0" => Some(Self::Http10),
            b"HTTP/1.1" => Some(Self::Http11),
            _ => None,
        }
    }
}

/// What precedes the body of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// What it is to be done to.
    pub target: Target,
    /// What the client speaks. Heads that are written out always say 1.1 (RFC 9112, section 2.3).
    pub version: Version,
    /// The fields.
    pub headers: Headers,
}

impl RequestHead {
    /// The authority that the request is for: of its one `Host` field, with which an authority in the
    /// target must agree (RFC 9112, section 3.2).
    pub fn authority(&self) -> Result<Authority, AuthorityError> {
        let mut hosts = self.headers.get_all("host");
        let host = hosts.next().ok_or(AuthorityError::Missing)?;
        if hosts.next().is_some() {
            return Err(AuthorityError::Repeated);
        }
        let host = Authority::parse(host.as_bytes())?;
        let (target, default) = match &self.target {
            Target::Absolute { scheme, authority, .. } => (authority, scheme.default_port()),
            Target::Authority(authority) => (authority, Scheme::Https.default_port()),
            Target::Origin(_) | Target::Asterisk => return Ok(host),
        };
        let agree = target.endpoint(default) == host.endpoint(default);
        if agree { Ok(target.clone()) } else { Err(AuthorityError::Mismatch) }
    }

    /// Makes an absolute form the one that origin servers are asked in (RFC 9112, section 3.2.1).
    pub fn use_origin_form(&mut self) {
        if let Target::Absolute { path_and_query, .. } = &self.target {
            self.target = Target::Origin(path_and_query.clone());
        }
    }

    /// Makes an origin form the one that proxies are asked in (RFC 9112, section 3.2.2).
    pub fn use_absolute_form(&mut self, scheme: Scheme) -> Result<(), AuthorityError> {
        if let Target::Origin(path_and_query) = &self.target {
            let path_and_query = path_and_query.clone();
            self.target = Target::Absolute { scheme, authority: self.authority()?, path_and_query };
        }
        Ok(())
    }
}

/// A status code, of three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

impl Status {
    /// `101 Switching Protocols`
    pub const SWITCHING_PROTOCOLS: Self = Self(101);

    /// 100 to 999: classes beyond 5 mean nothing, but they can be forwarded.
    pub fn new(code: u16) -> Result<Self, InvalidHead> {
        if (100..=999).contains(&code) { Ok(Self(code)) } else { Err(InvalidHead::Status) }
    }

    /// The number.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }

    /// Whether another response follows this one: 1xx but 101, after which HTTP ends.
    #[must_use]
    pub fn is_interim(self) -> bool {
        self.0 < 200 && self != Self::SWITCHING_PROTOCOLS
    }

    /// Whether there is never a body: 1xx, 204, 304 (RFC 9110, section 6.4.1).
    #[must_use]
    pub fn has_no_body(self) -> bool {
        self.0 < 200 || self.0 == 204 || self.0 == 304
    }

    /// 2xx
    #[must_use]
    pub fn is_success(self) -> bool {
        self.0 / 100 == 2
    }
}

/// What a status line says after the code, perhaps nothing. No control characters but tabs.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Reason(Bytes);

impl Reason {
    /// Checks the bytes.
    pub fn new(reason: impl Into<Bytes>) -> Result<Self, InvalidHead> {
        let reason = reason.into();
        let clean = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        if reason.iter().all(clean) { Ok(Self(reason)) } else { Err(InvalidHead::Reason) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// What precedes the body of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// What the server speaks. Heads that are written out always say 1.1 (RFC 9112, section 2.3).
    pub version: Version,
    /// The status.
    pub status: Status,
    /// What is said of the status.
    pub reason: Reason,
    /// The fields.
    pub headers: Headers,
}

impl ResponseHead {
    /// A head without fields, of a response that the program makes itself.
    ///
    /// # Panics
    ///
    /// If the code is not of three digits or the reason has a control character.
    #[must_use]
    pub fn from_static(code: u16, reason: &'static str) -> Self {
        Self {
            version: Version::Http11,
            status: Status::new(code).expect("three digits"),
            reason: Reason::new(reason.as_bytes()).expect("a reason"),
            headers: Headers::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::{HeaderName, HeaderValue};

    fn authority(
        method: &str,
        target: &'static str,
        hosts: &[&str],
    ) -> Result<String, AuthorityError> {
        let method = Method::try_from(method).unwrap();
        let target = Target::parse(&method, &Bytes::from_static(target.as_bytes())).unwrap();
        let field =
            |host: &&str| (HeaderName::from_static("Host"), HeaderValue::try_from(*host).unwrap());
        let headers = hosts.iter().map(field).collect();
        let head = RequestHead { method, target, version: Version::Http11, headers };
        head.authority().map(|authority| authority.to_string())
    }

    #[test]
    fn authority_is_the_one_host_that_target_and_field_agree_on() {
        use AuthorityError::*;
        let table: &[(_, _, &[&str], _)] = &[
            ("GET", "/", &["Example.com"], Ok("example.com")),
            ("GET", "/", &["example.com:80"], Ok("example.com:80")),
            ("GET", "/", &[], Err(Missing)),
            ("GET", "/", &[""], Err(Malformed)),
            ("GET", "/", &["a", "a"], Err(Repeated)),
            ("GET", "/", &["a, b"], Err(Malformed)),
            ("GET", "http://A/", &["a:80"], Ok("a")),
            ("GET", "http://a/", &["b"], Err(Mismatch)),
            ("GET", "http://a/", &["a:8080"], Err(Mismatch)),
            ("GET", "https://a/", &["a:80"], Err(Mismatch)),
            ("GET", "http://a/", &[], Err(Missing)),
            ("CONNECT", "a:443", &["a"], Ok("a:443")),
            ("CONNECT", "a:80", &["a"], Err(Mismatch)),
            ("OPTIONS", "*", &["a"], Ok("a")),
        ];
        for (method, target, hosts, expected) in table {
            let expected = expected.map(str::to_owned);
            assert_eq!(authority(method, target, hosts), expected, "{method} {target} {hosts:?}");
        }
    }

    #[test]
    fn parts_of_start_lines_cannot_carry_another_line() {
        assert_eq!(Method::try_from("GET / HTTP/1.1\r\n"), Err(InvalidHead::Method));
        assert_eq!(Method::try_from(""), Err(InvalidHead::Method));
        assert_eq!(Reason::new("OK\r\nA: b"), Err(InvalidHead::Reason));
        assert_eq!(Status::new(99), Err(InvalidHead::Status));
        assert_eq!(Status::new(1000), Err(InvalidHead::Status));
    }
}
