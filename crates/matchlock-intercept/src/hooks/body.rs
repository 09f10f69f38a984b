//! Changes of bodies.

use zeroize::Zeroizing;

use super::rule::OnError;
use super::wire::WireReplacement;
use crate::rewrite::{Decoder, Progress, Undecodable};

/// The largest body that is edited as a whole, before and after, in bytes.
pub const MAX_BODY: usize = 16 << 20;

/// A body that is not edited: [`BodyEdit::on_error`] decides what becomes of it.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Too large, before or after.
    #[error("the body is larger than {MAX_BODY} bytes")]
    TooLarge,
    /// A line of an event stream.
    #[error("a line of the event stream is longer than {} bytes", super::MAX_LINE)]
    LineTooLong,
    /// Its text cannot be seen.
    #[error("the body cannot be decoded")]
    Undecodable(#[from] Undecodable),
}

/// Literal bytes, and what takes their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    find: Vec<u8>,
    replace: Vec<u8>,
}

impl Replacement {
    /// Those that find something.
    pub(super) fn list(wire: Vec<WireReplacement>) -> Vec<Self> {
        let new = |WireReplacement { find, replace }| Self {
            find: find.into_bytes(),
            replace: replace.into_bytes(),
        };
        wire.into_iter().map(new).filter(|replacement| !replacement.find.is_empty()).collect()
    }

    /// `None` if it would become larger than the bound.
    fn apply(&self, text: &[u8], bound: usize) -> Option<Option<Vec<u8>>> {
        let mut found = memchr::memmem::find_iter(text, &self.find).peekable();
        if found.peek().is_none() {
            return Some(None);
        }
        let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
        for at in found {
            out.extend_from_slice(&text[from..at]);
            out.extend_from_slice(&self.replace);
            from = at + self.find.len();
            if out.len() > bound {
                return None;
            }
        }
        out.extend_from_slice(&text[from..]);
        (out.len() <= bound).then_some(Some(out))
    }
}

/// What the rules together do to a body: another one instead of it, if one of them says so, and
/// then replacements, each of which sees what those before it made.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BodyEdit {
    set_body: Option<Vec<u8>>,
    replacements: Vec<Replacement>,
    on_error: OnError,
}

impl BodyEdit {
    /// Adds what one more rule does. The last body wins.
    pub(super) fn add(
        &mut self,
        replacements: &[Replacement],
        set_body: Option<Vec<u8>>,
        on_error: OnError,
    ) {
        if replacements.is_empty() && set_body.is_none() {
            return;
        }
        self.replacements.extend_from_slice(replacements);
        self.set_body = set_body.or_else(|| self.set_body.take());
        self.on_error = self.on_error.max(on_error);
    }

    /// Whether the body stays as it is.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.set_body.is_none() && self.replacements.is_empty()
    }

    /// Whether what the server sends does not matter.
    #[must_use]
    pub fn replaces_all(&self) -> bool {
        self.set_body.is_some()
    }

    /// What to do with a body that cannot be edited: `Block` if any of the rules says so.
    #[must_use]
    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// Whether a body of this length can be edited as a whole, as far as that can be told.
    #[must_use]
    pub fn fits(&self, length: u64) -> bool {
        self.replaces_all() || length <= MAX_BODY as u64
    }

    pub(super) fn replace<'a>(
        &self,
        text: std::borrow::Cow<'a, [u8]>,
        bound: usize,
    ) -> Option<std::borrow::Cow<'a, [u8]>> {
        self.replacements.iter().try_fold(text, |text, replacement| {
            let new = replacement.apply(&text, bound)?;
            Some(new.map_or(text, std::borrow::Cow::Owned))
        })
    }
}

impl std::fmt::Debug for BodyEdit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyEdit")
            .field("set_body", &self.set_body.as_ref().map(Vec::len))
            .field("replacements", &self.replacements.len())
            .field("on_error", &self.on_error)
            .finish()
    }
}

/// Collects a body to edit it as a whole.
pub struct BodyEditor {
    edit: BodyEdit,
    decoder: Option<Decoder>,
    received: Zeroizing<Vec<u8>>,
}

impl BodyEditor {
    /// For a body with this `Content-Encoding`.
    ///
    /// # Errors
    ///
    /// If the body has to be looked into and cannot be.
    pub fn new(edit: BodyEdit, content_encoding: Option<&[u8]>) -> Result<Self, EditError> {
        let decoder = if edit.replaces_all() { None } else { Decoder::new(content_encoding)? };
        Ok(Self { edit, decoder, received: Zeroizing::default() })
    }

    /// Takes a part of the body.
    ///
    /// # Errors
    ///
    /// If it does not fit any more; the part is not taken then.
    pub fn push(&mut self, input: &[u8]) -> Result<(), EditError> {
        if self.edit.replaces_all() {
            return Ok(());
        }
        if self.received.len() + input.len() > MAX_BODY {
            return Err(EditError::TooLarge);
        }
        crate::rewrite::extend(&mut self.received, input);
        Ok(())
    }

    /// The new body, which has no content coding. [`BodyEditor::received`] stays after an error.
    ///
    /// # Errors
    ///
    /// If the body cannot be decoded, or becomes too large.
    pub fn finish(&mut self) -> Result<Vec<u8>, EditError> {
        let text = match self.edit.set_body.take() {
            Some(body) => body,
            None => self.decoded()?,
        };
        let new = self.edit.replace(text.into(), MAX_BODY).ok_or(EditError::TooLarge)?;
        Ok(new.into_owned())
    }

    /// What was taken, as it came, to pass it on when it cannot be edited.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    fn decoded(&mut self) -> Result<Vec<u8>, EditError> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(self.received.to_vec());
        };
        decoder.push(&self.received);
        decoder.finish();
        let mut text = Vec::new();
        while decoder.pull(&mut text)? == Progress::More {
            if text.len() > MAX_BODY {
                return Err(EditError::TooLarge);
            }
        }
        Ok(text)
    }
}

impl std::fmt::Debug for BodyEditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyEditor")
            .field("edit", &self.edit)
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}
