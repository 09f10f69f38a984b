//! Tells a client of the exchanges of its sandbox while they happen, beside the audit trail.
//!
//! The trail comes first: what it does not take is not told. A client that does not listen misses
//! events; nobody waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use matchlock_api::{Event, NetworkEvent};
use matchlock_net::{Audit, AuditLost, Decision, Event as Audited};
use tokio::sync::mpsc;

use crate::audit::Trail;

/// Events that wait for the client. Later ones are lost.
pub(crate) const WAITING: usize = 256;

/// Requests whose responses are still to come. The network has fewer; one beyond them is not told.
const OPEN: usize = 4096;

/// The audit trail, and a client who is told of exchanges, and of connections that were refused.
#[derive(Debug)]
pub(crate) struct Observed {
    trail: Arc<Trail>,
    client: mpsc::Sender<Event>,
    open: Mutex<HashMap<u64, NetworkEvent>>,
}

impl Observed {
    pub(crate) fn new(trail: Arc<Trail>, client: mpsc::Sender<Event>) -> Self {
        Self { trail, client, open: Mutex::default() }
    }

    /// What the client is told, if this is the end of something.
    fn tell(&self, event: &Audited) -> Option<NetworkEvent> {
        match event {
            Audited::Request { request, scheme, method, host, path, decision, reason, .. } => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                if open.len() < OPEN {
                    let exchange = NetworkEvent {
                        method: method.clone(),
                        url: format!("{scheme}://{host}{path}"),
                        host: host.clone(),
                        blocked: *decision == Decision::Denied,
                        block_reason: reason.as_ref().map(|why| why.as_str().to_owned()),
                        ..NetworkEvent::default()
                    };
                    open.insert(*request, exchange);
                }
                None
            }
            Audited::Response { request, status, bytes_up, bytes_down, duration_ms, .. } => {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                let exchange = open.remove(request)?;
                Some(NetworkEvent {
                    status_code: *status,
                    request_bytes: *bytes_up,
                    response_bytes: *bytes_down,
                    duration_ms: *duration_ms,
                    ..exchange
                })
            }
            Audited::Dns { name, decision: Decision::Denied, rule, reason, .. } => {
                Some(refused(name.clone(), rule, reason.as_deref()))
            }
            Audited::FlowOpen {
                host, address, decision: Decision::Denied, rule, reason, ..
            } => {
                let host = host.clone().unwrap_or_else(|| address.to_string());
                Some(refused(host, rule, reason.as_deref()))
            }
            _ => None,
        }
    }
}

/// A name or an address that was refused before anything was asked of it.
fn refused(host: String, rule: &str, reason: Option<&str>) -> NetworkEvent {
    let why = reason.unwrap_or(rule).to_owned();
    NetworkEvent { host, blocked: true, block_reason: Some(why), ..NetworkEvent::default() }
}

impl Audit for Observed {
    fn record(&self, event: &Audited) -> Result<(), AuditLost> {
        self.trail.record(event)?;
        if let Some(told) = self.tell(event) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            // A client that does not keep up misses it.
            let _ = self.client.try_send(Event::of_network(seconds, told));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_net::Scheme;

    fn observed(room: usize) -> (Observed, mpsc::Receiver<Event>, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let id = "vm-00000001".parse().expect("an id");
        let trail = Trail::create(&directory.path().join("audit.jsonl"), &id).expect("a trail");
        let (client, events) = mpsc::channel(room);
        (Observed::new(Arc::new(trail), client), events, directory)
    }

    fn request(request: u64, decision: Decision) -> Audited {
        Audited::Request {
            flow: 1,
            request,
            scheme: Scheme::Https,
            method: "GET".to_owned(),
            host: "api.example.com".to_owned(),
            path: "/v1?key=placeholder".to_owned(),
            decision,
            rule: "api.example.com".to_owned(),
            reason: None,
            secrets: vec!["KEY".to_owned()],
        }
    }

    fn response(request: u64) -> Audited {
        Audited::Response {
            request,
            status: 200,
            bytes_up: 3,
            bytes_down: 5,
            duration_ms: 7,
            error: None,
            secrets: Vec::new(),
        }
    }

    #[test]
    fn an_exchange_is_told_when_it_is_over() {
        let (observed, mut events, _directory) = observed(WAITING);
        observed.record(&request(1, Decision::Allowed)).expect("recorded");
        assert!(events.try_recv().is_err(), "it is not over");
        observed.record(&response(1)).expect("recorded");
        let event = events.try_recv().expect("an event");
        assert!(event.kind == "network" && event.timestamp > 1_700_000_000);
        let expected = NetworkEvent {
            method: "GET".to_owned(),
            url: "https://api.example.com/v1?key=placeholder".to_owned(),
            host: "api.example.com".to_owned(),
            status_code: 200,
            request_bytes: 3,
            response_bytes: 5,
            duration_ms: 7,
            blocked: false,
            block_reason: None,
        };
        assert_eq!(event.network, Some(expected));
        observed.record(&response(1)).expect("recorded");
        assert!(events.try_recv().is_err(), "it is told once");
    }

    #[test]
    fn a_name_that_is_refused_is_told_with_the_reason() {
        let (observed, mut events, _directory) = observed(WAITING);
        let refused = Audited::Dns {
            name: "evil.example".to_owned(),
            qtype: "A".to_owned(),
            decision: Decision::Denied,
            rule: "default egress deny".to_owned(),
            reason: None,
        };
        observed.record(&refused).expect("recorded");
        let told = events.try_recv().expect("an event").network.expect("of the network");
        assert!(told.blocked && told.host == "evil.example" && told.status_code == 0);
        assert_eq!(told.block_reason.as_deref(), Some("default egress deny"));
    }

    #[test]
    fn neither_a_client_that_does_not_listen_nor_open_requests_take_more_than_their_bound() {
        let (observed, mut events, _directory) = observed(2);
        for number in 0..OPEN as u64 + 10 {
            observed.record(&request(number, Decision::Denied)).expect("recorded");
        }
        assert_eq!(observed.open.lock().expect("a lock").len(), OPEN);
        for number in 0..OPEN as u64 + 10 {
            observed.record(&response(number)).expect("recorded");
        }
        assert!(observed.open.lock().expect("a lock").is_empty());
        let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|event| event.network.as_ref().is_some_and(|told| told.blocked)));
    }
}
