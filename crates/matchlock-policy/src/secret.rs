//! Secrets: what the guest holds in their place, and which host may get them.

mod bound;
mod error;
mod file;
mod name;
mod placeholder;
mod spec;
mod value;

use std::fmt;
use std::sync::Arc;

use crate::pattern::HostPattern;

pub use bound::{Bound, Revealed, Transport};
pub use error::{InvalidSecret, SecretProblem};
pub use file::InvalidSecretFile;
pub use name::SecretName;
pub use placeholder::{Placeholder, PlaceholderProblem, made_of};
pub use spec::SecretSpec;
pub use value::{SecretValue, ValueProblem};

/// One secret of a sandbox.
#[derive(Debug)]
pub struct Secret {
    /// The environment variable of the guest that holds the placeholder.
    pub name: SecretName,
    /// The value, which never enters the guest.
    pub value: SecretValue,
    /// What the guest holds instead.
    pub placeholder: Placeholder,
    /// Where the value may be sent; at least one.
    pub hosts: Vec<HostPattern>,
    /// Whether the placeholder is replaced in request bodies too.
    pub body: bool,
    /// Whether the value is kept off connections without TLS.
    pub https_only: bool,
    /// Whether the value is replaced by the placeholder in responses.
    pub scrub: bool,
}

/// The secrets of a sandbox. No placeholder is part of another one or has to do with a value.
/// Cheap to clone; the values are wiped when the last clone goes.
#[derive(Clone, Default)]
pub struct Secrets(Arc<[Arc<Secret>]>);

impl Secrets {
    /// Checks `specs` and makes a placeholder for each that has none, from 16 random bytes.
    ///
    /// # Errors
    /// When two secrets share a name, a secret has no host, or a placeholder is unfit or
    /// overlaps with another placeholder or a value.
    pub fn new(
        specs: Vec<SecretSpec>,
        entropy: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Self, InvalidSecret> {
        let complete = |spec: SecretSpec| spec.complete(entropy).map(Arc::new);
        Self::checked(specs.into_iter().map(complete).collect::<Result<_, _>>()?)
    }

    fn checked(secrets: Vec<Arc<Secret>>) -> Result<Self, InvalidSecret> {
        for (at, secret) in secrets.iter().enumerate() {
            check_scrub(secret)?;
            for (other_at, other) in secrets.iter().enumerate() {
                check_pair(secret, other, at == other_at)?;
            }
        }
        Ok(Self(secrets.into()))
    }

    /// The same with another value for the secret of this name, or with one more. A secret that is there
    /// keeps its placeholder and its options, and its hosts unless others are named.
    ///
    /// # Errors
    /// As [`Secrets::new`].
    pub fn with(
        &self,
        name: SecretName,
        value: SecretValue,
        hosts: Vec<HostPattern>,
        entropy: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Self, InvalidSecret> {
        let mut secrets = self.0.to_vec();
        match secrets.iter_mut().find(|secret| secret.name == name) {
            Some(known) => {
                let Secret { placeholder, body, https_only, scrub, .. } = &**known;
                let hosts = if hosts.is_empty() { known.hosts.clone() } else { hosts };
                let (placeholder, body) = (placeholder.clone(), *body);
                let (https_only, scrub) = (*https_only, *scrub);
                let new = Secret { name, value, placeholder, hosts, body, https_only, scrub };
                *known = Arc::new(new);
            }
            None => secrets.push(Arc::new(SecretSpec::new(name, value, hosts).complete(entropy)?)),
        }
        Self::checked(secrets)
    }

    /// The same without the secret of this name; `None` if there is none.
    #[must_use]
    pub fn without(&self, name: &SecretName) -> Option<Self> {
        let left: Vec<_> = self.0.iter().filter(|secret| secret.name != *name).cloned().collect();
        (left.len() < self.0.len()).then(|| Self(left.into()))
    }

    /// The secret of this name.
    #[must_use]
    pub fn get(&self, name: &SecretName) -> Option<&Secret> {
        self.iter().find(|secret| secret.name == *name)
    }

    /// The secrets in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Secret> {
        self.0.iter().map(|secret| &**secret)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The environment of the guest: names and placeholders.
    pub fn env(&self) -> impl ExactSizeIterator<Item = (&SecretName, &Placeholder)> {
        self.0.iter().map(|secret| (&secret.name, &secret.placeholder))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Shorter values occur by chance, and every such place would be scrubbed.
const MIN_SCRUBBED: usize = 4;

fn check_scrub(secret: &Secret) -> Result<(), InvalidSecret> {
    if secret.scrub && secret.value.expose().len() < MIN_SCRUBBED {
        let problem = SecretProblem::Value(ValueProblem::TooShortToScrub);
        return Err(InvalidSecret::of(&secret.name, problem));
    }
    Ok(())
}

/// Checks `secret` against `other`, or against itself.
fn check_pair(secret: &Secret, other: &Secret, same: bool) -> Result<(), InvalidSecret> {
    let problem = if !same && secret.name == other.name {
        SecretProblem::DuplicateName
    } else if !same && secret.placeholder.overlaps(&other.placeholder) {
        SecretProblem::Overlap(other.name.clone())
    } else if secret.placeholder.is_given() && secret.placeholder.shares_with(&other.value) {
        SecretProblem::PlaceholderAndValue(other.name.clone())
    } else {
        return Ok(());
    };
    Err(InvalidSecret::of(&secret.name, problem))
}
