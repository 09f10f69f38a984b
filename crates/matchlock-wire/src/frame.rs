//! Frames.

use crate::MAX_DATA;

/// Type, and length of the payload as a big-endian `u32`.
pub(crate) const HEADER: usize = 5;

/// Bytes that are not a frame of this protocol. The connection is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The type byte is none of this direction.
    #[error("unknown frame type {0:#04x}")]
    UnknownType(u8),
    /// The length field is beyond the bound of its type.
    #[error("frame of type {kind:#04x} is {len} bytes long, at most {max} are allowed")]
    TooLong {
        /// Type byte.
        kind: u8,
        /// Length as sent.
        len: usize,
        /// Bound for this type.
        max: usize,
    },
    /// The payload does not decode as its type, or has bytes left over.
    #[error("malformed payload of a frame of type {0:#04x}")]
    Malformed(u8),
}

/// A message that travels in one direction of a connection.
pub trait WireMessage: Sized {
    /// Appends the message as one frame to `out`.
    ///
    /// A payload beyond [`WireMessage::max_payload`] is refused by the receiver, so the sender must split
    /// or bound it.
    fn encode(&self, out: &mut Vec<u8>);

    /// The longest payload that a frame of this type may have.
    ///
    /// # Errors
    /// [`WireError::UnknownType`] for a type that this direction does not have.
    fn max_payload(kind: u8) -> Result<usize, WireError>;

    /// Decodes one payload.
    ///
    /// # Errors
    /// [`WireError`] when the payload is not one of this type.
    fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError>;
}

/// Splits a byte stream into messages, however it arrives.
///
/// After an error the decoder returns the same error for ever: a peer that broke the framing once
/// gets no second reading of its bytes.
#[derive(Debug)]
pub struct Decoder<M> {
    buffer: Vec<u8>,
    start: usize,
    failed: Option<WireError>,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { buffer: Vec::new(), start: 0, failed: None, message: std::marker::PhantomData }
    }
}

impl<M: WireMessage> Decoder<M> {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start >= MAX_DATA {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are not frames of this direction.
    #[expect(clippy::should_implement_trait, reason = "no iterator: more can follow `None`")]
    pub fn next(&mut self) -> Result<Option<M>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.try_next().inspect_err(|error| {
            self.failed = Some(error.clone());
            self.buffer = Vec::new();
            self.start = 0;
        })
    }

    /// Whether bytes of an unfinished frame are held: an end of stream now is a truncation.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.start < self.buffer.len()
    }

    fn try_next(&mut self) -> Result<Option<M>, WireError> {
        let pending = &self.buffer[self.start..];
        let Some((&[kind, a, b, c, d], rest)) = pending.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let max = M::max_payload(kind)?;
        if len > max {
            return Err(WireError::TooLong { kind, len, max });
        }
        let Some(payload) = rest.get(..len) else {
            return Ok(None);
        };
        let message = M::decode(kind, payload)?;
        self.start += HEADER + len;
        Ok(Some(message))
    }
}

/// Appends a frame to `out`.
pub fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    // A longer payload than u32 is beyond every bound: the receiver refuses the saturated length.
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(payload);
}
