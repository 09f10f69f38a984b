//! Patterns of the allow-list and of secrets.

mod glob;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::address::canonical_net;
use crate::carriage::Carriage;
use crate::host::{Host, split_port};
use crate::name::{HostName, InvalidName};
use crate::text::serialize_as_text;

use glob::Glob;

/// Longer patterns are refused before they are looked at.
const MAX_PATTERN: usize = 512;

/// What an `--allow-host` names: hosts, addresses or ranges, at one port or at all.
///
/// `*` is every host; `*.suffix` every name below `suffix` (not `suffix` itself, any depth);
/// `prefix.*` every name that begins with `prefix.`; any other `*` stands for any characters; an IP
/// address or a CIDR range is that; anything else is one name. Case does not matter. `:port` at the
/// end restricts the pattern to that port (`[::1]:80` for IPv6). `/tcp` or `/tls` behind the port says
/// how flows are [carried](Carriage).
///
/// Only plain `*` and ranges match IP literals. The names of the host's own services
/// ([`HostName::is_host_service`]) are matched only by their exact name with a port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    text: Arc<str>,
    matcher: Matcher,
    port: Option<u16>,
    carriage: Carriage,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Matcher {
    Everything,
    Name(HostName),
    Glob(Glob),
    Range(IpNet),
}

impl HostPattern {
    /// Whether the pattern covers `host` at `port`.
    #[must_use]
    pub fn matches(&self, host: &Host, port: u16) -> bool {
        self.port.is_none_or(|only| only == port) && self.matches_host(host)
    }

    /// Whether the pattern covers `name` at some port.
    #[must_use]
    pub fn matches_any_port(&self, name: &HostName) -> bool {
        self.matches_name(name)
    }

    /// Whether this is plain `*`: every host at every port.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.matcher == Matcher::Everything && self.port.is_none()
    }

    /// Whether a host may exist that both patterns cover, as far as that is easily told: no wildcard
    /// is held against another.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let covers = |one: &Self, other: &Self| match &other.matcher {
            Matcher::Name(name) => one.matches_name(name),
            Matcher::Range(range) => one.matches_ip(range.addr()),
            Matcher::Glob(_) | Matcher::Everything => one.matcher == Matcher::Everything,
        };
        self.matcher == other.matcher || covers(self, other) || covers(other, self)
    }

    /// The only port that the pattern covers, or `None` for all.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// How flows that the pattern allows are carried.
    #[must_use]
    pub fn carriage(&self) -> Carriage {
        self.carriage
    }

    /// Whether the pattern covers names of unrelated owners without saying `*`: `*.com`, `*.co.uk`,
    /// `*.github.io`, `example.*`, `*example.com`. Worth a warning.
    #[must_use]
    pub fn is_broad(&self) -> bool {
        matches!(&self.matcher, Matcher::Glob(glob) if glob.is_broad())
    }

    /// The text as it was given, without spaces around it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern names `name` and nothing else, at whatever port.
    pub(crate) fn is_exactly(&self, name: &HostName) -> bool {
        matches!(&self.matcher, Matcher::Name(own) if own == name)
    }

    fn matches_host(&self, host: &Host) -> bool {
        match host {
            Host::Name(name) => self.matches_name(name),
            Host::Ip(ip) => self.matches_ip(ip.to_canonical()),
        }
    }

    fn matches_name(&self, name: &HostName) -> bool {
        if name.is_host_service() {
            return self.is_exactly(name) && self.port.is_some();
        }
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Name(own) => own == name,
            Matcher::Glob(glob) => glob.matches(name),
            Matcher::Range(_) => false,
        }
    }

    fn matches_ip(&self, ip: IpAddr) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Range(range) => range.contains(&ip),
            Matcher::Name(_) | Matcher::Glob(_) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let text = text.trim();
        if text.len() > MAX_PATTERN {
            return Err(InvalidPattern::TooLong);
        }
        if text.contains("://") {
            return Err(InvalidPattern::Url);
        }
        let (endpoint, carriage) = split_carriage(text);
        let (host, port) = split_port(endpoint).ok_or(InvalidPattern::Port)?;
        let matcher = parse_matcher(host)?;
        if carriage != Carriage::Http && port.is_none() {
            return Err(InvalidPattern::CarriagePort);
        }
        if carriage == Carriage::TlsPassthrough && matches!(matcher, Matcher::Range(_)) {
            return Err(InvalidPattern::TlsAddress);
        }
        Ok(Self { matcher, port, carriage, text: text.into() })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

serialize_as_text!(HostPattern);

/// Why a text is not a [`HostPattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing, or nothing before the port.
    #[error("the host pattern is empty")]
    Empty,
    /// More than 512 bytes.
    #[error("the host pattern is longer than {MAX_PATTERN} bytes")]
    TooLong,
    /// It has a scheme.
    #[error("a host pattern is a host without scheme and path")]
    Url,
    /// The port is not a number from 1 to 65535.
    #[error("the port of the host pattern is not a number from 1 to 65535")]
    Port,
    /// `/tcp` or `/tls` without a port.
    #[error("a host pattern with /tcp or /tls needs a port, such as example.com:443/tls")]
    CarriagePort,
    /// `/tls` for addresses: there is no server name to check.
    #[error("a host pattern with /tls is for names, because the server name is checked")]
    TlsAddress,
    /// It has a `/` or brackets and is not an address range.
    #[error("the host pattern is not a valid address range, such as 10.0.0.0/8 or [fd00::/8]")]
    Range,
    /// A `*` inside an address.
    #[error("a host pattern for addresses is a range, such as 10.0.0.0/8, without '*'")]
    AddressWildcard,
    /// A name, or the parts around `*`, that no host name has.
    #[error("invalid host pattern")]
    Name(#[source] InvalidName),
}

/// Splits `/tcp` and `/tls` off the end.
fn split_carriage(text: &str) -> (&str, Carriage) {
    let of = |carriage: Carriage| Some((text.strip_suffix(carriage.suffix()?)?, carriage));
    of(Carriage::Opaque).or_else(|| of(Carriage::TlsPassthrough)).unwrap_or((text, Carriage::Http))
}

fn parse_matcher(host: &str) -> Result<Matcher, InvalidPattern> {
    if host.is_empty() {
        return Err(InvalidPattern::Empty);
    }
    if host == "*" {
        return Ok(Matcher::Everything);
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').filter(|inner| inner.contains(':'));
        return inner.and_then(parse_range).map(Matcher::Range).ok_or(InvalidPattern::Range);
    }
    if let Some(range) = parse_range(host) {
        return Ok(Matcher::Range(range));
    }
    if host.contains(['/', ':']) {
        return Err(InvalidPattern::Range);
    }
    if host.contains('*') {
        return Glob::parse(host).map(Matcher::Glob);
    }
    host.parse().map(Matcher::Name).map_err(InvalidPattern::Name)
}

/// An address or a CIDR range; host bits are dropped.
fn parse_range(text: &str) -> Option<IpNet> {
    let range = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip),
        Err(_) => text.parse().ok()?,
    };
    Some(canonical_net(range))
}
