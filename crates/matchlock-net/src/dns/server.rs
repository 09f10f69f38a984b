//! What the guest's questions are answered with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use matchlock_policy::{AddressClass, Endpoint, Host, HostName, Policy, Rule, classify};

use super::forward;
use super::names::Names;
use super::question::{Answer, Question};
use super::resolver::to_wire;
use super::seen::Seen;
use super::upstream::Upstream;
use super::wire::{Asked, Transport, Unasked, record};
use crate::cause::Cause;

/// How long the guest may remember what we say, in seconds.
const TTL: u32 = 60;
/// Bounds of a name that only a wildcard allows: below it the guest chooses, and what it chooses
/// reaches the owner's name servers once the name is dialled.
const MAX_WILD_LABELS: usize = 10;
/// In bytes.
const MAX_WILD_LENGTH: usize = 128;

/// What answering needs besides the policy of the moment.
#[derive(Debug)]
pub(crate) struct DnsContext {
    pub(crate) names: Arc<Names>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) upstream: Arc<Upstream>,
}

/// Answers one message; TCP's length bytes are the caller's. `None` for what deserves no answer.
/// Sealed, it never waits: nothing is sent anywhere.
pub(crate) async fn answer(
    context: &DnsContext,
    policy: &Policy,
    query: &[u8],
    transport: Transport,
) -> Option<Answer> {
    let asked = match Asked::parse(query, transport) {
        Ok(asked) => asked,
        Err(Unasked::Ignore) => return None,
        Err(Unasked::Reply(bytes)) => return Some(Answer { bytes, question: None }),
    };
    let reply = match decide(context, policy, &asked) {
        Verdict::Here(reply) => reply,
        Verdict::Forward(name, rule) => {
            forward::forward(context, policy, &asked, &name, &rule).await
        }
    };
    let bytes = asked.reply_with(reply.code, reply.answers, reply.authorities);
    Some(Answer { bytes, question: Some(reply.question) })
}

/// What the answer says, and why.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) question: Question,
}

enum Verdict {
    Here(Reply),
    /// The public network is open, and a server knows.
    Forward(HostName, Rule),
}

impl Reply {
    pub(crate) fn empty(code: ResponseCode, question: Question) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new(), question }
    }

    fn data(asked: &Asked, data: impl IntoIterator<Item = RData>, question: Question) -> Self {
        let answers = data.into_iter().map(|data| record(asked.name(), TTL, data)).collect();
        Self { answers, ..Self::empty(ResponseCode::NoError, question) }
    }
}

fn decide(context: &DnsContext, policy: &Policy, asked: &Asked) -> Verdict {
    let Some(name) = host_name(asked.name()) else {
        let question = Question::refused(asked, "dns", "not a host name");
        return Verdict::Here(Reply::empty(ResponseCode::NXDomain, question));
    };
    if is_below(&name, "in-addr.arpa") || is_below(&name, "ip6.arpa") {
        return reverse(context, policy, asked, name);
    }
    if is_below(&name, "localhost") {
        // RFC 6761 6.3.
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let question = Question::allowed(asked, &name, "localhost");
        return Verdict::Here(addresses(asked, &loopback, question));
    }
    let rule = match policy.resolve(&name) {
        Ok(rule) => rule,
        Err(denied) => {
            let question = Question::denied(asked, &name, denied);
            return Verdict::Here(Reply::empty(ResponseCode::NXDomain, question));
        }
    };
    let added = policy.added_addresses(&name);
    if !added.is_empty() {
        let question = Question::allowed(asked, &name, rule.to_string());
        return Verdict::Here(addresses(asked, &added, question));
    }
    if policy.is_sealed() || name.is_host_service() {
        return Verdict::Here(synthetic(context, policy, asked, &name, &rule));
    }
    open(policy, asked, name, rule)
}

/// The name's addresses of the family that was asked for; nothing of other types.
fn addresses(asked: &Asked, addresses: &[IpAddr], question: Question) -> Reply {
    let data = addresses.iter().filter_map(|address| match (address, asked.qtype()) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
        _ => None,
    });
    Reply::data(asked, data, question)
}

