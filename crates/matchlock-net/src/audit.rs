//! What happened on the network, for the audit trail.
//!
//! An event is recorded before the operation that it tells of has an effect outside, and an event
//! that cannot be recorded stops all traffic: the trail may be short, but it never lies.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::cause::Cause;

/// Takes the events of one sandbox, in order.
///
/// `record` is called from many tasks at once and must not block for long: it is on the path of
/// every request.
pub trait Audit: fmt::Debug + Send + Sync {
    /// Keeps an event for good.
    ///
    /// # Errors
    ///
    /// The event is lost. The operation that it told of is refused, and so is all later traffic.
    fn record(&self, event: &Event) -> Result<(), AuditLost>;
}

/// An event could not be recorded.
#[derive(Debug, thiserror::Error)]
#[error("the audit trail does not take events")]
pub struct AuditLost {
    source: Box<dyn Error + Send + Sync>,
}

impl AuditLost {
    /// Tells why.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: cause.into() }
    }
}

/// What policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may go on.
    Allowed,
    /// It went no further than this process.
    Denied,
}

/// The transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// A TCP connection of the guest.
    Tcp,
    /// Datagrams between two UDP endpoints, until they have been idle for a while.
    Udp,
}

/// Whether a request came over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS that ends in this process, on both sides.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Something that happened on the network of a sandbox.
///
/// Text that the guest chose (names, paths, methods) is as it came: whoever prints it escapes it.
/// There is no text of a server: what went wrong is a [`Cause`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The guest asked for a name.
    Dns {
        /// The name, canonical where it has a canonical form.
        name: String,
        /// The type of the question, for example `AAAA`.
        qtype: String,
        /// Whether the guest got an answer.
        decision: Decision,
        /// What decided.
        rule: String,
        /// Why it was denied.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cause>,
    },
    /// The guest opened a flow.
    FlowOpen {
        /// Counts flows from 1; the other events of the flow repeat it.
        flow: u64,
        /// Its transport.
        protocol: Protocol,
        /// The name that the guest's address stands for, if it stands for one.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// What the guest dialled.
        address: IpAddr,
        /// What the guest dialled.
        port: u16,
        /// Whether the flow may be.
        decision: Decision,
        /// What decided.
        rule: String,
        /// Why it was denied.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cause>,
    },
    /// A flow that policy let open was refused for what was learned later: the addresses of its
    /// name, or its TLS ClientHello.
    FlowRefused {
        /// The flow.
        flow: u64,
        /// The server name that the guest sent over TLS.
        #[serde(skip_serializing_if = "Option::is_none")]
        sni: Option<String>,
        /// Always [`Decision::Denied`], so that one query finds all refusals.
        decision: Decision,
        /// Why.
        reason: Cause,
    },
    /// The bytes of a flow pass unread from here on: no request is judged, and no secret put in.
    FlowRelayed {
        /// The flow.
        flow: u64,
        /// What is spoken: a protocol that was recognised, `server first`, `nothing`, `tls` or `opaque`
        /// where the rule says so, `unknown` in the open network.
        spoken: String,
    },
    /// The other side of an allowed flow could not be reached, or was not who it should be.
    UpstreamFailed {
        /// The flow.
        flow: u64,
        /// What was dialled.
        host: String,
        /// What was dialled.
        port: u16,
        /// What went wrong.
        reason: Cause,
    },
    /// A flow is over.
    FlowClose {
        /// The flow.
        flow: u64,
        /// Bytes of payload from the guest, as the guest sent them.
        bytes_up: u64,
        /// Bytes of payload to the guest.
        bytes_down: u64,
        /// From open to close.
        duration_ms: u64,
    },
    /// The guest sent a request.
    Request {
        /// The flow that it came on.
        flow: u64,
        /// Counts requests from 1.
        request: u64,
        /// Whether it came over TLS.
        scheme: Scheme,
        /// The method.
        method: String,
        /// Its authority: a name or an address, with the port if it is not the scheme's own.
        host: String,
        /// Path and query before secrets were put in, cut at 2 KiB.
        path: String,
        /// Whether it was sent on.
        decision: Decision,
        /// What decided.
        rule: String,
        /// Why it was denied.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cause>,
        /// The names of the secrets that were put in.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<String>,
    },
    /// The answer to a request is complete, or failed.
    Response {
        /// The request.
        request: u64,
        /// The status that the guest saw.
        status: u16,
        /// Bytes of the request's body.
        bytes_up: u64,
        /// Bytes of the response's body.
        bytes_down: u64,
        /// From the head of the request to the end of the response.
        duration_ms: u64,
        /// What went wrong.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Cause>,
        /// Names of the secrets that were put into the request's body.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<String>,
    },
    /// The placeholder of a secret was sent towards a host that the secret is not for.
    SecretLeak {
        /// The flow.
        flow: u64,
        /// The request that carried it.
        request: u64,
        /// The name of the secret.
        secret: String,
        /// The host that would have got it.
        host: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_flat_objects_with_their_kind() {
        let event = Event::FlowOpen {
            flow: 7,
            protocol: Protocol::Tcp,
            host: Some("api.example.com".into()),
            address: IpAddr::from([198, 19, 0, 1]),
            port: 443,
            decision: Decision::Denied,
            rule: "default egress deny".into(),
            reason: None,
        };
        let json = serde_json::to_value(&event).expect("an event is always serialisable");
        assert_eq!(
            json,
            serde_json::json!({
                "event": "flow_open", "flow": 7, "protocol": "tcp", "host": "api.example.com",
                "address": "198.19.0.1", "port": 443, "decision": "denied",
                "rule": "default egress deny",
            })
        );
    }
}
