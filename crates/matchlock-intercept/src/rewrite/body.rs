//! Placeholders to secrets in the bodies of requests.

use matchlock_policy::{Bound, SecretName};
use zeroize::Zeroizing;

use super::forms;
use super::stream::{Piece, Stream};

/// Replaces the placeholders of the secrets that may go into bodies, where they stand as they are:
/// not in an encoded body, and not with bytes of them escaped.
pub struct BodyReplacer {
    stream: Stream,
    secrets: Vec<(SecretName, Zeroizing<Vec<u8>>)>,
    used: Vec<bool>,
}

impl BodyReplacer {
    /// For the secrets that the request may use.
    #[must_use]
    pub fn new(bound: &Bound<'_>) -> Self {
        let (mut secrets, mut patterns) = (Vec::new(), Vec::new());
        for secret in bound.permitted().filter(|secret| secret.body) {
            patterns.extend(forms::literal(secret.placeholder.as_str().as_bytes(), secrets.len()));
            secrets.push((secret.name.clone(), Zeroizing::new(secret.value.to_vec())));
        }
        Self { stream: Stream::new(patterns), used: vec![false; secrets.len()], secrets }
    }

    /// Whether every body stays as it is. If not, its length can change.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.stream.is_noop()
    }

    /// Takes a part of the body and appends what is certain of the new one.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let Self { stream, secrets, used } = self;
        stream.push(input, |piece| write(piece, secrets, used, out));
    }

    /// Appends what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let Self { stream, secrets, used } = self;
        stream.finish(|piece| write(piece, secrets, used, out));
    }

    /// The secrets that were written so far.
    pub fn used(&self) -> impl Iterator<Item = &SecretName> {
        self.secrets.iter().zip(&self.used).filter(|(_, used)| **used).map(|((name, _), _)| name)
    }
}

impl std::fmt::Debug for BodyReplacer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.secrets.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

fn write(
    piece: Piece<'_>,
    secrets: &[(SecretName, Zeroizing<Vec<u8>>)],
    used: &mut [bool],
    out: &mut Vec<u8>,
) {
    match piece {
        Piece::Text(text) => out.extend_from_slice(text),
        Piece::Hit(tag, _) => {
            used[tag] = true;
            out.extend_from_slice(&secrets[tag].1);
        }
    }
}
