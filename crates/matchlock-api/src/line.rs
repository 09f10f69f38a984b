//! Lines out of a byte stream: one message is one line.

use std::mem;

/// The longest line in bytes, without its end. `write_file` sends Base64, so a file of 48 MiB fits.
pub const MAX_LINE: usize = 64 << 20;

/// Of a line that is too long, the parts that are kept to say whose it was.
const KEPT_HEAD: usize = 1024;
const KEPT_TAIL: usize = 256;

/// Buffers above this are given back when they are empty.
const IDLE_CAPACITY: usize = 1 << 20;

/// What comes out of [`LineDecoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its end. It is not blank.
    Whole(&'a [u8]),
    /// A line of more than the bound. All of it was skipped but these parts.
    TooLong {
        /// How it began.
        head: &'a [u8],
        /// How it ended.
        tail: &'a [u8],
    },
}

/// Splits a byte stream into lines, however it arrives.
///
/// A line ends with LF or CR LF. Blank lines are skipped. A line that is too long is told once, when its
/// end has come, and does not harm those after it; no more than the bound is held meanwhile.
#[derive(Debug)]
pub struct LineDecoder {
    max: usize,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here there is no LF after `start`.
    searched: usize,
    skipping: Option<Skipped>,
    /// Parts of the line that was told last as too long.
    told: Skipped,
}

#[derive(Debug, Default)]
struct Skipped {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Default for LineDecoder {
    fn default() -> Self {
        Self::new(MAX_LINE)
    }
}

impl LineDecoder {
    /// With another bound than [`MAX_LINE`], in bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        let told = Skipped::default();
        Self { max, buffer: Vec::new(), start: 0, searched: 0, skipping: None, told }
    }

    /// Adds bytes as they were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            if self.start == self.buffer.len() && self.buffer.capacity() > IDLE_CAPACITY {
                self.buffer = Vec::new();
            }
            self.buffer.drain(..self.start.min(self.buffer.len()));
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, or `None` until more bytes are pushed.
    #[expect(clippy::should_implement_trait, reason = "no iterator: more can follow `None`")]
    pub fn next(&mut self) -> Option<Line<'_>> {
        loop {
            match memchr::memchr(b'\n', &self.buffer[self.searched..]) {
                Some(at) => {
                    let range = self.start..self.searched + at;
                    self.start = range.end + 1;
                    self.searched = self.start;
                    if self.is_told(range.clone()) {
                        return Some(self.line(range));
                    }
                }
                None => {
                    self.searched = self.buffer.len();
                    // A CR may still turn out to be a part of the end.
                    if self.buffer.len() - self.start > self.max.saturating_add(1) {
                        self.skip(self.buffer.len());
                    }
                    return None;
                }
            }
        }
    }

    /// The last line, if the stream ended without an LF.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        let range = self.start..self.buffer.len();
        self.start = range.end;
        self.searched = range.end;
        (range.start < range.end || self.skipping.is_some()).then_some(())?;
        self.is_told(range.clone()).then(|| self.line(range))
    }

    /// How many bytes are held of a line that is not whole.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether there is a line to tell of; not if it is blank.
    fn is_told(&mut self, range: std::ops::Range<usize>) -> bool {
        if self.skipping.is_some() || trim_end(&self.buffer[range.clone()]).len() > self.max {
            let next = mem::replace(&mut self.start, range.start);
            self.skip(range.end);
            self.start = next;
            self.told = self.skipping.take().unwrap_or_default();
            return true;
        }
        self.told = Skipped::default();
        !self.buffer[range].trim_ascii().is_empty()
    }

    fn line(&self, range: std::ops::Range<usize>) -> Line<'_> {
        if self.told.head.is_empty() {
            Line::Whole(trim_end(&self.buffer[range]))
        } else {
            Line::TooLong { head: &self.told.head, tail: trim_end(&self.told.tail) }
        }
    }

    /// Forgets the line's bytes from `start` to `end` but for its head and its tail.
    fn skip(&mut self, end: usize) {
        let bytes = &self.buffer[self.start..end];
        let skipped = self.skipping.get_or_insert_with(|| {
            let head = bytes[..bytes.len().min(KEPT_HEAD)].to_vec();
            Skipped { head, tail: Vec::new() }
        });
        skipped.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT_TAIL)..]);
        let excess = skipped.tail.len().saturating_sub(KEPT_TAIL);
        skipped.tail.drain(..excess);
        self.start = end;
    }
}

/// Without the CR of a CR LF.
fn trim_end(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Split = Result<Vec<u8>, (Vec<u8>, Vec<u8>)>;

    /// Lines, and heads with tails of those that were too long.
    fn split(max: usize, pieces: &[&[u8]]) -> Vec<Split> {
        let own = |line: Line<'_>| match line {
            Line::Whole(line) => Ok(line.to_vec()),
            Line::TooLong { head, tail } => Err((head.to_vec(), tail.to_vec())),
        };
        let mut decoder = LineDecoder::new(max);
        let mut lines = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(line) = decoder.next() {
                lines.push(own(line));
            }
            assert!(decoder.pending() <= max + 1, "more than the bound is held");
        }
        lines.extend(decoder.finish().map(own));
        lines
    }

    #[test]
    fn ends_are_lf_or_cr_lf_and_blank_lines_are_skipped() {
        let lines = split(100, &[b"\n{1}\r\n\r\n  \t\n{2}\n\n{3}"]);
        assert_eq!(lines, [Ok(b"{1}".to_vec()), Ok(b"{2}".to_vec()), Ok(b"{3}".to_vec())]);
    }

    #[test]
    fn a_line_of_the_bound_is_whole_and_a_longer_one_is_told_without_harm_to_others() {
        let lines = split(4, &[b"1234\r\n12345\r", b"\n1234\n"]);
        let long = Err((b"12345\r".to_vec(), b"12345".to_vec()));
        assert_eq!(lines, [Ok(b"1234".to_vec()), long, Ok(b"1234".to_vec())]);
    }

    #[test]
    fn of_a_long_line_only_its_ends_are_held() {
        let piece = [b'x'; 1000];
        let mut pieces = vec![b"begin".as_slice()];
        pieces.extend(std::iter::repeat_n(piece.as_slice(), 50));
        pieces.push(b"end");
        let lines = split(2000, &pieces);
        let Some(Err((head, tail))) = lines.first() else { panic!("{lines:?}") };
        assert!(head.starts_with(b"begin") && head.len() <= KEPT_HEAD);
        assert!(tail.ends_with(b"end") && tail.len() <= KEPT_TAIL);
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut decoder = LineDecoder::default();
        let mut line = vec![b'x'; 2 * IDLE_CAPACITY];
        line.push(b'\n');
        decoder.push(&line);
        assert!(matches!(decoder.next(), Some(Line::Whole(_))));
        assert_eq!(decoder.next(), None);
        decoder.push(b"{");
        assert!(decoder.buffer.capacity() < IDLE_CAPACITY);
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_makes_no_difference(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), Just(b' '), any::<u8>()], 0..300),
            size in 1usize..40, max in 1usize..30,
        ) {
            let whole = split(max, &[&bytes]);
            let pieces: Vec<_> = bytes.chunks(size).collect();
            // The kept parts may overlap in another way; which lines there are is the same.
            let lines = |of: Vec<Split>| of.into_iter().map(Result::ok).collect::<Vec<_>>();
            prop_assert_eq!(lines(whole), lines(split(max, &pieces)));
        }
    }
}
