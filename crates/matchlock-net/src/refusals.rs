//! What the guest was refused, collected for a hint to the user.

use matchlock_policy::{Denied, Suggestion};

use crate::cause::Cause;

/// Distinct refusals that are kept. The guest chooses the names, so there has to be a bound.
const KEPT: usize = 64;

/// Something that the guest was refused, once or often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name or address that the guest wanted.
    pub host: String,
    /// The port; none for a name that was only asked for.
    pub port: Option<u16>,
    /// Why.
    pub reason: Cause,
    /// What would allow it, if anything does.
    pub suggestion: Option<Suggestion>,
    /// How often.
    pub count: u64,
}

impl Refusal {
    /// A refusal by policy.
    pub(crate) fn denied(host: impl Into<String>, port: Option<u16>, denied: &Denied) -> Self {
        Self {
            host: host.into(),
            port,
            reason: Cause::of(denied),
            suggestion: denied.suggestion(),
            count: 1,
        }
    }

    /// A refusal for what the guest sent; no rule would help.
    pub(crate) fn of(host: impl Into<String>, port: Option<u16>, reason: impl Into<Cause>) -> Self {
        Self { host: host.into(), port, reason: reason.into(), suggestion: None, count: 1 }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port && self.reason == other.reason
    }
}

/// The distinct refusals of a sandbox, the first [`KEPT`] of them.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    kept: Vec<Refusal>,
    beyond: u64,
}

impl Refusals {
    pub(crate) fn add(&mut self, refusal: Refusal) {
        if let Some(known) = self.kept.iter_mut().find(|known| known.is_like(&refusal)) {
            known.count = known.count.saturating_add(refusal.count);
        } else if self.kept.len() < KEPT {
            self.kept.push(refusal);
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    pub(crate) fn list(&self) -> Vec<Refusal> {
        self.kept.clone()
    }

    /// Refusals that are only counted.
    pub(crate) fn beyond(&self) -> u64 {
        self.beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_refusals_are_counted_once() {
        let mut refusals = Refusals::default();
        for _ in 0..3 {
            refusals.add(Refusal::of("evil.example", Some(443), "not allowed"));
        }
        refusals.add(Refusal::of("evil.example", Some(80), "not allowed"));
        let counts: Vec<_> = refusals.list().iter().map(|r| (r.port, r.count)).collect();
        assert_eq!(counts, [(Some(443), 3), (Some(80), 1)]);
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let mut refusals = Refusals::default();
        for n in 0..10_000 {
            refusals.add(Refusal::of(format!("{n}.example"), None, "not allowed"));
        }
        assert_eq!(refusals.list().len(), KEPT);
        assert_eq!(refusals.beyond(), 10_000 - KEPT as u64);
    }
}
