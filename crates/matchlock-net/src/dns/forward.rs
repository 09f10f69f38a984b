//! Questions that servers answer, and what is left of their answers.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::ResponseCode;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use matchlock_policy::{Denied, Endpoint, HostName, Policy, Rule};

use super::question::Question;
use super::resolver::to_wire;
use super::server::{DnsContext, Reply};
use super::wire::Asked;
use crate::cause::Cause;

/// Any port: where the public network is open, no rule is about one.
const ANY_PORT: u16 = 443;

/// Asks in the guest's place: with an id, a port and a spelling of our own.
pub(crate) async fn forward(
    context: &DnsContext,
    policy: &Policy,
    asked: &Asked,
    name: &HostName,
    rule: &Rule,
) -> Reply {
    let question = Question::allowed(asked, name, rule.to_string());
    let answer = match context.upstream.ask(&Query::query(to_wire(name), asked.qtype())).await {
        Ok(answer) => answer,
        Err(error) => {
            let cause = Cause::of(&error);
            tracing::debug!(%name, %cause, "a question of the guest is not answered");
            return Reply::empty(ResponseCode::ServFail, question.because(cause));
        }
    };
    let filtered = filter(policy, name, answer);
    for address in filtered.answers.iter().filter_map(|record| record.data.ip_addr()) {
        context.seen.note(address, name);
    }
    let question = match filtered.denied {
        Some(denied) => Question::denied(asked, name, denied),
        None => question,
    };
    let Filtered { code, answers, authorities, .. } = filtered;
    Reply { code, answers, authorities, question }
}

/// What of an answer the guest may know.
#[derive(Debug)]
pub(crate) struct Filtered {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    /// Set if there were addresses and none may be reached.
    pub(crate) denied: Option<Denied>,
}

/// Drops addresses that may not be reached, and service bindings where TLS is looked into. Of the
/// rest of the message only how long a "no" holds is passed on (RFC 2308).
pub(crate) fn filter(policy: &Policy, name: &HostName, answer: Message) -> Filtered {
    let addresses: Vec<IpAddr> =
        answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    let (reachable, denied) = reachable(policy, name, &addresses);
    let bindings = !policy.intercepts();
    let passes = |record: &Record| match record.record_type() {
        RecordType::HTTPS | RecordType::SVCB => bindings,
        _ => {
            let reachable = |ip: IpAddr| reachable.contains(&ip.to_canonical());
            record.data.ip_addr().is_none_or(reachable)
        }
    };
    let mut answers = answer.answers;
    answers.retain(|record| record.dns_class == DNSClass::IN && passes(record));
    let mut authorities = answer.authorities;
    authorities.retain(|record| record.record_type() == RecordType::SOA);
    if denied.is_some() {
        answers.clear();
        authorities.clear();
    }
    Filtered { code: answer.metadata.response_code, answers, authorities, denied }
}

fn reachable(
    policy: &Policy,
    name: &HostName,
    addresses: &[IpAddr],
) -> (HashSet<IpAddr>, Option<Denied>) {
    if addresses.is_empty() {
        return (HashSet::new(), None);
    }
    let endpoint = Endpoint::new(name.clone(), ANY_PORT);
    match policy.connect(&endpoint).and_then(|allowed| allowed.admit(addresses)) {
        Ok(dialable) => (dialable.addresses().iter().map(SocketAddr::ip).collect(), None),
        Err(denied) => (HashSet::new(), Some(denied)),
    }
}
