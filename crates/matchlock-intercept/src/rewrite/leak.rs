//! Placeholders where they must not be.

use matchlock_policy::{Bound, SecretName};
use zeroize::Zeroizing;

use super::basic::Basic;
use super::coding::{Decoder, Progress};
use super::forms;
use super::pattern::Pattern;
use super::stream::{Matcher, Piece, Stream};
use crate::h1::RequestHead;
use crate::headers::Headers;

/// How far into the text of an encoded body is looked, in bytes: a few bytes can expand without
/// end.
const MAX_TEXT: usize = 16 << 20;

/// A request shows a placeholder to a host that the secret is not bound to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret placeholder sent to unauthorized host")]
pub struct Leak {
    /// Whose placeholder it is.
    pub secret: SecretName,
}

/// Looks for foreign placeholders in the body of a request, whichever way they are written.
///
/// It does not hold the body back: of a placeholder that lies across two pushes, the first half has
/// gone when the second one is refused.
pub struct LeakScanner {
    secrets: Vec<SecretName>,
    raw: Stream,
    decoded: Option<(Decoder, Stream)>,
    /// How much of its text was looked at.
    text: usize,
}

impl LeakScanner {
    /// Looks for the placeholders of the secrets that the request may not use.
    #[must_use]
    pub fn new(bound: &Bound<'_>) -> Self {
        Self::encoded(bound, None)
    }

    /// Also looks into a body with this `Content-Encoding`, as far as it can be decoded and for 16
    /// MiB of text. It is no error if it cannot: a placeholder is worth nothing where it is not
    /// replaced. How much is seen of a body that breaks its coding depends on how it is split.
    #[must_use]
    pub fn encoded(bound: &Bound<'_>, content_encoding: Option<&[u8]>) -> Self {
        let (secrets, patterns) = foreign(bound);
        let raw = Stream::new(patterns);
        let decoder =
            if raw.is_noop() { None } else { Decoder::new(content_encoding).ok().flatten() };
        let decoded = decoder.map(|decoder| (decoder, Stream::new(foreign(bound).1)));
        Self { secrets, raw, decoded, text: 0 }
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.raw.is_noop()
    }

    /// Looks at the next part of the body.
    ///
    /// # Errors
    ///
    /// When a placeholder is complete. The request is to be broken off.
    pub fn push(&mut self, input: &[u8]) -> Result<(), Leak> {
        if self.is_noop() {
            return Ok(());
        }
        let mut found = None;
        self.raw.push(input, |piece| note(piece, &mut found));
        if let Some((decoder, _)) = &mut self.decoded {
            decoder.push(input);
            self.decode(&mut found);
        }
        self.result(found)
    }

    /// Says that there is no more of the body.
    ///
    /// # Errors
    ///
    /// If a placeholder was at its very end.
    pub fn finish(&mut self) -> Result<(), Leak> {
        let mut found = None;
        self.raw.finish(|piece| note(piece, &mut found));
        if let Some((decoder, _)) = &mut self.decoded {
            decoder.finish();
            self.decode(&mut found);
        }
        if let Some((_, stream)) = &mut self.decoded {
            stream.finish(|piece| note(piece, &mut found));
        }
        self.result(found)
    }

    fn decode(&mut self, found: &mut Option<usize>) {
        let Some((decoder, stream)) = &mut self.decoded else { return };
        let mut text = Zeroizing::new(Vec::new());
        loop {
            text.clear();
            let progress = decoder.pull(&mut text);
            text.truncate(MAX_TEXT - self.text);
            self.text += text.len();
            stream.push(&text, |piece| note(piece, found));
            match progress {
                Ok(Progress::More) if self.text < MAX_TEXT => {}
                Ok(Progress::Drained) => return,
                // Too much, or nothing that a server could read.
                Ok(Progress::More) | Err(_) => {
                    self.decoded = None;
                    return;
                }
            }
        }
    }

    fn result(&self, found: Option<usize>) -> Result<(), Leak> {
        found.map_or(Ok(()), |tag| Err(Leak { secret: self.secrets[tag].clone() }))
    }
}

impl std::fmt::Debug for LeakScanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeakScanner").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

/// Looks for foreign placeholders in everything that a head consists of.
pub(super) fn check_head(head: &RequestHead, bound: &Bound<'_>) -> Result<(), Leak> {
    let (secrets, patterns) = foreign(bound);
    if secrets.is_empty() {
        return Ok(());
    }
    let matcher = Matcher::new(patterns);
    let check = checker(&matcher, &secrets);
    check(head.method.as_str().as_bytes())?;
    if let Some(path_and_query) = head.target.path_and_query() {
        check(path_and_query.as_bytes())?;
    }
    check_fields(&head.headers, &check)
}

/// The same for trailers.
pub(super) fn check_trailers(trailers: &Headers, bound: &Bound<'_>) -> Result<(), Leak> {
    let (secrets, patterns) = foreign(bound);
    let matcher = Matcher::new(patterns);
    check_fields(trailers, &checker(&matcher, &secrets))
}

fn checker(matcher: &Matcher, secrets: &[SecretName]) -> impl Fn(&[u8]) -> Result<(), Leak> {
    |bytes| match matcher.first(bytes) {
        Some(tag) => Err(Leak { secret: secrets[tag].clone() }),
        None => Ok(()),
    }
}

fn check_fields(headers: &Headers, check: &impl Fn(&[u8]) -> Result<(), Leak>) -> Result<(), Leak> {
    for (name, value) in headers.iter() {
        check(name.as_bytes())?;
        check(value.as_bytes())?;
        if let Some(basic) = Basic::parse(value.as_bytes()) {
            check(&basic.credentials)?;
        }
    }
    Ok(())
}

fn foreign(bound: &Bound<'_>) -> (Vec<SecretName>, Vec<Pattern>) {
    let (mut secrets, mut patterns) = (Vec::new(), Vec::new());
    for (name, placeholder) in bound.foreign() {
        patterns.extend(forms::disguised(placeholder.as_str().as_bytes(), secrets.len()));
        secrets.push(name.clone());
    }
    (secrets, patterns)
}

fn note(piece: Piece<'_>, found: &mut Option<usize>) {
    if let Piece::Hit(tag, _) = piece {
        found.get_or_insert(tag);
    }
}
