//! What was asked and decided, for the audit trail, together with the answer.

use matchlock_policy::{Denied, HostName};

use super::wire::Asked;
use crate::cause::Cause;

/// An answer, and the decision behind it. The decision is to be recorded before the answer is
/// sent; if it cannot be, there is no answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    /// `None` if the bytes were no question: then the answer only says so.
    pub(crate) question: Option<Question>,
}

/// A question of the guest, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    /// Canonical if it is a host name; else as it was sent, escaped (RFC 1035 5.1).
    pub(crate) name: String,
    /// Such as `AAAA`.
    pub(crate) qtype: String,
    pub(crate) allowed: bool,
    /// What decided.
    pub(crate) rule: String,
    /// Why it was denied, or why there is no record although it was not.
    pub(crate) reason: Option<Cause>,
    /// The refusal of the policy, if it was one: it knows what would lift it.
    pub(crate) denied: Option<Denied>,
}

impl Question {
    /// Allowed by `rule`.
    pub(crate) fn allowed(asked: &Asked, name: &HostName, rule: impl Into<String>) -> Self {
        Self { name: name.to_string(), allowed: true, ..Self::new(asked, rule) }
    }

    /// Denied by `rule`, which is not of the policy.
    pub(crate) fn refused(
        asked: &Asked,
        rule: impl Into<String>,
        reason: impl Into<Cause>,
    ) -> Self {
        Self::new(asked, rule).because(reason)
    }

    /// Denied by the policy.
    pub(crate) fn denied(asked: &Asked, name: &HostName, denied: Denied) -> Self {
        let question = Self::new(asked, denied.rule().to_string()).because(denied.reason());
        Self { name: name.to_string(), denied: Some(denied), ..question }
    }

    pub(crate) fn because(mut self, reason: impl Into<Cause>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    fn new(asked: &Asked, rule: impl Into<String>) -> Self {
        Self {
            name: asked.name().to_ascii().trim_end_matches('.').to_ascii_lowercase(),
            qtype: asked.qtype().to_string(),
            allowed: false,
            rule: rule.into(),
            reason: None,
            denied: None,
        }
    }
}
