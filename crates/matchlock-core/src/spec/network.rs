//! What a sandbox's guest may reach, and by which ways.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use matchlock_net::{CertificateDer, read_certificates};
use matchlock_policy::{
    DefaultEgress, HostPattern, InvalidRange, Policy, PolicyConfig, PrivateAccess, Secret,
};
use serde::{Deserialize, Serialize};

use super::{SandboxSpec, SecretValues, text};
use crate::as_text::as_text;
use crate::values::{InvalidConfig, Mtu};

/// A network device and its policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Largest packet of the guest.
    pub mtu: Mtu,
    /// Hosts that may be reached.
    #[serde(deserialize_with = "text::list")]
    pub allowed_hosts: Vec<HostPattern>,
    /// What an empty list means.
    #[serde(with = "text::egress")]
    pub default_egress: DefaultEgress,
    /// Addresses beside the public ones.
    pub private: Vec<PrivateRule>,
    /// HTTP is parsed even if nothing else asks for it.
    pub intercept: bool,
    /// Secrets and the hosts that may have them. The values are in [`super::Attachments::secrets`].
    pub secrets: Vec<SecretRule>,
    /// DNS servers that the host asks for the guest; none: those of the host's own configuration.
    pub dns_servers: Vec<SocketAddr>,
    /// Authorities that upstream servers may be certified by, beside those of the host: PEM.
    pub upstream_ca: Vec<String>,
}

/// A secret without what makes it one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRule {
    /// Name of the guest's variable.
    pub name: String,
    /// What the guest has in the place of the value.
    pub placeholder: String,
    /// Hosts that may have it.
    #[serde(deserialize_with = "text::list")]
    pub hosts: Vec<HostPattern>,
    /// It may be put into bodies, too.
    pub body: bool,
    /// It goes over TLS only.
    pub https_only: bool,
    /// Responses are searched for it.
    pub scrub: bool,
}

/// Private addresses that may be reached: nothing for those around the host, else addresses and ranges
/// with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateRule(String);

impl PrivateRule {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrivateRule {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        text.parse::<PrivateAccess>().map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for PrivateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(PrivateRule);

impl SecretRule {
    pub(crate) fn of(secret: &Secret) -> Self {
        Self {
            name: secret.name.to_string(),
            placeholder: secret.placeholder.to_string(),
            hosts: secret.hosts.clone(),
            body: secret.body,
            https_only: secret.https_only,
            scrub: secret.scrub,
        }
    }
}

impl SandboxSpec {
    /// The policy of the network, `None` without one.
    #[must_use]
    pub fn policy(&self, values: &SecretValues) -> Option<Policy> {
        let network = self.network.as_ref()?;
        let none = PrivateAccess::none();
        let private = network.private.iter().fold(none, |access, rule| {
            // It was checked when it was made.
            rule.0.parse().map_or(access.clone(), |more| access.and(&more))
        });
        Some(Policy::new(PolicyConfig {
            allowed_hosts: network.allowed_hosts.clone(),
            default_egress: network.default_egress,
            private,
            intercept: network.intercept,
            secrets: values.secrets(),
            add_hosts: self.hosts.clone(),
        }))
    }
}

impl NetworkSpec {
    /// The authorities of all files.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, InvalidConfig> {
        let mut all = Vec::new();
        for pem in &self.upstream_ca {
            let read = read_certificates(pem.as_bytes());
            all.extend(read.map_err(|error| InvalidConfig::Certificate(error.to_string()))?);
        }
        Ok(all)
    }
}
