//! The URLs that registries name: of redirects, of token servers, of mirrors.

use std::fmt;

use hyper::Uri;
use matchlock_policy::Endpoint;

/// Longest URL in bytes. Signed ones of object stores are some KiB.
const MAX_URL: usize = 16 * 1024;

/// Schemes that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// An absolute URL without user information and fragment. Its path and query are not shown: they
/// may be a capability of their own, as in signed URLs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: Scheme,
    endpoint: Endpoint,
    /// Path and query.
    target: String,
}

impl Scheme {
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Url {
    pub(crate) fn new(scheme: Scheme, endpoint: Endpoint, target: String) -> Self {
        Self { scheme, endpoint, target }
    }

    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_URL {
            return None;
        }
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let uri: Uri = text.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        // `Endpoint` takes no '@': user information would be somebody's password.
        let endpoint = Endpoint::parse(authority, scheme.default_port()).ok()?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let slash = if target.starts_with('/') { "" } else { "/" };
        Some(Self { scheme, endpoint, target: format!("{slash}{target}") })
    }

    /// Reads a reference as `Location` has it (RFC 3986 section 5.2), relative to this URL.
    pub(crate) fn join(&self, location: &str) -> Option<Self> {
        let scheme = self.scheme.name();
        let place = format!("{scheme}://{}", self.endpoint);
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{place}{location}"));
        }
        let before = location.split(['/', '?', '#']).next().unwrap_or_default();
        if before.contains(':') {
            return Self::parse(location);
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let directory = match location.starts_with('?') {
            true => path,
            false => &path[..=path.rfind('/')?],
        };
        Self::parse(&format!("{place}{directory}{location}"))
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The same with parameters behind those that it has.
    pub(crate) fn with_query<'a>(
        &self,
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut target = self.target.clone();
        for (name, value) in parameters {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(name);
            target.push('=');
            encode(value, &mut target);
        }
        Self { target, ..self.clone() }
    }

    /// The value of a `Host` field (RFC 9110 section 7.2).
    pub(crate) fn host_field(&self) -> String {
        if self.endpoint.port == self.scheme.default_port() {
            self.endpoint.host.to_string()
        } else {
            self.endpoint.to_string()
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/..", self.scheme.name(), self.endpoint)
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
pub(crate) fn encode(text: &str, out: &mut String) {
    use fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(url: &Url) -> String {
        format!("{}://{}{}", url.scheme.name(), url.endpoint, url.target)
    }

    #[test]
    fn references_are_read_as_rfc_3986_says() {
        let base = Url::parse("https://r.example/v2/a/blobs/x?q=1").expect("a URL");
        let cases = [
            ("https://cdn.example/b?sig=1#frag", Some("https://cdn.example:443/b?sig=1")),
            ("http://cdn.example:8080", Some("http://cdn.example:8080/")),
            ("http://[::1]:5000/x", Some("http://[::1]:5000/x")),
            ("https://cdn.example?x=/y", Some("https://cdn.example:443/?x=/y")),
            ("//cdn.example/b", Some("https://cdn.example:443/b")),
            ("/b", Some("https://r.example:443/b")),
            ("b?c:d", Some("https://r.example:443/v2/a/blobs/b?c:d")),
            ("?z", Some("https://r.example:443/v2/a/blobs/x?z")),
            ("https://user:pw@cdn.example/", None),
            ("file:///etc/passwd", None),
            ("ftp://cdn.example/", None),
            ("https://", None),
            ("https://cdn.example:0/", None),
            ("https://a b/", None),
        ];
        for (location, expected) in cases {
            let found = base.join(location).map(|url| shown(&url));
            assert_eq!(found.as_deref(), expected, "{location}");
        }
        assert_eq!(base.join(&format!("/{}", "a".repeat(MAX_URL))), None);
    }

    #[test]
    fn parameters_are_encoded_and_nothing_of_them_is_shown() {
        let url = Url::parse("https://auth.example/token?a=b").expect("a URL");
        let url = url.with_query([("scope", "repository:a/b:pull"), ("x", "1&y=é")]);
        assert_eq!(url.target(), "/token?a=b&scope=repository%3Aa%2Fb%3Apull&x=1%26y%3D%C3%A9");
        assert_eq!(format!("{url:?}"), "https://auth.example:443/..");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_joined_is_absolute(text in "\\PC{0,40}|[a-z:/?#@.%0-9\\[\\]]{0,40}") {
            let base = Url::parse("https://r.example/v2/a?q=1").expect("a URL");
            if let Some(url) = base.join(&text) {
                prop_assert!(url.target.starts_with('/'));
                prop_assert_eq!(Url::parse(&shown(&url)), Some(url));
            }
        }
    }
}
