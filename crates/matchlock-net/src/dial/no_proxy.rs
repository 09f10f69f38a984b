//! `NO_PROXY`: what is dialled directly although there is a proxy.

use std::net::IpAddr;

use ipnet::IpNet;
use matchlock_policy::{Endpoint, Host};

/// The entries of `NO_PROXY`, read as curl and Go do: separated by commas or blanks; a name also
/// means everything below it, with or without a leading `.` or `*.`; an address, a network in CIDR
/// notation, or `*` for everything; each but `*` and networks with an optional port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Entry {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// Lower case, without dots at the ends.
    Name(String, Option<u16>),
}

impl NoProxy {
    pub(crate) fn parse(text: &str) -> Self {
        let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
        Self { entries: words.filter_map(Entry::parse).collect() }
    }

    pub(crate) fn covers(&self, endpoint: &Endpoint) -> bool {
        self.entries.iter().any(|entry| entry.covers(&endpoint.host, endpoint.port))
    }
}

impl Entry {
    fn parse(word: &str) -> Option<Self> {
        if word == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = word.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split_port(word);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), port));
        }
        let name = host.strip_prefix('*').unwrap_or(host).trim_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(Self::Name(name, port))
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        let fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match (self, host) {
            (Self::Everything, _) => true,
            (Self::Network(network), Host::Ip(ip)) => network.contains(&ip.to_canonical()),
            (Self::Address(address, wanted), Host::Ip(ip)) => {
                *address == ip.to_canonical() && fits(wanted)
            }
            (Self::Name(suffix, wanted), Host::Name(name)) => {
                let rest = name.as_str().strip_suffix(suffix.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) && fits(wanted)
            }
            _ => false,
        }
    }
}

/// `name:port`, `[v6]:port`; an address with several colons has no port.
fn split_port(word: &str) -> (&str, Option<u16>) {
    match word.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            port.parse().map_or((word, None), |port| (host, Some(port)))
        }
        _ => (word, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_what_goes_direct() {
        let cases = [
            ("", "example.com", 443, false),
            ("*", "example.com", 443, true),
            ("*", "8.8.8.8", 443, true),
            ("example.com", "example.com", 443, true),
            ("EXAMPLE.com.", "example.com", 443, true),
            ("example.com", "www.example.com", 443, true),
            ("example.com", "notexample.com", 443, false),
            ("www.example.com", "example.com", 443, false),
            (".example.com", "www.example.com", 443, true),
            (".example.com", "example.com", 443, true),
            ("*.example.com", "www.example.com", 443, true),
            ("a.org, example.com", "example.com", 443, true),
            ("a.org example.com", "example.com", 443, true),
            (",,  ,.,*.", "example.com", 443, false),
            ("example.com:8443", "example.com", 8443, true),
            ("example.com:8443", "example.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "::ffff:10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("10.0.0.1", "10.0.0.1", 80, true),
            ("10.0.0.1:80", "10.0.0.1", 81, false),
            ("10.0.0.1", "10.0.0.12", 80, false),
            ("2001:db8::/32", "2001:db8::1", 80, true),
            ("2001:db8::1", "2001:db8::1", 80, true),
            ("[2001:db8::1]", "2001:db8::1", 80, true),
            ("[2001:db8::1]:80", "2001:db8::1", 80, true),
            ("[2001:db8::1]:80", "2001:db8::1", 81, false),
            ("8.8.8", "8.8.8.8", 80, false),
        ];
        for (list, host, port, direct) in cases {
            let endpoint = Endpoint { host: host.parse().expect("a host"), port };
            assert_eq!(NoProxy::parse(list).covers(&endpoint), direct, "{list:?} {endpoint}");
        }
    }
}