fn synthetic(
    context: &DnsContext,
    policy: &Policy,
    asked: &Asked,
    name: &HostName,
    rule: &Rule,
) -> Reply {
    if !is_modest(name) && !is_listed(policy, name) {
        let reason = "too long a name for a rule with a wildcard";
        let question = Question::refused(asked, rule.to_string(), reason);
        return Reply::empty(ResponseCode::NXDomain, question);
    }
    let question = Question::allowed(asked, name, rule.to_string());
    if !matches!(asked.qtype(), RecordType::A | RecordType::AAAA) {
        let question = question.because("only addresses are answered");
        return Reply::empty(ResponseCode::NoError, question);
    }
    match context.names.assign(name) {
        Ok((v4, v6)) => addresses(asked, &[v4.into(), v6.into()], question),
        Err(exhausted) => {
            Reply::empty(ResponseCode::ServFail, question.because(Cause::of(&exhausted)))
        }
    }
}

/// With the public network open.
fn open(policy: &Policy, asked: &Asked, name: HostName, rule: Rule) -> Verdict {
    let (code, reason) = match asked.qtype() {
        // They could tell the guest keys for an encrypted ClientHello (RFC 9460), which would hide
        // the name from us.
        RecordType::HTTPS | RecordType::SVCB if policy.intercepts() => {
            (ResponseCode::NoError, "no service bindings where TLS is looked into")
        }
        RecordType::ANY | RecordType::AXFR | RecordType::IXFR => {
            (ResponseCode::NotImp, "only single types are answered")
        }
        _ => return Verdict::Forward(name, rule),
    };
    let question = Question::allowed(asked, &name, rule.to_string()).because(reason);
    Verdict::Here(Reply::empty(code, question))
}

/// Names of addresses (RFC 1035 3.5, RFC 3596 2.5).
fn reverse(context: &DnsContext, policy: &Policy, asked: &Asked, name: HostName) -> Verdict {
    let whole = asked.name().parse_arpa_name().ok();
    let whole = whole.filter(|network| network.prefix_len() == network.max_prefix_len());
    let address = whole.map(|network| network.addr());
    let known = address.map(|address| known(context, policy, address)).unwrap_or_default();
    if !known.is_empty() {
        let question = Question::allowed(asked, &name, "known address");
        let wanted = asked.qtype() == RecordType::PTR;
        let names = known.iter().filter(|_| wanted).map(|name| RData::PTR(PTR(to_wire(name))));
        return Verdict::Here(Reply::data(asked, names, question));
    }
    // What hosts the network of the user has is nothing that the guest may list.
    let public = address.is_some_and(|address| classify(address) == AddressClass::Public);
    let question = match policy.resolve(&name) {
        Ok(rule) if public && !policy.is_sealed() => return open(policy, asked, name, rule),
        Ok(rule) => {
            Question::refused(asked, rule.to_string(), "only public addresses are looked up")
        }
        Err(denied) => Question::denied(asked, &name, denied),
    };
    Verdict::Here(Reply::empty(ResponseCode::NXDomain, question))
}

/// The names that the guest may know an address by.
fn known(context: &DnsContext, policy: &Policy, address: IpAddr) -> Vec<HostName> {
    let added = policy.names_of_added(address).into_iter();
    let mut names = context.names.lookup(address);
    names.extend(added.filter(|name| policy.resolve(name).is_ok()));
    names
}

/// Short enough for a name that the guest made up.
fn is_modest(name: &HostName) -> bool {
    name.as_str().len() <= MAX_WILD_LENGTH && name.labels().count() <= MAX_WILD_LABELS
}

/// Whether the user wrote this very name, with or without a port.
fn is_listed(policy: &Policy, name: &HostName) -> bool {
    let is_name = |text: &String| {
        Endpoint::parse(text, 0).is_ok_and(|entry| entry.host == Host::Name(name.clone()))
    };
    policy.allowed_hosts().iter().any(is_name)
}

/// `zone` itself or a name below it.
fn is_below(name: &HostName, zone: &str) -> bool {
    let rest = name.as_str().strip_suffix(zone);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name as the policy knows it. Labels are bytes: only those of host names are read as text, so
/// that no dot inside of one makes two.
fn host_name(name: &Name) -> Option<HostName> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let plain = name.iter().all(|label| label.iter().all(is_plain));
    plain.then(|| name.to_ascii().parse().ok()).flatten()
}
