//! Events: contract, section 2.15.

use serde::{Deserialize, Serialize};

use crate::files::FileMode;
use crate::params::Params;

/// Something that happened in the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// Which of the keys below is there: `file` or `network`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time since 1970, UTC: in milliseconds for `file`, in seconds for `network`, as the contract has it.
    pub timestamp: i64,
    /// An exchange over HTTP, or what was refused before it could be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkEvent>,
    /// An operation on a file of a mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEvent>,
    /// Defined by the reference and never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<serde_json::Value>,
}

impl Params for Event {}

impl Event {
    /// An event of a file.
    #[must_use]
    pub fn of_file(milliseconds: i64, file: FileEvent) -> Self {
        let kind = "file".to_owned();
        Self { kind, timestamp: milliseconds, network: None, file: Some(file), exec: None }
    }

    /// An event of the network.
    #[must_use]
    pub fn of_network(seconds: i64, network: NetworkEvent) -> Self {
        let kind = "network".to_owned();
        Self { kind, timestamp: seconds, network: Some(network), file: None, exec: None }
    }
}

/// An operation on a file of a mount. Sent only if `vfs.interception` of `create` asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FileEvent {
    /// What was done: `read`, `write`, `create` and so on.
    pub op: String,
    /// The file's path in the guest.
    pub path: String,
    /// Bytes that were read or written.
    #[serde(default)]
    pub size: u64,
    /// Type and permissions, as Go numbers them. Absent: 0, not known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: FileMode,
    /// The owner. Absent: 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: u32,
    /// The group. Absent: 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gid: u32,
}

/// An exchange over HTTP, or a name or an address that was refused, which has no method and no URL. No value
/// of a secret is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkEvent {
    /// The request's method.
    pub method: String,
    /// The request's URL, with placeholders in the place of secrets.
    pub url: String,
    /// The host.
    pub host: String,
    /// The response's status; 0 if there was none.
    pub status_code: u16,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the response's body.
    pub response_bytes: u64,
    /// Milliseconds from the request to the end of the response.
    pub duration_ms: u64,
    /// Whether it was refused.
    pub blocked: bool,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_reason: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_have_the_keys_of_the_contract() {
        let file =
            FileEvent { op: "write".into(), path: "/w/a".into(), size: 3, ..FileEvent::default() };
        let wire = serde_json::to_value(Event::of_file(1_700_000_000_000, file)).expect("JSON");
        let file = json!({ "op": "write", "path": "/w/a", "size": 3 });
        let expected = json!({ "type": "file", "timestamp": 1_700_000_000_000_i64, "file": file });
        assert_eq!(wire, expected);

        let network = NetworkEvent { host: "api.openai.com".into(), ..NetworkEvent::default() };
        let wire = serde_json::to_value(Event::of_network(1, network)).expect("JSON");
        let keys: Vec<_> = wire["network"].as_object().expect("an object").keys().collect();
        let contract = [
            "blocked",
            "duration_ms",
            "host",
            "method",
            "request_bytes",
            "response_bytes",
            "status_code",
            "url",
        ];
        assert_eq!(keys, contract);
    }
}
