//! The host's own proxies: which of them a connection takes, by the variables of the environment.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use matchlock_policy::{Endpoint, Host};
use zeroize::Zeroizing;

use super::Purpose;
use super::no_proxy::NoProxy;

/// Where a proxy listens if its URL has no port.
const DEFAULT_PORT: u16 = 80;

/// The proxies of the host. The default is none.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    https: Option<Proxy>,
    http: Option<Proxy>,
    all: Option<Proxy>,
    none: NoProxy,
}

/// A variable of the environment that cannot be used. Its value is not told: it may hold a
/// password.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyError {
    /// A scheme other than `http`: TLS to the proxy, SOCKS.
    #[error("{variable}: only proxies with http:// URLs are supported")]
    Scheme {
        /// The name of the variable.
        variable: String,
    },
    /// Not a URL of a host and a port.
    #[error("{variable} is not the URL of a proxy, like http://proxy.example.com:3128")]
    Malformed {
        /// The name of the variable.
        variable: String,
    },
}

/// One proxy that speaks HTTP without TLS.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    host: Host,
    port: u16,
    authorization: Option<Authorization>,
}

/// The value of a `Proxy-Authorization` field. Wiped when dropped, and not shown.
#[derive(Clone)]
pub(crate) struct Authorization(Zeroizing<String>);

impl ProxySettings {
    /// Reads `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, each also in upper case.
    /// The lower case wins, and an empty value is none. `HTTP_PROXY` is not read, as in curl: to a
    /// CGI program it is the `Proxy` field of a request, so anyone's.
    ///
    /// # Errors
    /// When a variable is not the URL of a proxy that can be used.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let get = |names: &[&'static str]| {
            let mut set = names.iter().filter_map(|&name| Some((name, variable(name)?)));
            set.find(|(_, value)| !value.trim().is_empty())
        };
        let proxy = |names: &[&'static str]| {
            get(names).map(|(name, value)| Proxy::parse(name, value.trim())).transpose()
        };
        Ok(Self {
            https: proxy(&["https_proxy", "HTTPS_PROXY"])?,
            http: proxy(&["http_proxy"])?,
            all: proxy(&["all_proxy", "ALL_PROXY"])?,
            none: get(&["no_proxy", "NO_PROXY"])
                .map(|(_, value)| NoProxy::parse(&value))
                .unwrap_or_default(),
        })
    }

    /// The proxy for a connection to a name. Addresses are dialled directly, and so is what only
    /// this host knows.
    pub(crate) fn choose(&self, endpoint: &Endpoint, purpose: Purpose) -> Option<&Proxy> {
        let Host::Name(name) = &endpoint.host else { return None };
        let local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
        if local || name.is_host_service() || self.none.covers(endpoint) {
            return None;
        }
        let (own, all) = (self.own(purpose), self.all.as_ref());
        // A variable for the scheme says more than the one for all; but raw connections have
        // none, and where TLS needs a proxy there is no other way out for them either.
        if purpose == Purpose::Raw { all.or(own) } else { own.or(all) }
    }

    fn own(&self, purpose: Purpose) -> Option<&Proxy> {
        match purpose {
            Purpose::Tls | Purpose::Raw => self.https.as_ref(),
            Purpose::Http => self.http.as_ref(),
        }
    }
}

impl Proxy {
    /// The host and port to dial, as the system resolves them: the proxy is the user's choice.
    pub(crate) fn endpoint(&self) -> (String, u16) {
        let host = match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.to_string(),
        };
        (host, self.port)
    }

    pub(crate) fn authorization(&self) -> Option<&Authorization> {
        self.authorization.as_ref()
    }

    fn parse(variable: &str, url: &str) -> Result<Self, ProxyError> {
        let malformed = || ProxyError::Malformed { variable: variable.to_owned() };
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ProxyError::Scheme { variable: variable.to_owned() }),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(malformed());
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place).ok_or_else(malformed)?;
        Ok(Self {
            host: host.parse().map_err(|_| malformed())?,
            port,
            authorization: user.map(Authorization::basic).transpose().map_err(|()| malformed())?,
        })
    }
}

impl Authorization {
    /// The value for the field, `Basic ...`.
    pub(crate) fn value(&self) -> &str {
        &self.0
    }

    /// RFC 7617, from the user information of a URL, whose parts are percent-encoded.
    fn basic(user_information: &str) -> Result<Self, ()> {
        let (user, password) = user_information.split_once(':').unwrap_or((user_information, ""));
        let mut plain = Zeroizing::new(Vec::new());
        percent_decode(user, &mut plain)?;
        if plain.contains(&b':') {
            return Err(());
        }
        plain.push(b':');
        percent_decode(password, &mut plain)?;
        if plain.iter().any(u8::is_ascii_control) {
            return Err(());
        }
        let encoded = Zeroizing::new(STANDARD.encode(&*plain));
        Ok(Self(Zeroizing::new(format!("Basic {}", *encoded))))
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(..)")
    }
}

fn split_port(place: &str) -> Option<(&str, u16)> {
    let (host, port) = match place.rfind([':', ']']) {
        Some(at) if place[at..].starts_with(':') => (&place[..at], &place[at + 1..]),
        _ => (place, ""),
    };
    // A bare IPv6 address would lose its last group.
    if host.contains(':') && !host.starts_with('[') {
        return None;
    }
    match port {
        "" => Some((host, DEFAULT_PORT)),
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|&port| port != 0).map(|port| (host, port))
        }
        _ => None,
    }
}

