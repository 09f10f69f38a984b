//! The network of a running sandbox: contract, sections 2.11 and 2.12.

use serde::{Deserialize, Serialize};

use crate::params::{InvalidParams, Params};

/// Hosts to add to the allow-list, or to take from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("required" = ["hosts"])))]
pub struct HostsParams {
    /// Patterns of hosts; at least one.
    pub hosts: Option<Vec<String>>,
}

impl Params for HostsParams {
    fn check(&self) -> Result<(), InvalidParams> {
        if self.hosts().is_empty() {
            return Err(InvalidParams::new("hosts", "hosts is required"));
        }
        Ok(())
    }
}

impl HostsParams {
    /// The patterns.
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        self.hosts.as_deref().unwrap_or_default()
    }
}

/// The allow-list after hosts were added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllowListAddResult {
    /// Those that are new. The reference sends `null` for none, and we `[]`.
    pub added: Option<Vec<String>>,
    /// All that are allowed now.
    pub allowed_hosts: Option<Vec<String>>,
}

/// The allow-list after hosts were taken from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AllowListDeleteResult {
    /// Those that were there. The reference sends `null` for none, and we `[]`.
    pub removed: Option<Vec<String>>,
    /// All that are allowed now.
    pub allowed_hosts: Option<Vec<String>>,
}

/// Ports of this machine that lead to ports of the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PortForwardParams {
    /// They take the place of all that were forwarded before, even if they cannot be opened.
    pub forwards: Option<Vec<PortForward>>,
    /// Addresses of this machine to listen on: IP addresses or `localhost`. Empty or absent: 127.0.0.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<String>>,
}

impl Params for PortForwardParams {
    fn check(&self) -> Result<(), InvalidParams> {
        for (at, forward) in self.forwards().iter().enumerate() {
            for (side, port) in
                [("local_port", forward.local_port), ("remote_port", forward.remote_port)]
            {
                if port == 0 {
                    let field = format!("forwards[{at}].{side}");
                    let problem = format!("{field} must be in the range 1-65535");
                    return Err(InvalidParams::new(&field, problem));
                }
            }
        }
        Ok(())
    }
}

impl PortForwardParams {
    /// The pairs of ports.
    #[must_use]
    pub fn forwards(&self) -> &[PortForward] {
        self.forwards.as_deref().unwrap_or_default()
    }

    /// The addresses to listen on.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        let given = self.addresses.as_deref().unwrap_or_default();
        let default = given.is_empty().then_some("127.0.0.1");
        given.iter().map(String::as_str).chain(default)
    }
}

/// A pair of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PortForward {
    /// The port of this machine, 1 to 65535.
    pub local_port: u16,
    /// The port of the sandbox, 1 to 65535.
    pub remote_port: u16,
}

/// What listens now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PortForwardResult {
    /// One entry for each address and pair.
    pub bindings: Vec<PortBinding>,
}

/// A port that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PortBinding {
    /// The address of this machine; never empty.
    pub address: String,
    /// The port of this machine.
    pub local_port: u16,
    /// The port of the sandbox.
    pub remote_port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_required() {
        for none in [None, Some(Vec::new())] {
            let error = HostsParams { hosts: none }.check().expect_err("no hosts");
            assert_eq!(error.to_string(), "hosts is required");
        }
    }

    #[test]
    fn a_port_is_not_0_and_the_default_is_loopback() {
        let read = |text| serde_json::from_str::<PortForwardParams>(text).expect("params");
        let wrong = read(r#"{"forwards":[{"local_port":1,"remote_port":0}]}"#);
        let error = wrong.check().expect_err("a port 0");
        assert_eq!(error.field(), Some("forwards[0].remote_port"));
        let addresses = |text| read(text).addresses().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(addresses(r#"{"forwards":[],"addresses":null}"#), ["127.0.0.1"]);
        assert_eq!(addresses(r#"{"addresses":["::1","localhost"]}"#), ["::1", "localhost"]);
    }
}
