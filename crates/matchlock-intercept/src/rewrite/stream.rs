//! Looking for patterns in a stream, with as little held back as the answer needs.

use zeroize::Zeroizing;

use super::pattern::{Pattern, Prefix};

/// Many patterns at once. The first place where one begins counts, and the longest one there.
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// The bytes with which any of them can begin.
    starts: [bool; 256],
}

/// What was found in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    /// A pattern with this tag is here.
    Hit { start: usize, end: usize, tag: usize },
    /// None begins before this place; from there on, what follows decides.
    Rest(usize),
}

/// What a stream consists of.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// Bytes in which nothing begins.
    Text(&'a [u8]),
    /// A pattern with this tag.
    Hit(usize),
}

impl Matcher {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        let mut starts = [false; 256];
        for byte in patterns.iter().flat_map(Pattern::starts) {
            starts[usize::from(byte)] = true;
        }
        Self { patterns, starts }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern is in the bytes, and which.
    pub(super) fn first(&self, bytes: &[u8]) -> Option<usize> {
        match self.find(bytes, 0, true) {
            Find::Hit { tag, .. } => Some(tag),
            Find::Rest(_) => None,
        }
    }

    /// The bytes with every pattern replaced; `None` if there is none.
    pub(super) fn replace<'a>(
        &self,
        bytes: &[u8],
        replacement: impl Fn(usize) -> &'a [u8],
        mut used: impl FnMut(usize),
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.first(bytes)?;
        let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() + 256));
        self.pieces(bytes, true, &mut |piece| match piece {
            Piece::Text(text) => extend(&mut out, text),
            Piece::Hit(tag) => {
                used(tag);
                extend(&mut out, replacement(tag));
            }
        });
        Some(out)
    }

    /// Hands over what is certain, and says from where on it is not. `last`: nothing follows.
    fn pieces(&self, bytes: &[u8], last: bool, emit: &mut impl FnMut(Piece<'_>)) -> usize {
        let mut from = 0;
        loop {
            let (start, hit) = match self.find(bytes, from, last) {
                Find::Hit { start, end, tag } => (start, Some((end, tag))),
                Find::Rest(start) => (start, None),
            };
            if start > from {
                emit(Piece::Text(&bytes[from..start]));
            }
            let Some((end, tag)) = hit else { return start };
            emit(Piece::Hit(tag));
            from = end;
        }
    }

    fn find(&self, bytes: &[u8], from: usize, last: bool) -> Find {
        let mut at = from;
        while let Some(skipped) =
            bytes[at..].iter().position(|&byte| self.starts[usize::from(byte)])
        {
            at += skipped;
            let mut best: Option<(usize, usize)> = None;
            for pattern in &self.patterns {
                match pattern.prefix(&bytes[at..]) {
                    Prefix::More if !last => return Find::Rest(at),
                    Prefix::Match(len) if best.is_none_or(|(longest, _)| len > longest) => {
                        best = Some((len, pattern.tag));
                    }
                    _ => {}
                }
            }
            if let Some((len, tag)) = best {
                return Find::Hit { start: at, end: at + len, tag };
            }
            at += 1;
        }
        Find::Rest(bytes.len())
    }
}

/// A stream through a matcher.
pub(super) struct Stream {
    matcher: Matcher,
    /// The beginning of what may be a pattern.
    held: Zeroizing<Vec<u8>>,
}

impl Stream {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        Self { matcher: Matcher::new(patterns), held: Zeroizing::default() }
    }

    pub(super) fn is_noop(&self) -> bool {
        self.matcher.is_empty()
    }

    pub(super) fn push(&mut self, input: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        if self.held.is_empty() {
            let rest = self.matcher.pieces(input, false, &mut emit);
            extend(&mut self.held, &input[rest..]);
        } else {
            extend(&mut self.held, input);
            let rest = self.matcher.pieces(&self.held, false, &mut emit);
            drop_front(&mut self.held, rest);
        }
    }

    pub(super) fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        self.matcher.pieces(&held, true, &mut emit);
    }
}

/// Appends without leaving a copy behind when the vector has to move.
pub(crate) fn extend(to: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    if to.capacity() - to.len() < bytes.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity((to.len() + bytes.len()) * 2));
        larger.extend_from_slice(to);
        *to = larger;
    }
    to.extend_from_slice(bytes);
}

/// Removes the first bytes. What they were does not stay behind the end of the vector.
fn drop_front(from: &mut Zeroizing<Vec<u8>>, count: usize) {
    let len = from.len();
    from.copy_within(count.., 0);
    from[len - count..].fill(0);
    from.truncate(len - count);
}

#[cfg(test)]
mod tests {
    use super::super::forms;
    use super::*;
    use proptest::prelude::*;

    fn run(needles: &[&str], chunks: &[&[u8]]) -> String {
        let patterns = needles.iter().enumerate();
        let patterns =
            patterns.flat_map(|(tag, needle)| forms::literal(needle.as_bytes(), tag)).collect();
        let mut stream = Stream::new(patterns);
        let mut out = Vec::new();
        let mut emit = |piece: Piece<'_>| match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Hit(tag) => out.extend_from_slice(format!("<{tag}>").as_bytes()),
        };
        for chunk in chunks {
            stream.push(chunk, &mut emit);
        }
        stream.finish(&mut emit);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn first_place_counts_and_the_longest_pattern_there() {
        for (needles, input, expected) in [
            (&["ab"][..], "xabab", "x<0><0>"),
            (&["ab", "abcd"], "abcabcd", "<0>c<1>"),
            (&["bc", "abcd"], "abcabcd", "a<0><1>"),
            (&["aab"], "aaaab", "aa<0>"),
            (&["abab"], "ababab", "<0>ab"),
            (&["abc"], "ab", "ab"),
            (&[], "ab", "ab"),
        ] {
            assert_eq!(run(needles, &[input.as_bytes()]), expected, "{needles:?} {input}");
            let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
            assert_eq!(run(needles, &bytes), expected, "{needles:?} {input} by bytes");
        }
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            needles in prop::collection::vec("[ab]{1,5}", 0..4),
            chunks in prop::collection::vec("[abc]{0,8}", 0..8),
        ) {
            let needles: Vec<&str> = needles.iter().map(String::as_str).collect();
            let whole = chunks.concat();
            let chunks: Vec<&[u8]> = chunks.iter().map(String::as_bytes).collect();
            prop_assert_eq!(run(&needles, &chunks), run(&needles, &[whole.as_bytes()]));
        }
    }
}
