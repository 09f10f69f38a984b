//! Secrets in the light of one decision.

use crate::carriage::Carriage;
use crate::decision::Allowed;
use crate::secret::name::SecretName;
use crate::secret::placeholder::Placeholder;
use crate::secret::{Secret, Secrets};

/// How a request travels to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Over TLS, with the host's certificate verified.
    Tls,
    /// In the clear.
    Plain,
}

/// What a request to one allowed host may use. Only [`Secrets::reveal`] makes one.
///
/// ```compile_fail,E0451
/// use matchlock_policy::{Bound, Secret, Transport};
/// fn forge(secret: &Secret) -> Bound<'_> {
///     Bound { secrets: vec![(secret, true)], transport: Transport::Tls }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Bound<'a> {
    /// Each secret, and whether the host is one of its own.
    secrets: Vec<(&'a Secret, bool)>,
    transport: Transport,
}

/// A secret that may be used.
#[derive(Clone, Copy)]
pub struct Revealed<'a> {
    /// Its name.
    pub name: &'a SecretName,
    /// What the guest holds.
    pub placeholder: &'a Placeholder,
    /// What the host of the request may get.
    pub value: &'a [u8],
    /// Whether it may go into the body too.
    pub body: bool,
}

impl std::fmt::Debug for Revealed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revealed").field("name", self.name).finish_non_exhaustive()
    }
}

impl Secrets {
    /// What a request to the host of `allowed` may use over `transport`.
    #[must_use]
    pub fn reveal<'a>(&'a self, allowed: &Allowed, transport: Transport) -> Bound<'a> {
        // What a rule has carried unread gets no value, whoever asks.
        let read = allowed.carriage() == Carriage::Http;
        let is_own = |secret: &Secret| {
            let mut hosts = secret.hosts.iter();
            read && hosts.any(|pattern| pattern.matches(allowed.host(), allowed.port()))
        };
        let secrets = self.iter().map(|secret| (secret, is_own(secret))).collect();
        Bound { secrets, transport }
    }
}

impl<'a> Bound<'a> {
    /// The secrets whose placeholders are to be replaced.
    pub fn permitted(&self) -> impl Iterator<Item = Revealed<'a>> + '_ {
        let permitted = self.secrets.iter().filter(|(secret, own)| self.permits(secret, *own));
        permitted.map(|(secret, _)| Revealed::new(secret))
    }

    /// The secrets whose placeholders must not occur in the request: the host is not one of theirs,
    /// or they are for TLS only and this is not.
    pub fn foreign(&self) -> impl Iterator<Item = (&'a SecretName, &'a Placeholder)> + '_ {
        let foreign = self.secrets.iter().filter(|(secret, own)| !self.permits(secret, *own));
        foreign.map(|(secret, _)| (&secret.name, &secret.placeholder))
    }

    /// The secrets of this host that are to be taken out of its responses.
    pub fn scrubbed(&self) -> impl Iterator<Item = Revealed<'a>> + '_ {
        // Over any transport: what the host once got over TLS it may send back without.
        let scrubbed = self.secrets.iter().filter(|(secret, own)| *own && secret.scrub);
        scrubbed.map(|(secret, _)| Revealed::new(secret))
    }

    fn permits(&self, secret: &Secret, own: bool) -> bool {
        own && (self.transport == Transport::Tls || !secret.https_only)
    }
}

impl<'a> Revealed<'a> {
    fn new(secret: &'a Secret) -> Self {
        let Secret { name, placeholder, value, body, .. } = secret;
        Self { name, placeholder, value: value.expose(), body: *body }
    }
}
