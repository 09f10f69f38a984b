//! Event streams, edited as they come (HTML, section 9.2).

use zeroize::Zeroizing;

use super::body::{BodyEdit, EditError};
use crate::headers::{HeaderValue, Headers, trim};
use crate::rewrite::{Decoder, MAX_PULL, Progress, extend};

/// The longest line that is edited, before and after, in bytes.
pub const MAX_LINE: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const FIELD: &[u8] = b"data:";

/// Whether the body is an event stream, which must not be waited for.
#[must_use]
pub fn is_event_stream(headers: &Headers) -> bool {
    let kind = headers.get("content-type").map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    trim(kind).eq_ignore_ascii_case(b"text/event-stream")
}

/// Replaces in the payload of each `data:` line, line by line. An edit that [replaces the whole
/// body](BodyEdit::replaces_all) is not for this machine.
pub struct SseEditor {
    edit: BodyEdit,
    decoder: Option<Decoder>,
    /// A line without its end.
    line: Zeroizing<Vec<u8>>,
    first: bool,
}

impl SseEditor {
    /// For a stream with this `Content-Encoding`; what comes out has none. The length changes.
    ///
    /// # Errors
    ///
    /// If nobody can say what is in the stream.
    pub fn new(edit: BodyEdit, content_encoding: Option<&[u8]>) -> Result<Self, EditError> {
        let decoder = Decoder::new(content_encoding)?;
        Ok(Self { edit, decoder, line: Zeroizing::default(), first: true })
    }

    /// Takes a part of the stream and appends every line that is whole. On [`Progress::More`],
    /// there is more to append: push nothing to get it.
    ///
    /// # Errors
    ///
    /// If the stream is not of its coding, or a line is too long. Lines before it have been
    /// appended.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, EditError> {
        let Some(decoder) = &mut self.decoder else {
            self.lines(input, out)?;
            return Ok(Progress::Drained);
        };
        decoder.push(input);
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_PULL));
        let progress = decoder.pull(&mut text);
        self.lines(&text, out)?;
        Ok(progress?)
    }

    /// Says that there is no more of the stream and appends the last line, if it has no end. On
    /// [`Progress::More`], call it again.
    ///
    /// # Errors
    ///
    /// As of [`SseEditor::push`], or if the stream is not whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Progress, EditError> {
        if let Some(decoder) = &mut self.decoder {
            decoder.finish();
            if self.push(b"", out)? == Progress::More {
                return Ok(Progress::More);
            }
        }
        self.end_line(out)?;
        Ok(Progress::Drained)
    }

    /// A line ends with LF, CR, or both: the second of the two then ends a line with nothing in it.
    fn lines(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), EditError> {
        while let Some(end) = memchr::memchr2(b'\r', b'\n', input) {
            self.extend_line(&input[..end])?;
            self.end_line(out)?;
            out.push(input[end]);
            input = &input[end + 1..];
        }
        self.extend_line(input)
    }

    fn extend_line(&mut self, input: &[u8]) -> Result<(), EditError> {
        if self.line.len() + input.len() > MAX_LINE {
            return Err(EditError::LineTooLong);
        }
        extend(&mut self.line, input);
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<u8>) -> Result<(), EditError> {
        let mark = if std::mem::take(&mut self.first) && self.line.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let is_data = self.line[mark..].starts_with(FIELD);
        let (kept, payload) =
            self.line.split_at(if is_data { mark + FIELD.len() } else { self.line.len() });
        // One space after the colon is not of the payload.
        let space = usize::from(payload.starts_with(b" "));
        let new = self.edit.replace(payload[space..].into(), MAX_LINE);
        let new = new.ok_or(EditError::LineTooLong)?;
        out.extend_from_slice(kept);
        out.extend_from_slice(&payload[..space]);
        out.extend_from_slice(&new);
        self.line.fill(0);
        self.line.clear();
        Ok(())
    }
}

impl std::fmt::Debug for SseEditor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SseEditor").field("edit", &self.edit).finish_non_exhaustive()
    }
}
