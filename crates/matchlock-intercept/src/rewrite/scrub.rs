//! Secrets out of responses.
//!
//! What is found is what another program can easily make of a value; see [`forms::disguised`]. What
//! a server computes from a value for the guest's sake, a byte at a time or with a key, is not.

use bytes::Bytes;
use matchlock_policy::Bound;
use zeroize::Zeroizing;

use super::coding::{Decoder, MAX_PULL, Progress, Undecodable};
use super::forms;
use super::pattern::Pattern;
use super::stream::{Matcher, Piece, Stream};
use super::wide::Width;
use crate::h1::{Reason, ResponseHead};
use crate::headers::{HeaderValue, Headers, trim};

/// Replaces the values of secrets by their placeholders in the body of a response.
pub struct Scrubber {
    decoder: Option<Decoder>,
    stream: Stream,
    placeholders: Vec<Bytes>,
}

impl Scrubber {
    /// For a body with this `Content-Encoding`; `None` if no secret of the host is to be scrubbed.
    ///
    /// The length of the body changes, and what comes out has no content coding any more.
    ///
    /// # Errors
    ///
    /// If nobody can say what is in the body. It must not be passed on then.
    pub fn new(
        bound: &Bound<'_>,
        content_encoding: Option<&[u8]>,
    ) -> Result<Option<Self>, Undecodable> {
        let (patterns, placeholders) = scrubbed(bound);
        if patterns.is_empty() {
            return Ok(None);
        }
        let decoder = Decoder::new(content_encoding)?;
        Ok(Some(Self { decoder, stream: Stream::new(patterns).wide(), placeholders }))
    }

    /// Takes a part of the body and appends what is certain of the new one. On [`Progress::More`],
    /// there is more to append: push nothing to get it.
    ///
    /// # Errors
    ///
    /// If the body is not of its coding. Nothing more of it must be passed on then.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, Undecodable> {
        let Self { decoder, stream, placeholders } = self;
        let Some(decoder) = decoder else {
            stream.push(input, |piece| write(piece, placeholders, out));
            return Ok(Progress::Drained);
        };
        decoder.push(input);
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_PULL));
        let progress = decoder.pull(&mut text);
        stream.push(&text, |piece| write(piece, placeholders, out));
        progress
    }

    /// Says that there is no more of the body and appends what was held back. On
    /// [`Progress::More`], call it again.
    ///
    /// # Errors
    ///
    /// If the body is not of its coding, or not whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Progress, Undecodable> {
        if let Some(decoder) = &mut self.decoder {
            decoder.finish();
            if self.push(b"", out)? == Progress::More {
                return Ok(Progress::More);
            }
        }
        let Self { stream, placeholders, .. } = self;
        stream.finish(|piece| write(piece, placeholders, out));
        Ok(Progress::Drained)
    }
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubber").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

/// Replaces values by placeholders in a status line and its fields.
pub fn scrub_head(head: &mut ResponseHead, bound: &Bound<'_>) {
    let Some(heads) = HeadScrubber::new(bound) else { return };
    if let Some(reason) = heads.replace(head.reason.as_bytes()) {
        head.reason = Reason::new(Bytes::copy_from_slice(&reason)).unwrap_or_default();
    }
    heads.headers(&mut head.headers);
}

/// Replaces values by placeholders in fields, of a head or of trailers. A field whose name shows a
/// value goes.
pub fn scrub_headers(headers: &mut Headers, bound: &Bound<'_>) {
    if let Some(heads) = HeadScrubber::new(bound) {
        heads.headers(headers);
    }
}

struct HeadScrubber {
    matcher: Matcher,
    /// For names, which HTTP/2 has in lower case.
    lower_case: Matcher,
    placeholders: Vec<Bytes>,
}

impl HeadScrubber {
    fn new(bound: &Bound<'_>) -> Option<Self> {
        let (patterns, placeholders) = scrubbed(bound);
        let lower = |(tag, secret): (usize, matchlock_policy::Revealed<'_>)| {
            let value = Zeroizing::new(secret.value.to_ascii_lowercase());
            forms::disguised(&value, tag)
        };
        let lower_case = Matcher::new(bound.scrubbed().enumerate().flat_map(lower).collect());
        let matcher = Matcher::new(patterns);
        (!matcher.is_empty()).then_some(Self { matcher, lower_case, placeholders })
    }

    fn headers(&self, headers: &mut Headers) {
        headers.retain(|name, _| {
            let lower = name.as_bytes().to_ascii_lowercase();
            self.matcher.first(name.as_bytes()).is_none() && self.lower_case.first(&lower).is_none()
        });
        for (_, value) in headers.iter_mut() {
            let Some(replaced) = self.replace(value.as_bytes()) else { continue };
            let new = HeaderValue::new(Bytes::copy_from_slice(trim(&replaced)));
            *value = new.unwrap_or_else(|_| HeaderValue::from_static(""));
        }
    }

    fn replace(&self, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.matcher.replace(bytes, |tag| &self.placeholders[tag], |_| {})
    }
}

fn scrubbed(bound: &Bound<'_>) -> (Vec<Pattern>, Vec<Bytes>) {
    let (mut patterns, mut placeholders) = (Vec::new(), Vec::new());
    for secret in bound.scrubbed() {
        patterns.extend(forms::disguised(secret.value, placeholders.len()));
        placeholders.push(Bytes::copy_from_slice(secret.placeholder.as_str().as_bytes()));
    }
    (patterns, placeholders)
}

fn write(piece: Piece<'_>, placeholders: &[Bytes], out: &mut Vec<u8>) {
    match piece {
        Piece::Text(text) => out.extend_from_slice(text),
        Piece::Hit(tag, Width::Bytes) => out.extend_from_slice(&placeholders[tag]),
        Piece::Hit(tag, width) => out.extend_from_slice(&width.encode(&placeholders[tag])),
    }
}

#[cfg(test)]
mod tests;
