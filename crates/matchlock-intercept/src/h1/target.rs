//! What a request asks for (RFC 9112, section 3.2).

use std::fmt;

use bytes::Bytes;

use super::{Authority, AuthorityError, Method};

/// What is not the target of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// A byte that no target may have: white space, a control character, `#`.
    #[error("the request target has a byte that is not allowed there")]
    Byte,
    /// A path does not begin with `/`.
    #[error("the request target is of no known form")]
    Form,
    /// `%00` in the path: programs disagree on where such a path ends.
    #[error("the path of the request has an encoded NUL")]
    Nul,
    /// A form that this method does not go with.
    #[error("the request target is not of a form for this method")]
    Method,
    /// An absolute form that is neither `http` nor `https`.
    #[error("the request target is of an unknown scheme")]
    Scheme,
    /// The authority within the target.
    #[error("the request target names no host")]
    Authority(#[source] AuthorityError),
}

/// A path and, after the first `?`, a query. Begins with `/` and can be written into a request line.
/// The query may hold a secret: `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct PathAndQuery {
    bytes: Bytes,
    /// Where the `?` is, or the end.
    path: usize,
}

impl PathAndQuery {
    /// Checks the bytes. Those beyond ASCII are let through, as servers do.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, InvalidTarget> {
        let bytes = bytes.into();
        if bytes.iter().any(|&byte| byte <= b' ' || byte == 0x7f || byte == b'#') {
            return Err(InvalidTarget::Byte);
        }
        if bytes.first() != Some(&b'/') {
            return Err(InvalidTarget::Form);
        }
        let path = memchr::memchr(b'?', &bytes).unwrap_or(bytes.len());
        if memchr::memmem::find(&bytes[..path], b"%00").is_some() {
            return Err(InvalidTarget::Nul);
        }
        Ok(Self { bytes, path })
    }

    /// The whole.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is before the `?`.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.bytes[..self.path]
    }

    /// What is after the `?`, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        self.bytes.get(self.path + 1..)
    }

    /// The same path with another query, or without one.
    pub fn with_query(&self, query: Option<&[u8]>) -> Result<Self, InvalidTarget> {
        let mut bytes = self.path().to_vec();
        if let Some(query) = query {
            bytes.push(b'?');
            bytes.extend_from_slice(query);
        }
        Self::new(bytes)
    }

    /// The same query, or none, after another path, which must have no `?`.
    pub fn with_path(&self, path: &[u8]) -> Result<Self, InvalidTarget> {
        if path.contains(&b'?') {
            return Err(InvalidTarget::Byte);
        }
        Self::new([path, &self.bytes[self.path..]].concat())
    }
}

impl fmt::Debug for PathAndQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}", self.path().escape_ascii())?;
        f.write_str(if self.query().is_some() { "?…\"" } else { "\"" })
    }
}

/// The schemes of absolute forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// As it is written, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant when none is given.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The target of a request, in one of its four forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A path on the host that `Host` names: the usual form.
    Origin(PathAndQuery),
    /// A whole URI, as proxies are asked.
    Absolute {
        /// `http` or `https`.
        scheme: Scheme,
        /// The host, and the port if one is given.
        authority: Authority,
        /// `/` if the URI has no path.
        path_and_query: PathAndQuery,
    },
    /// Host and port, of CONNECT only.
    Authority(Authority),
    /// `*`, of OPTIONS only.
    Asterisk,
}

impl Target {
    /// Reads the target of a request with this method.
    pub fn parse(method: &Method, bytes: &Bytes) -> Result<Self, InvalidTarget> {
        if method.is("CONNECT") {
            let authority = Authority::parse(bytes).map_err(InvalidTarget::Authority)?;
            // RFC 9112, section 3.2.3: the port is not optional here.
            return authority
                .port()
                .map_or(Err(InvalidTarget::Form), |_| Ok(Self::Authority(authority.clone())));
        }
        match &bytes[..] {
            [b'/', ..] => PathAndQuery::new(bytes.clone()).map(Self::Origin),
            b"*" if method.is("OPTIONS") => Ok(Self::Asterisk),
            b"*" => Err(InvalidTarget::Method),
            _ => Self::absolute(bytes),
        }
    }

    /// The path and query, of the forms that have one.
    #[must_use]
    pub fn path_and_query(&self) -> Option<&PathAndQuery> {
        match self {
            Self::Origin(path_and_query) | Self::Absolute { path_and_query, .. } => {
                Some(path_and_query)
            }
            Self::Authority(_) | Self::Asterisk => None,
        }
    }

    /// The path and query to change, of the forms that have one.
    pub fn path_and_query_mut(&mut self) -> Option<&mut PathAndQuery> {
        match self {
            Self::Origin(path_and_query) | Self::Absolute { path_and_query, .. } => {
                Some(path_and_query)
            }
            Self::Authority(_) | Self::Asterisk => None,
        }
    }

