//! Lines and field sections.

use bytes::{Bytes, BytesMut};

use super::{H1Error, MAX_FIELDS, MAX_HEAD};
use crate::headers::{HeaderName, HeaderValue, Headers, trim};

/// Takes lines off a buffer, within a bound for all of them.
#[derive(Debug)]
pub(super) struct Lines {
    /// Bytes of the buffer that are known to hold no line feed.
    scanned: usize,
    left: usize,
}

impl Lines {
    pub(super) fn within(bound: usize) -> Self {
        Self { scanned: 0, left: bound }
    }

    /// Whether a part of a line has been seen.
    pub(super) fn in_line(&self) -> bool {
        self.scanned > 0
    }

    /// A line without its CR LF, once all of it is there.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, H1Error> {
        let window = &input[..input.len().min(self.left)];
        let Some(at) = memchr::memchr(b'\n', &window[self.scanned..]) else {
            self.scanned = window.len();
            return if self.scanned == self.left { Err(H1Error::TooLong) } else { Ok(None) };
        };
        let end = self.scanned + at + 1;
        self.scanned = 0;
        self.left -= end;
        let line = input.split_to(end).freeze();
        let text = line.len().checked_sub(2).map(|end| line.slice(..end));
        text.filter(|text| line.ends_with(b"\r\n") && memchr::memchr(b'\r', text).is_none())
            .ok_or(H1Error::LineEnd)
            .map(Some)
    }
}

/// A start line and the fields after it.
#[derive(Debug)]
pub(super) struct HeadReader<S> {
    lines: Lines,
    start: Option<S>,
    fields: Fields,
    /// Whether an empty line may come first (RFC 9112, section 2.2).
    blank: bool,
}

impl<S> HeadReader<S> {
    pub(super) fn new(blank: bool) -> Self {
        Self { lines: Lines::within(MAX_HEAD), start: None, fields: Fields::default(), blank }
    }

    /// Whether a part of the head has been seen.
    pub(super) fn in_head(&self) -> bool {
        self.start.is_some() || self.lines.in_line()
    }

    /// What `parse` makes of the start line, and the fields, once all of them are there.
    pub(super) fn read(
        &mut self,
        input: &mut BytesMut,
        parse: impl Fn(&Bytes) -> Result<S, H1Error>,
    ) -> Result<Option<(S, Headers)>, H1Error> {
        while self.start.is_none() {
            let Some(line) = self.lines.next(input)? else { return Ok(None) };
            if line.is_empty() && std::mem::take(&mut self.blank) {
                continue;
            }
            self.start = Some(parse(&line)?);
        }
        let Some(headers) = self.fields.read(&mut self.lines, input)? else { return Ok(None) };
        Ok(self.start.take().map(|start| (start, headers)))
    }
}

/// Field lines up to the empty one.
#[derive(Debug, Default)]
pub(super) struct Fields(Headers);

impl Fields {
    pub(super) fn read(
        &mut self,
        lines: &mut Lines,
        input: &mut BytesMut,
    ) -> Result<Option<Headers>, H1Error> {
        while let Some(line) = lines.next(input)? {
            if line.is_empty() {
                return Ok(Some(std::mem::take(&mut self.0)));
            }
            if self.0.len() == MAX_FIELDS {
                return Err(H1Error::TooManyFields);
            }
            let (name, value) = field(&line)?;
            self.0.append(name, value);
        }
        Ok(None)
    }
}

fn field(line: &Bytes) -> Result<(HeaderName, HeaderValue), H1Error> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(H1Error::ObsoleteFold);
    }
    let colon = memchr::memchr(b':', line).ok_or(H1Error::NoColon)?;
    if matches!(line[..colon].last(), Some(b' ' | b'\t')) {
        return Err(H1Error::SpaceBeforeColon);
    }
    let name = HeaderName::new(line.slice(..colon)).map_err(H1Error::Field)?;
    let value = trim(&line[colon + 1..]);
    let value = HeaderValue::new(line.slice_ref(value)).map_err(H1Error::Field)?;
    Ok((name, value))
}
