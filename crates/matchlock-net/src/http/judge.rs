//! The decision about a request's head.

use std::time::Instant;

use matchlock_intercept::h1::{self, Authority, RequestHead, Scheme as TargetScheme, Target};
use matchlock_intercept::headers::HeaderValue;

use matchlock_intercept::rewrite;
use matchlock_policy::{
    Allowed, Bound, Denied, Endpoint, Policy, RequestRefused, SecretName, Transport,
};

use super::Exchange;
use super::answer;
use super::local::Local;
use super::record::Record;
use crate::audit::{AuditLost, Decision, Event, Scheme};
use crate::cause::Cause;
use crate::refusals::Refusal;

/// Longest path with query in the audit trail, in bytes.
const RECORDED_PATH: usize = 2048;

/// A request that may be sent on.
#[derive(Debug)]
pub(super) struct Admitted {
    /// The head to send, secrets put in, without fields that are for one hop.
    pub(super) head: RequestHead,
    /// The policy that admitted it.
    pub(super) policy: Policy,
    pub(super) allowed: Allowed,
    transport: Transport,
    pub(super) record: Record,
}

impl Admitted {
    /// The secrets that the exchange may and may not use.
    pub(super) fn bound(&self) -> Bound<'_> {
        self.policy.secrets().reveal(&self.allowed, self.transport)
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    Forward(Box<Admitted>),
    Refuse(Local, Record),
}

/// Decides about a head as the guest sent it, and records the decision. Nothing of the request may
/// have gone out before.
///
/// # Errors
/// The decision could not be recorded: drop the connection.
pub(super) async fn judge(exchange: &Exchange, head: RequestHead) -> Result<Verdict, AuditLost> {
    let mut case = Case::new(exchange, &head);
    match case.decide(head).await {
        Ok(decided) => case.admit(decided),
        Err(refusal) => case.refuse(refusal),
    }
}

/// Records a request whose head could not be read.
///
/// # Errors
/// As [`judge`].
pub(super) fn malformed(
    exchange: &Exchange,
    error: &(dyn std::error::Error + 'static),
) -> Result<Record, AuditLost> {
    let case = Case {
        exchange,
        request: exchange.shared.next_request(),
        started: Instant::now(),
        method: String::new(),
        host: String::new(),
        path: String::new(),
    };
    let event = case.event(Decision::Denied, "strict HTTP", Some(Cause::of(error)), &[]);
    exchange.shared.audit(&event)?;
    Ok(case.record())
}

/// Records that a body carried the placeholder of a secret that is not for its host.
///
/// # Errors
/// As [`judge`].
pub(super) fn leak_in_body(
    exchange: &Exchange,
    admitted: &Admitted,
    secret: &SecretName,
) -> Result<(), AuditLost> {
    let host = admitted.allowed.endpoint();
    leak(exchange, admitted.record.request, secret, host)
}

/// One request, for the audit trail.
struct Case<'a> {
    exchange: &'a Exchange,
    request: u64,
    started: Instant,
    method: String,
    host: String,
    path: String,
}

struct Decided {
    head: RequestHead,
    policy: Policy,
    allowed: Allowed,
    transport: Transport,
    secrets: Vec<SecretName>,
}

enum Reason {
    Malformed(Cause),
    Method,
    Misdirected(RequestRefused),
    Denied(Denied),
    Hook(answer::Stop),
    Leak(SecretName, Endpoint),
}

impl<'a> Case<'a> {
    fn new(exchange: &'a Exchange, head: &RequestHead) -> Self {
        let host = head.headers.get("host").map_or(&b""[..], HeaderValue::as_bytes);
        let path = match &head.target {
            Target::Authority(authority) => authority.to_string().into_bytes(),
            Target::Asterisk => b"*".to_vec(),
            target => target.path_and_query().map_or_else(Vec::new, |p| p.as_bytes().to_vec()),
        };
        Self {
            exchange,
            request: exchange.shared.next_request(),
            started: Instant::now(),
            method: head.method.to_string(),
            host: String::from_utf8_lossy(host).into_owned(),
            path: String::from_utf8_lossy(&path[..path.len().min(RECORDED_PATH)]).into_owned(),
        }
    }

