//! What a sandbox reaches.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::limits::above_0;

/// What the sandbox reaches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Network {
    /// Patterns of hosts that can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_hosts: Option<Vec<String>>,
    /// Names and addresses for the guest's `/etc/hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_hosts: Option<Vec<HostIp>>,
    /// Whether private addresses are out of reach. Absent in this object: no; without this object: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_private_ips: Option<bool>,
    /// Whether there is no network at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_network: Option<bool>,
    /// Whether connections are looked into even if nothing else asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intercept: Option<bool>,
    /// Rules for requests and responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interception: Option<Interception>,
    /// Secrets by the name of the variable that holds the placeholder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeMap<String, Secret>>,
    /// Understood and never used, as in the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_script: Option<String>,
    /// Name servers that this machine asks. Empty or absent: 8.8.8.8 and 8.8.4.4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_servers: Option<Vec<String>>,
    /// The guest's name. Empty or absent: the sandbox's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The largest packet in bytes. Not above 0, or absent: 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
}

impl Network {
    /// Whether there is no network at all.
    #[must_use]
    pub fn no_network(&self) -> bool {
        self.no_network.unwrap_or(false)
    }

    /// The largest packet in bytes.
    #[must_use]
    pub fn mtu(&self) -> u64 {
        above_0(self.mtu).unwrap_or(1500)
    }
}

/// A name with its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HostIp {
    /// The name.
    pub host: String,
    /// An IPv4 or IPv6 address.
    pub ip: String,
}

/// Rules for requests and responses: contract, section 3.8. What is in a rule is read where rules are
/// applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Interception {
    /// In the order in which they apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<serde_json::Value>>,
    /// The Unix socket that rules with a callback ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_socket: Option<String>,
}

/// A secret of which the guest holds a placeholder only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Secret {
    /// What is put into requests.
    pub value: SecretValue,
    /// Patterns of the hosts that may get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// What the guest holds instead. Empty or absent: `SANDBOX_SECRET_` and 32 random digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
}

/// The value of a secret: not in `Debug`, and wiped from memory at its end.
///
/// It is written into JSON, because a client has to send it. A server stores other types.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretValue {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
