//! Refusals of secrets, which never say what the value was.

use std::fmt;

use crate::pattern::InvalidPattern;
use crate::secret::name::SecretName;
use crate::secret::placeholder::PlaceholderProblem;
use crate::secret::value::ValueProblem;

/// A secret is refused. Prints its name if there is one that is fit to be printed; the
/// [`SecretProblem`] is the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSecret {
    name: Option<SecretName>,
    problem: SecretProblem,
}

impl InvalidSecret {
    pub(super) fn of(name: &SecretName, problem: SecretProblem) -> Self {
        Self { name: Some(name.clone()), problem }
    }

    pub(super) fn unnamed(problem: SecretProblem) -> Self {
        Self { name: None, problem }
    }

    /// The name of the secret, if it has a valid one.
    #[must_use]
    pub fn name(&self) -> Option<&SecretName> {
        self.name.as_ref()
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &SecretProblem {
        &self.problem
    }
}

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "invalid secret \"{name}\""),
            None => f.write_str("invalid secret"),
        }
    }
}

impl std::error::Error for InvalidSecret {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.problem)
    }
}

/// What is wrong with a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretProblem {
    /// A host has a rule's `/tcp` or `/tls`: nothing is put into bytes that pass unread.
    #[error("host {number} ends in /tcp or /tls, where no value is put in")]
    Carriage {
        /// Which of the hosts, from 1.
        number: usize,
    },
    /// There is no `@`.
    #[error("expected NAME=VALUE@host1,host2 or NAME@host1,host2")]
    Form,
    /// The name is not one of an environment variable.
    #[error("the name must consist of letters, digits and '_' and not begin with a digit")]
    Name,
    /// The value is to come from the environment, which has none.
    #[error("environment variable ${0} is not set or empty; under sudo, use `sudo -E` to keep it")]
    NotInEnvironment(SecretName),
    /// No host may get it: a secret for every host must say `*`.
    #[error("no hosts given: name the hosts that may get it after '@', or '*' for every host")]
    NoHosts,
    /// A host pattern is not one. The pattern itself may be a part of the value and is not kept.
    #[error("host number {number} is not valid")]
    Host {
        /// Counted from 1.
        number: usize,
        /// Why.
        #[source]
        cause: InvalidPattern,
    },
    /// The value cannot be used.
    #[error(transparent)]
    Value(#[from] ValueProblem),
    /// The placeholder cannot be used.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderProblem),
    /// Another secret has the name.
    #[error("there are two secrets of this name")]
    DuplicateName,
    /// A placeholder is given for a secret that does not exist.
    #[error("a placeholder is given, but no secret of this name")]
    NoSuchSecret,
    /// One placeholder is part of another one.
    #[error("its placeholder overlaps with that of secret \"{0}\"")]
    Overlap(SecretName),
    /// The placeholder would show a value to the guest, or be found in one.
    #[error("its placeholder and the value of secret \"{0}\" contain one another")]
    PlaceholderAndValue(SecretName),
}
