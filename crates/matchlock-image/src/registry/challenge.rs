//! `WWW-Authenticate` (RFC 9110 section 11.6.1): challenges to parts.

use hyper::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a server wants to be shown who asks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// RFC 7617.
    Basic,
    /// RFC 6750, with the parameters of the distribution spec's token authentication.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The challenge to answer: for a token before one for a password, which then stays here.
pub(crate) fn choose(headers: &HeaderMap) -> Option<Challenge> {
    let fields = headers.get_all(WWW_AUTHENTICATE).iter();
    let all: Vec<_> = fields.filter_map(|field| parse(field.as_bytes())).flatten().collect();
    let bearer = all.iter().find_map(|(scheme, parameters)| {
        let get = |name: &str| {
            let mut named = parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.next().map(|(_, value)| value.clone())
        };
        let realm = get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") })
    });
    let basic = || all.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    bearer.or_else(|| basic().then_some(Challenge::Basic))
}

type Parsed = (String, Vec<(String, String)>);

/// All challenges of one field; `None` when it is not as the grammar says.
fn parse(field: &[u8]) -> Option<Vec<Parsed>> {
    let mut rest = Cursor(field);
    let mut all: Vec<Parsed> = Vec::new();
    loop {
        rest.skip(b" \t,");
        if rest.0.is_empty() {
            return Some(all);
        }
        let word = rest.token()?;
        rest.skip(b" \t");
        if rest.take(b'=') {
            rest.skip(b" \t");
            let value = rest.value()?;
            all.last_mut()?.1.push((word, value));
        } else {
            all.push((word, Vec::new()));
        }
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn skip(&mut self, any: &[u8]) {
        let end = self.0.iter().position(|byte| !any.contains(byte)).unwrap_or(self.0.len());
        self.0 = &self.0[end..];
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.0.first() == Some(&byte);
        self.0 = &self.0[usize::from(there)..];
        there
    }

    /// RFC 9110 section 5.6.2; with `/` and `:`, which some servers do not quote.
    fn token(&mut self) -> Option<String> {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/:".contains(byte);
        let end = self.0.iter().position(|byte| !word(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then(|| String::from_utf8_lossy(token).into_owned())
    }

    fn value(&mut self) -> Option<String> {
        if !self.take(b'"') {
            return self.token();
        }
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return String::from_utf8(value).ok(),
                b'\\' => {
                    let (&escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    value.push(escaped);
                }
                byte => value.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn chosen(fields: &[&[u8]]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(field).ok()?);
        }
        choose(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn challenges_as_servers_write_them() {
        let plain = br#"Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        let expected = || {
            bearer("https://a.example/token", Some("r.example"), Some("repository:a/b:pull,push"))
        };
        assert_eq!(chosen(&[plain]), expected());
        assert_eq!(chosen(&[b"Basic realm=\"x\"", plain]), expected());
        let both = [b"basic realm=\"a, b\" , ".as_slice(), plain].concat();
        assert_eq!(chosen(&[&both]), expected());
        assert_eq!(chosen(&[b"BASIC"]), Some(Challenge::Basic));
        assert_eq!(chosen(&[b"Basic realm=unquoted"]), Some(Challenge::Basic));
        assert_eq!(
            chosen(&[br#"bearer Realm = "a\"b", service=x"#]),
            bearer("a\"b", Some("x"), None)
        );
        for other in [
            b"".as_slice(),
            b"Bearer",
            b"Bearer service=\"x\"",
            b"Bearer realm=\"open",
            b"realm=\"x\"",
            b"Negotiate YII=",
            b"Bearer realm=\"\xff\"",
        ] {
            assert_eq!(chosen(&[other]), None, "{}", other.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_field_panics(field in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&field);
        }
    }
}