    async fn decide(&mut self, mut head: RequestHead) -> Result<Decided, Reason> {
        let authority = head.authority().map_err(|e| Reason::Malformed(Cause::of(&e)))?;
        if head.method.is("CONNECT") {
            return Err(Reason::Method);
        }
        let endpoint = self.endpoint(&head, &authority)?;
        self.host = shown(&endpoint, self.exchange.tls);
        let policy = self.exchange.shared.policy();
        let allowed =
            policy.request(&self.exchange.connection, &endpoint).map_err(|e| match e {
                RequestRefused::Denied(denied) => Reason::Denied(denied),
                misdirected @ RequestRefused::Misdirected { .. } => {
                    Reason::Misdirected(misdirected)
                }
            })?;

        answer::before(self.exchange, &endpoint, &mut head).await.map_err(Reason::Hook)?;
        // Hooks cannot change it, which this does not rely on.
        if head.authority().map(|authority| self.place(&authority)) != Ok(endpoint.clone()) {
            return Err(Reason::Malformed("a hook changed where the request goes".into()));
        }

        let transport = if self.exchange.tls { Transport::Tls } else { Transport::Plain };
        let bound = policy.secrets().reveal(&allowed, transport);
        let secrets = rewrite::request(&mut head, &bound)
            .map_err(|leak| Reason::Leak(leak.secret, endpoint.clone()))?;
        // A secret could be read out of its parts, or of what we cannot decode.
        if bound.scrubbed().next().is_some() {
            rewrite::ask_for_readable(&mut head.headers);
        }
        drop(bound);
        let upgrade = h1::asks_for_upgrade(&head);
        h1::forwardable(&mut head.headers, upgrade);
        Ok(Decided { head, policy, allowed, transport, secrets })
    }

    /// What the request is for. Without a port it is for the one that was dialled: that is where
    /// it goes in any case.
    fn endpoint(&self, head: &RequestHead, authority: &Authority) -> Result<Endpoint, Reason> {
        if let Target::Absolute { scheme, .. } = &head.target
            && (*scheme == TargetScheme::Https) != self.exchange.tls
        {
            return Err(Reason::Malformed("the request target is of another scheme".into()));
        }
        Ok(self.place(authority))
    }

    fn place(&self, authority: &Authority) -> Endpoint {
        authority.endpoint(self.exchange.connection.address.port())
    }

    fn admit(self, decided: Decided) -> Result<Verdict, AuditLost> {
        let Decided { head, policy, allowed, transport, secrets } = decided;
        let rule = allowed.rule().to_string();
        let event = self.event(Decision::Allowed, &rule, None, &secrets);
        self.exchange.shared.audit(&event)?;
        let record = self.record();
        let admitted = Admitted { head, policy, allowed, transport, record };
        Ok(Verdict::Forward(Box::new(admitted)))
    }

    fn refuse(self, refusal: Reason) -> Result<Verdict, AuditLost> {
        let shared = &self.exchange.shared;
        let port = Some(self.exchange.connection.address.port());
        let (local, rule, reason) = match refusal {
            Reason::Malformed(error) => (Local::MALFORMED, "strict HTTP".to_owned(), error),
            Reason::Method => (Local::METHOD, "strict HTTP".to_owned(), Cause::from("CONNECT")),
            Reason::Misdirected(error) => {
                let cause = Cause::of(&error);
                shared.refused(Refusal::of(&*self.host, port, cause.clone()));
                (Local::MISDIRECTED, "authority of the connection".to_owned(), cause)
            }
            Reason::Denied(denied) => {
                shared.refused(Refusal::denied(&*self.host, port, &denied));
                (Local::BLOCKED, denied.rule().to_string(), Cause::of(&denied))
            }
            Reason::Hook(stop) => (Local::BLOCKED, stop.rule().to_owned(), Cause::of(&stop)),
            Reason::Leak(secret, endpoint) => {
                let reason = Cause::from("secret placeholder sent to unauthorized host");
                shared.refused(Refusal::of(&*self.host, port, reason.clone()));
                leak(self.exchange, self.request, &secret, &endpoint)?;
                (Local::BLOCKED, format!("secret {secret}"), reason)
            }
        };
        shared.audit(&self.event(Decision::Denied, &rule, Some(reason), &[]))?;
        let record = self.record();
        record.status(local.status);
        Ok(Verdict::Refuse(local, record))
    }

    fn event(
        &self,
        decision: Decision,
        rule: &str,
        reason: Option<Cause>,
        secrets: &[SecretName],
    ) -> Event {
        Event::Request {
            flow: self.exchange.flow,
            request: self.request,
            scheme: if self.exchange.tls { Scheme::Https } else { Scheme::Http },
            method: self.method.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            decision,
            rule: rule.to_owned(),
            reason,
            secrets: secrets.iter().map(ToString::to_string).collect(),
        }
    }

    fn record(&self) -> Record {
        Record::new(self.exchange.shared.clone(), self.request, self.started)
    }
}

fn leak(
    exchange: &Exchange,
    request: u64,
    secret: &SecretName,
    host: &Endpoint,
) -> Result<(), AuditLost> {
    exchange.shared.audit(&Event::SecretLeak {
        flow: exchange.flow,
        request,
        secret: secret.to_string(),
        host: host.to_string(),
    })
}

/// With the port only if it is not the scheme's own.
fn shown(endpoint: &Endpoint, tls: bool) -> String {
    let own = if tls { 443 } else { 80 };
    if endpoint.port == own {
        return endpoint.host.to_string();
    }
    endpoint.to_string()
}
