//! Looking for patterns in a stream, with as little held back as the answer needs.

use zeroize::Zeroizing;

use super::pattern::{Pattern, Prefix};
use super::wide::{First, Width};

/// Many patterns at once. The first place where one begins counts, and the longest one there.
pub(super) struct Matcher {
    patterns: Vec<Pattern>,
    /// None if there are no patterns, as in most requests.
    starts: Option<Box<Starts>>,
    /// Characters beyond ASCII with which any of them can begin.
    wide_starts: Vec<char>,
    /// Other widths of characters that are looked for.
    widths: &'static [Width],
}

/// Where patterns can begin. It is large, and what holds a matcher is moved around.
struct Starts {
    /// For each byte, the patterns that can begin with it: bit `n` is pattern `n` modulo 64.
    patterns: [u64; 256],
    /// The bytes at which something can begin.
    candidates: [bool; 256],
}

/// What was found in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    /// A pattern with this tag is here.
    Hit { start: usize, end: usize, tag: usize, width: Width },
    /// None begins before this place; from there on, what follows decides.
    Rest(usize),
}

/// What a stream consists of.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// Bytes in which nothing begins.
    Text(&'a [u8]),
    /// A pattern with this tag, in characters of this width.
    Hit(usize, Width),
}

impl Matcher {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        let starts = (!patterns.is_empty()).then(|| Box::new(Starts::of(&patterns)));
        Self { patterns, starts, wide_starts: Vec::new(), widths: &[] }
    }

    /// Looks for UTF-16 and UTF-32 too.
    pub(super) fn wide(mut self) -> Self {
        let Some(starts) = &mut self.starts else { return self };
        self.widths = &Width::WIDE;
        self.wide_starts = self.patterns.iter().filter_map(Pattern::wide_start).collect();
        // Of characters with the high byte first, that is what is seen first.
        starts.candidates[0] = true;
        for start in &self.wide_starts {
            let [.., second, high, low] = u32::from(*start).to_be_bytes();
            for byte in [second, high, low] {
                starts.candidates[usize::from(byte)] = true;
            }
            let mut units = [0; 2];
            for byte in start.encode_utf16(&mut units)[0].to_be_bytes() {
                starts.candidates[usize::from(byte)] = true;
            }
        }
        self
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
            Piece::Hit(tag, _) => {
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
                Find::Hit { start, end, tag, width } => (start, Some((end, tag, width))),
                Find::Rest(start) => (start, None),
            };
            if start > from {
                emit(Piece::Text(&bytes[from..start]));
            }
            let Some((end, tag, width)) = hit else { return start };
            emit(Piece::Hit(tag, width));
            from = end;
        }
    }

    fn find(&self, bytes: &[u8], from: usize, last: bool) -> Find {
        let Some(starts) = self.starts.as_deref() else { return Find::Rest(bytes.len()) };
        let mut at = from;
        while let Some(skipped) =
            bytes[at..].iter().position(|&byte| starts.candidates[usize::from(byte)])
        {
            at += skipped;
            let rest = &bytes[at..];
            let mut best: Option<(usize, usize, Width)> = None;
            let narrow = [Width::Bytes];
            let widths = narrow.iter().chain(self.widths).copied();
            let ascii = self.wide_starts.is_empty();
            for width in widths.filter(|width| !ascii || width.is_plausible(rest)) {
                let starting = match width.first(rest) {
                    _ if width == Width::Bytes => starts.patterns[usize::from(rest[0])],
                    Some(First::Character(first, _)) => self.starting(starts, first),
                    Some(First::More) if !last => return Find::Rest(at),
                    _ => continue,
                };
                if starting == 0 {
                    continue;
                }
                for (number, pattern) in self.patterns.iter().enumerate() {
                    if starting & 1 << (number % 64) == 0 {
                        continue;
                    }
                    match width.prefix(pattern, rest, last) {
                        Prefix::More if !last => return Find::Rest(at),
                        Prefix::Match(len) if best.is_none_or(|(longest, ..)| len > longest) => {
                            best = Some((len, pattern.tag, width));
                        }
                        _ => {}
                    }
                }
            }
            if let Some((len, tag, width)) = best {
                return Find::Hit { start: at, end: at + len, tag, width };
            }
            at += 1;
        }
        Find::Rest(bytes.len())
    }

    /// The patterns that can begin with a character.
    fn starting(&self, starts: &Starts, first: char) -> u64 {
        match u8::try_from(first) {
            Ok(byte) if byte.is_ascii() => starts.patterns[usize::from(byte)],
            _ if self.wide_starts.contains(&first) => u64::MAX,
            _ => 0,
        }
    }
}

impl Starts {
    fn of(patterns: &[Pattern]) -> Self {
        let mut starts = [0; 256];
        for (at, pattern) in patterns.iter().enumerate() {
            for byte in pattern.starts() {
                starts[usize::from(byte)] |= 1 << (at % 64);
            }
        }
        Self { patterns: starts, candidates: starts.map(|patterns| patterns != 0) }
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

    /// Looks for UTF-16 and UTF-32 too.
    pub(super) fn wide(mut self) -> Self {
        self.matcher = self.matcher.wide();
        self
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
            Piece::Hit(tag, _) => out.extend_from_slice(format!("<{tag}>").as_bytes()),
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
