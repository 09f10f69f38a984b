//! Hosts and endpoints: a name or an address, and a port.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::name::{HostName, InvalidName};
use crate::text::serialize_as_text;

/// A name or an address literal; the two never compare equal.
///
/// An IPv4-mapped IPv6 address prints as it was given and compares as the IPv4 address.
#[derive(Debug, Clone)]
pub enum Host {
    /// A name, to be resolved.
    Name(HostName),
    /// An address literal.
    Ip(IpAddr),
}

impl Host {
    /// The name, if this is one.
    #[must_use]
    pub fn name(&self) -> Option<&HostName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The address, if this is one: IPv4 for an IPv4-mapped IPv6 address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(ip.to_canonical()),
        }
    }

    fn key(&self) -> (Option<IpAddr>, Option<&HostName>) {
        (self.ip(), self.name())
    }
}

impl FromStr for Host {
    type Err = InvalidName;

    /// Reads a name, an IPv4 address, or an IPv6 address with or without brackets. Zones are
    /// refused, and so are all forms of IPv4 but four decimal numbers.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(InvalidName::Character)?;
            let ip = inner.parse::<Ipv6Addr>().map_err(|_| InvalidName::Character)?;
            return Ok(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        text.parse().map(Self::Name)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Host {}

impl PartialOrd for Host {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Host {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        Self::Name(name)
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

/// Where a flow or a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The name or address.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The port `port` of `host`.
    pub fn new(host: impl Into<Host>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host` or `host:port` as a `Host` field has it (RFC 9110 7.2); `default_port` is the
    /// one of the scheme. An IPv6 address stands in brackets.
    ///
    /// # Errors
    /// When the host is not one, or the port is not a decimal number from 1 to 65535.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, InvalidEndpoint> {
        let (host, port) = split_port(text).ok_or(InvalidEndpoint::Port)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(InvalidEndpoint::Brackets);
        }
        Ok(Self { host: host.parse()?, port: port.unwrap_or(default_port) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

serialize_as_text!(Host, Endpoint);

/// Why a text is not an [`Endpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// The host is neither a name nor an address.
    #[error("invalid host")]
    Host(#[from] InvalidName),
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// An IPv6 address without brackets: where it ends would be a guess.
    #[error("an IPv6 address must stand in brackets")]
    Brackets,
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`. A text with several colons and no bracket is
/// a host. `None` when there is a port and it is not one.
pub(crate) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let colon = match text.strip_prefix('[') {
        Some(_) => text.find("]:").map(|bracket| bracket + 1),
        None => text.find(':').filter(|&colon| Some(colon) == text.rfind(':')),
    };
    let Some(colon) = colon else {
        return Some((text, None));
    };
    let port = text.get(colon + 1..)?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port: NonZeroU16 = port.parse().ok()?;
    Some((text.get(..colon)?, Some(port.get())))
}
