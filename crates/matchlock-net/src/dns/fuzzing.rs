//! Entries for the fuzz targets.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::RecordType;
use matchlock_policy::{AddressClass, DefaultEgress, HostName, Policy, PolicyConfig, classify};

use super::chain::{Chain, MAX_ALIASES};
use super::resolver::to_wire;
use super::{DnsContext, Names, Seen, Source, Transport, Upstream, answer, forward, wire};

/// The discard port: nothing may be sent there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A message of the guest's to the server of a sealed sandbox. The first byte chooses the transport.
pub fn dns_query(input: &[u8]) {
    static SEALED: LazyLock<(DnsContext, Policy)> = LazyLock::new(|| (context(), sealed()));
    let Some((&first, query)) = input.split_first() else { return };
    let transport = if first & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    let (context, policy) = &*SEALED;
    let answered = pin!(answer(context, policy, query, transport));
    let Poll::Ready(answered) = answered.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a sealed sandbox waits for somebody");
    };
    let Some(answered) = answered else { return };
    let limit = if transport == Transport::Udp { wire::MAX_UDP } else { u16::MAX };
    assert!(answered.bytes.len() <= usize::from(limit));
    let message = Message::from_vec(&answered.bytes).expect("an answer that can be read");
    assert_eq!(message.id.to_be_bytes()[..], query[..2], "another id");
    assert_eq!(message.message_type, MessageType::Response);
    let denied = answered.question.is_none_or(|question| !question.allowed);
    assert!(!denied || message.answers.is_empty(), "a denied question has an answer");
}

/// What a server sends for a question of ours. The first byte chooses the type that was asked for.
pub fn dns_answer(input: &[u8]) {
    static OPEN: LazyLock<Policy> = LazyLock::new(|| {
        let default_egress = DefaultEgress::Public;
        Policy::new(PolicyConfig { default_egress, intercept: true, ..PolicyConfig::default() })
    });
    let Some((&[first, high, low], _)) = input.split_first_chunk::<3>() else { return };
    let kind = if first & 1 == 0 { RecordType::A } else { RecordType::AAAA };
    let name: HostName = "example.com".parse().expect("a name");
    let query = Query::query(to_wire(&name), kind);
    let id = u16::from_be_bytes([high, low]);
    let Some(message) = wire::read_answer(&input[1..], id, &query) else { return };
    if let Ok(chain) = Chain::follow(&message, &query.name, kind) {
        assert!(chain.aliases <= MAX_ALIASES);
    }
    let filtered = forward::filter(&OPEN, &name, message);
    for record in &filtered.answers {
        assert!(!matches!(record.record_type(), RecordType::HTTPS | RecordType::SVCB));
        if let Some(address) = record.data.ip_addr() {
            assert_eq!(classify(address), AddressClass::Public, "{address}");
        }
    }
}

fn context() -> DnsContext {
    DnsContext {
        names: Arc::new(Names::new()),
        seen: Arc::new(Seen::default()),
        upstream: Arc::new(Upstream::new(Source::new(&[NOWHERE]))),
    }
}

fn sealed() -> Policy {
    let rules = ["api.example.com", "*.wild.example", "host.docker.internal:80", "10.0.0.1"];
    let allowed_hosts = rules.map(|rule| rule.parse().expect("a pattern")).to_vec();
    Policy::new(PolicyConfig { allowed_hosts, ..PolicyConfig::default() })
}
