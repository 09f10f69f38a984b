//! A byte stream to frames: each has its length before it, 4 bytes, big-endian.

use std::ops::Range;

/// Bytes of the length in front of a frame.
pub(super) const PREFIX: usize = 4;
/// A larger length means that we and the monitor have lost each other.
const MAX_FRAME: usize = 65535 + 18;
/// How much is asked of the socket at once.
const READ: usize = 256 * 1024;

/// The length prefix is larger than any frame can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame of {0} bytes: the stream of frames is out of step")]
pub(crate) struct OutOfStep(pub usize);

/// Finds the frames in a stream, without copying those that arrived whole.
#[derive(Debug)]
pub(crate) struct Deframer {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Deframer {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; READ + PREFIX + MAX_FRAME], start: 0, end: 0 }
    }

    /// Where the next bytes go; never empty once [`Self::next`] gave `None`.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// The first `count` bytes of the space are filled.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// A length that no frame has.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, OutOfStep> {
        Ok(self.advance()?.map(|range| &self.buffer[range]))
    }

    fn advance(&mut self) -> Result<Option<Range<usize>>, OutOfStep> {
        let Some(prefix) = self.buffer[self.start..self.end].first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(OutOfStep(length));
        }
        let begin = self.start + PREFIX;
        if self.end - begin < length {
            return Ok(None);
        }
        self.start = begin + length;
        Ok(Some(begin..begin + length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(deframer: &mut Deframer, mut bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = deframer.space();
            let count = bytes.len().min(space.len()).min(step);
            space[..count].copy_from_slice(&bytes[..count]);
            deframer.filled(count);
            bytes = &bytes[count..];
            while let Some(frame) = deframer.next().expect("in step") {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    #[test]
    fn frames_do_not_depend_on_the_pieces() {
        let sizes = [0, 1, 60, 65534, 65553, 9, 65553, 65553, 65553, 65553, 300];
        let frames: Vec<Vec<u8>> = sizes.iter().map(|&size| vec![size as u8; size]).collect();
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend((frame.len() as u32).to_be_bytes());
            bytes.extend(frame);
        }
        for step in [1, 3, 4097, usize::MAX] {
            assert_eq!(feed(&mut Deframer::new(), &bytes, step), frames);
        }
    }

    #[test]
    fn an_absurd_length_is_an_error() {
        let mut deframer = Deframer::new();
        deframer.space()[..4].copy_from_slice(&65554_u32.to_be_bytes());
        deframer.filled(4);
        assert_eq!(deframer.next(), Err(OutOfStep(65554)));
    }
}
