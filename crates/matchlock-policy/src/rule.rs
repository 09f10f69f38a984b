//! What decided.

use std::fmt;

use crate::pattern::HostPattern;
use crate::policy::DefaultEgress;
use crate::secret::SecretName;
use crate::text::serialize_as_text;

/// The part of the policy that a decision rests on. Prints as the user would write or name it:
/// `allow-host *.example.com`, `secret API_KEY`, `default egress deny`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry of the allow-list.
    AllowHost(HostPattern),
    /// An entry of the allow-list that a secret brought along.
    Secret(SecretName),
    /// The list is empty.
    Default(DefaultEgress),
    /// There is a list, and nothing in it matches.
    NotListed,
    /// The addresses that may not be reached, whoever asks.
    Addresses,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::AllowHost(pattern) => write!(f, "allow-host {pattern}"),
            Kind::Secret(name) => write!(f, "secret {name}"),
            Kind::Default(DefaultEgress::Deny) => f.write_str("default egress deny"),
            Kind::Default(DefaultEgress::Public) => f.write_str("default egress public"),
            Kind::NotListed => f.write_str("allow-list"),
            Kind::Addresses => f.write_str("address check"),
        }
    }
}

serialize_as_text!(Rule);