    fn absolute(bytes: &Bytes) -> Result<Self, InvalidTarget> {
        let colon = memchr::memmem::find(bytes, b"://").ok_or(InvalidTarget::Form)?;
        let scheme = match &bytes[..colon] {
            scheme if scheme.eq_ignore_ascii_case(b"http") => Scheme::Http,
            scheme if scheme.eq_ignore_ascii_case(b"https") => Scheme::Https,
            _ => return Err(InvalidTarget::Scheme),
        };
        let rest = bytes.slice(colon + 3..);
        let end = memchr::memchr2(b'/', b'?', &rest).unwrap_or(rest.len());
        let authority = Authority::parse(&rest[..end]).map_err(InvalidTarget::Authority)?;
        let path_and_query = match rest.get(end) {
            Some(b'/') => PathAndQuery::new(rest.slice(end..)),
            // RFC 9110, section 4.2.3: an empty path is `/`.
            _ => PathAndQuery::new([b"/", &rest[end..]].concat()),
        };
        Ok(Self::Absolute { scheme, authority, path_and_query: path_and_query? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, target: &'static str) -> Result<Target, InvalidTarget> {
        let method = Method::try_from(method).unwrap();
        Target::parse(&method, &Bytes::from_static(target.as_bytes()))
    }

    #[test]
    fn forms_of_targets_are_told_apart() {
        let path = |text: &'static str| PathAndQuery::new(text.as_bytes()).unwrap();
        let host = |text: &str| Authority::parse(text.as_bytes()).unwrap();
        assert_eq!(parse("GET", "/a?b?c"), Ok(Target::Origin(path("/a?b?c"))));
        assert_eq!(parse("GET", "//a.test/b"), Ok(Target::Origin(path("//a.test/b"))));
        let absolute = |scheme, authority, rest| {
            Ok(Target::Absolute { scheme, authority: host(authority), path_and_query: path(rest) })
        };
        assert_eq!(
            parse("GET", "HTTP://a.test:8080/b"),
            absolute(Scheme::Http, "a.test:8080", "/b")
        );
        assert_eq!(parse("GET", "https://a.test?b"), absolute(Scheme::Https, "a.test", "/?b"));
        assert_eq!(parse("CONNECT", "a.test:443"), Ok(Target::Authority(host("a.test:443"))));
        assert_eq!(parse("OPTIONS", "*"), Ok(Target::Asterisk));
    }

    #[test]
    fn other_targets_are_refused() {
        let table = [
            ("GET", "*", InvalidTarget::Method),
            ("GET", "a.test:443", InvalidTarget::Form),
            ("GET", "a", InvalidTarget::Form),
            ("GET", "", InvalidTarget::Form),
            ("GET", "/a#b", InvalidTarget::Byte),
            ("GET", "/a b", InvalidTarget::Byte),
            ("GET", "/a\tb", InvalidTarget::Byte),
            ("GET", "/a\0", InvalidTarget::Byte),
            ("GET", "/a%00.txt", InvalidTarget::Nul),
            ("GET", "ftp://a.test/", InvalidTarget::Scheme),
            ("CONNECT", "a.test", InvalidTarget::Form),
        ];
        for (method, target, error) in table {
            assert_eq!(parse(method, target), Err(error), "{method} {target:?}");
        }
        for (method, target) in [
            ("CONNECT", "/"),
            ("GET", "http:///a"),
            ("GET", "http://a@b.com/"),
            ("GET", "http://a.test#b/"),
        ] {
            let error = parse(method, target).unwrap_err();
            assert!(matches!(error, InvalidTarget::Authority(_)), "{method} {target:?}: {error}");
        }
    }

    #[test]
    fn path_and_query_are_changed_apart() {
        let whole = PathAndQuery::new("/a?b=c").unwrap();
        assert_eq!((whole.path(), whole.query()), (&b"/a"[..], Some(&b"b=c"[..])));
        assert_eq!(whole.with_query(Some(b"d")).unwrap().as_bytes(), b"/a?d");
        assert_eq!(whole.with_query(None).unwrap().as_bytes(), b"/a");
        assert_eq!(whole.with_path(b"/x").unwrap().as_bytes(), b"/x?b=c");
        assert_eq!(whole.with_query(Some(b" HTTP/1.1\r\n")), Err(InvalidTarget::Byte));
        assert_eq!(whole.with_path(b"/x?y"), Err(InvalidTarget::Byte));
        assert_eq!(PathAndQuery::new("/a?%00").unwrap().path(), b"/a");
        assert_eq!(format!("{whole:?}"), "\"/a?…\"");
    }
}
