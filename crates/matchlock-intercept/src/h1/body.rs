//! Bodies of either direction.

use bytes::{Bytes, BytesMut};

use super::chunked::Chunked;
use super::{Framing, H1Error};
use crate::headers::Headers;

/// A body that is being read.
#[derive(Debug)]
pub(super) enum Body {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// What a body is made of.
pub(super) enum Part {
    /// Never empty.
    Data(Bytes),
    /// The end, and the trailers before it.
    End(Headers),
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Part>, H1Error> {
        match self {
            Self::Length(0) => Ok(Some(Part::End(Headers::new()))),
            Self::Length(left) => Ok(take(left, input).map(Part::Data)),
            Self::Chunked(chunked) => chunked.decode(input),
            Self::UntilClose => Ok(take(&mut { u64::MAX }, input).map(Part::Data)),
        }
    }
}

/// As many of the bytes that are left as are there, without a copy.
pub(super) fn take(left: &mut u64, input: &mut BytesMut) -> Option<Bytes> {
    if input.is_empty() {
        return None;
    }
    let length = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= length as u64;
    Some(input.split_to(length).freeze())
}