fn percent_decode(text: &str, out: &mut Vec<u8>) -> Result<(), ()> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit().ok_or(())?, digit().ok_or(())?);
        out.push(u8::try_from(high << 4 | low).map_err(|_| ())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<ProxySettings, ProxyError> {
        ProxySettings::from_env(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(variables: &[(&str, &str)], host: &str, purpose: Purpose) -> Option<String> {
        let endpoint = Endpoint { host: host.parse().expect("a host"), port: 443 };
        let settings = settings(variables).expect("settings");
        settings.choose(&endpoint, purpose).map(|proxy| {
            let (host, port) = proxy.endpoint();
            format!("{host}:{port}")
        })
    }

    #[test]
    fn the_variables_of_each_purpose() {
        use Purpose::{Http, Raw, Tls};
        const ALL: (&str, &str) = ("ALL_PROXY", "http://all:1");
        type Case = (&'static [(&'static str, &'static str)], Purpose, Option<&'static str>);
        let cases: &[Case] = &[
            (&[], Tls, None),
            (&[("HTTPS_PROXY", "http://upper:8080")], Tls, Some("upper:8080")),
            (&[("HTTPS_PROXY", "http://u:1"), ("https_proxy", "http://l:2")], Tls, Some("l:2")),
            (&[("HTTPS_PROXY", "http://u:1"), ("https_proxy", "")], Tls, Some("u:1")),
            (&[("HTTPS_PROXY", "http://u:1"), ALL], Tls, Some("u:1")),
            (&[("HTTPS_PROXY", "http://u:1"), ALL], Raw, Some("all:1")),
            (&[("HTTPS_PROXY", "http://u:1")], Raw, Some("u:1")),
            (&[("HTTPS_PROXY", "http://u:1")], Http, None),
            (&[("http_proxy", "http://l:2")], Http, Some("l:2")),
            (&[("HTTP_PROXY", "http://u:1")], Http, None),
            (&[("http_proxy", "http://l:2")], Tls, None),
            (&[("all_proxy", "l"), ALL], Http, Some("l:80")),
            (&[ALL, ("NO_PROXY", "example.com")], Tls, None),
            (&[ALL, ("NO_PROXY", "example.com"), ("no_proxy", "a.org")], Tls, Some("all:1")),
        ];
        for (variables, purpose, expected) in cases {
            let chosen = chosen(variables, "example.com", *purpose);
            assert_eq!(chosen.as_deref(), *expected, "{variables:?} {purpose:?}");
        }
    }

    #[test]
    fn addresses_and_the_host_itself_are_never_given_to_a_proxy() {
        let all = [("ALL_PROXY", "http://all:1")];
        for host in ["8.8.8.8", "2001:db8::1", "localhost", "a.localhost", "host.docker.internal"] {
            assert_eq!(chosen(&all, host, Purpose::Raw), None, "{host}");
        }
    }

    #[test]
    fn urls_of_proxies() {
        let cases = [
            ("http://p.example:3128/", Some(("p.example", 3128, None))),
            ("HTTP://p.example", Some(("p.example", 80, None))),
            ("p.example:3128", Some(("p.example", 3128, None))),
            ("http://[::1]:3128", Some(("::1", 3128, None))),
            ("http://[::1]", Some(("::1", 80, None))),
            ("http://u:p@p.example:1", Some(("p.example", 1, Some("Basic dTpw")))),
            ("http://u@p.example:1", Some(("p.example", 1, Some("Basic dTo=")))),
            ("http://u:p%40%3a%2F@p.example:1", Some(("p.example", 1, Some("Basic dTpwQDov")))),
            ("http://u:p@q@p.example:1", Some(("p.example", 1, Some("Basic dTpwQHE=")))),
            ("http://u:%zz@p.example:1", None),
            ("http://u%3a:p@p.example:1", None),
            ("http://u:%0d%0aX@p.example:1", None),
            ("http://::1:3128", None),
            ("http://p.example:0", None),
            ("http://p.example:65536", None),
            ("http://p.example:+80", None),
            ("http://p.example/path", None),
            ("http://", None),
            ("http://a b", None),
        ];
        for (url, expected) in cases {
            let proxy = Proxy::parse("X", url);
            let Some((host, port, authorization)) = expected else {
                assert!(matches!(proxy, Err(ProxyError::Malformed { .. })), "{url}");
                continue;
            };
            let proxy = proxy.expect(url);
            assert_eq!(proxy.endpoint(), (host.to_owned(), port), "{url}");
            assert_eq!(proxy.authorization().map(Authorization::value), authorization, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_without_its_value() {
        for (variable, value) in [
            ("HTTPS_PROXY", "https://user:hunter2@p.example:1"),
            ("all_proxy", "socks5://user:hunter2@p.example:1"),
            ("http_proxy", "http://user:hunter2@p.example:no"),
        ] {
            let error = settings(&[(variable, value)]).expect_err("refused");
            assert!(error.to_string().starts_with(variable), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let settings = settings(&[("https_proxy", "http://user:hunter2@p.example:1")]);
        let shown = format!("{:?}", settings.expect("settings"));
        assert!(!shown.contains("hunter2") && !shown.contains("Basic"), "{shown}");
    }
}
