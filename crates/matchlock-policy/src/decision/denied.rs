//! Refusals, with what would lift them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::{AddressClass, OwnAddresses};
use crate::host::{Endpoint, Host};
use crate::name::HostName;
use crate::private::PrivateAccess;
use crate::rule::{Kind, Rule};
use crate::text::serialize_as_text;

/// The policy does not let a flow go there, or the guest know the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    host: Host,
    port: Option<u16>,
    address: Option<IpAddr>,
    reason: DenyReason,
    rule: Rule,
}

/// Why something was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyReason {
    /// No rule allows the host, or not at this port.
    NotAllowed,
    /// It has no address but such as may not be reached.
    Address(AddressClass),
    /// It is a service of the host itself: only a rule with its name and port opens it.
    NeedsPort,
    /// The resolver gave no address.
    NoAddress,
}

/// What a policy lacks to let a flow be. Each front says it as its user would write it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suggestion {
    /// A host to allow. `PORT` stands for the port where only a name was asked for.
    pub allow_host: Option<String>,
    /// Private addresses to allow.
    pub allow_private: Option<IpNet>,
}

impl Denied {
    pub(crate) fn name(name: HostName, reason: DenyReason, rule: Rule) -> Self {
        Self { host: name.into(), port: None, address: None, reason, rule }
    }

    /// `address` is one that would have to be opened as well.
    pub(crate) fn endpoint(
        endpoint: Endpoint,
        reason: DenyReason,
        address: Option<IpAddr>,
        rule: Rule,
    ) -> Self {
        let Endpoint { host, port } = endpoint;
        Self { host, port: Some(port), address, reason, rule }
    }

    pub(crate) fn address(endpoint: Endpoint, ip: IpAddr, class: AddressClass) -> Self {
        let rule = Rule(Kind::Addresses);
        Self::endpoint(endpoint, DenyReason::Address(class), Some(ip), rule)
    }

    pub(super) fn no_address(endpoint: Endpoint, rule: Rule) -> Self {
        Self::endpoint(endpoint, DenyReason::NoAddress, None, rule)
    }

    /// The name or address that was asked for.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port that was asked for; `None` when only a name was looked up.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The address that may not be reached, if there is one beside or instead of a missing rule.
    #[must_use]
    pub fn refused_address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> DenyReason {
        self.reason
    }

    /// What denied it.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// What would allow it, or `None` when nothing does.
    #[must_use]
    pub fn suggestion(&self) -> Option<Suggestion> {
        let host = &self.host;
        let allow_host = match (self.reason, self.port) {
            (DenyReason::NoAddress, _) => return None,
            (DenyReason::Address(_), _) => None,
            (DenyReason::NotAllowed, _) => Some(host.to_string()),
            (DenyReason::NeedsPort, Some(port)) => Some(format!("{host}:{port}")),
            (DenyReason::NeedsPort, None) => Some(format!("{host}:PORT")),
        };
        let allow_private = match self.address {
            Some(ip) => Some(private_range(ip)?),
            None => None,
        };
        Some(Suggestion { allow_host, allow_private })
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match (self.reason, self.address, &self.host) {
            (DenyReason::Address(class), Some(ip), Host::Name(_)) => {
                write!(f, ": its address {ip} is {class}")
            }
            (reason, ..) => write!(f, ": {reason} ({})", self.rule),
        }
    }
}

impl std::error::Error for Denied {}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("not allowed"),
            Self::Address(class) => write!(f, "{class} address"),
            Self::NeedsPort => f.write_str("needs a rule with its exact name and port"),
            Self::NoAddress => f.write_str("no address"),
        }
    }
}

serialize_as_text!(Denied, DenyReason);

/// The range that opens `ip`, unless nothing does.
fn private_range(ip: IpAddr) -> Option<IpNet> {
    let opens_nothing = PrivateAccess::everything().admit(ip, &OwnAddresses::default()).is_err();
    (!opens_nothing).then(|| ip.into())
}
