//! Patterns: Go's `path.Match`, the same with `**` (Dockerfile reference, ".dockerignore file"), and
//! the wildcards of a shell's `${x#…}`.
//!
//! A match costs at most the pattern's length times the text's, whatever the pattern is.

/// The pattern ends within something, or a class has no sensible end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the syntax of the path pattern is wrong")]
pub struct BadPattern;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// This character.
    Char(char),
    /// `?`: one character, not `/`.
    Any,
    /// One character, `/` too.
    Every,
    /// `*`: characters that are not `/`.
    Star,
    /// `**` or `**/`: any characters; with true the run is empty or ends with `/`.
    Deep(bool),
    /// `[a-z]`, `[^a]`.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// A pattern of a whole path: `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` do not, `\` takes the
/// next character for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Piece>);

impl Glob {
    /// `path.Match` of Go: `*`, `?`, `[…]`, `\`.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        Self::parse(text, false)
    }

    /// The same, with `**` for any number of directories.
    ///
    /// # Errors
    /// [`BadPattern`].
    pub fn deep(text: &str) -> Result<Self, BadPattern> {
        Self::parse(text, true)
    }

    /// Whether a text has characters that mean something in a pattern.
    #[must_use]
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Whether the pattern covers all of `path`. A byte that is not UTF-8 is a character that no
    /// pattern names.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let chars: Vec<char> = decode(path);
        covers(&self.0, &chars)
    }

    fn parse(text: &str, deep: bool) -> Result<Self, BadPattern> {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let piece = match c {
                '*' if deep && chars.peek() == Some(&'*') => {
                    while chars.next_if_eq(&'*').is_some() {}
                    Piece::Deep(chars.next_if_eq(&'/').is_some())
                }
                '*' => Piece::Star,
                '?' => Piece::Any,
                '\\' => Piece::Char(chars.next().ok_or(BadPattern)?),
                '[' => class(&mut chars).ok_or(BadPattern)?,
                c => Piece::Char(c),
            };
            pieces.push(piece);
        }
        Ok(Self(pieces))
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What is behind a `[`.
fn class(chars: &mut Chars<'_>) -> Option<Piece> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = bound(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { bound(chars)? } else { low };
        ranges.push((low, high));
    }
    Some(Piece::Class { negated, ranges })
}

/// One end of a range; `-` and `]` only behind a `\`.
fn bound(chars: &mut Chars<'_>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    }
}

/// A pattern within `${…}`: `*` and `?` over any characters, `\` before one.
#[derive(Debug)]
pub struct Wildcard(Vec<Piece>);

impl Wildcard {
    /// Every text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Deep(false),
                '?' => Piece::Every,
                '\\' => Piece::Char(chars.next().unwrap_or('\\')),
                c => Piece::Char(c),
            });
        }
        Self(pieces)
    }

    /// How many pieces it has: what one pass over a text costs for each character.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.0.len() + 1
    }

    /// For text read backwards.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    /// Lengths of the text's beginnings that it covers, the shortest first.
    pub fn beginnings(&self, text: &[char]) -> impl DoubleEndedIterator<Item = usize> {
        let row = covered(&self.0, text);
        (0..=text.len()).filter(move |length| row[*length])
    }
}

/// Bytes that are no UTF-8 become characters of a private range, each a character of its own.
fn decode(path: &[u8]) -> Vec<char> {
    let mut chars = Vec::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        chars.extend(chunk.valid().chars());
        let private = |byte: &u8| char::from_u32(0x10_FF00 + u32::from(*byte));
        chars.extend(chunk.invalid().iter().filter_map(private));
    }
    chars
}

fn covers(pieces: &[Piece], text: &[char]) -> bool {
    covered(pieces, text)[text.len()]
}

/// One row of a table for each piece: which beginnings of the text are covered. No pattern makes it
/// slower than its length times the text's.
fn covered(pieces: &[Piece], text: &[char]) -> Vec<bool> {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for piece in pieces {
        row = match piece {
            Piece::Star => run(&row, text, |c| c != '/'),
            Piece::Deep(false) => run(&row, text, |_| true),
            Piece::Deep(true) => {
                let all = run(&row, text, |_| true);
                let slash = |at: usize| at > 0 && text[at - 1] == '/';
                (0..=text.len()).map(|at| row[at] || (all[at] && slash(at))).collect()
            }
            one => {
                let mut next = vec![false; text.len() + 1];
                for (at, c) in text.iter().enumerate() {
                    next[at + 1] = row[at] && covers_one(one, *c);
                }
                next
            }
        };
    }
    row
}

fn run(row: &[bool], text: &[char], fits: impl Fn(char) -> bool) -> Vec<bool> {
    let mut next = row.to_vec();
    for at in 0..text.len() {
        next[at + 1] = next[at + 1] || (next[at] && fits(text[at]));
    }
    next
}

fn covers_one(piece: &Piece, c: char) -> bool {
    match piece {
        Piece::Char(wanted) => *wanted == c,
        Piece::Any => c != '/',
        Piece::Every => true,
        Piece::Class { negated, ranges } => {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
        }
        Piece::Star | Piece::Deep(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_of_go() {
        for (pattern, path, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("a**", "a/b", false),
            ("a[^b]c", "a/c", true),
            ("/v1/*", "/v1/chat", true),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1/chat/completions", false),
            ("/v1/*", "/v1", false),
            ("/*/b", "/a/b", true),
            ("*", "", true),
            ("*", "/", false),
            ("/*a*b*c", "/xaybzc", true),
            ("/*a*b*c", "/xaybz", false),
            ("/a*a*a*a*a*b", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("/a", "/ab", false),
            ("/ab", "/a", false),
        ] {
            let found = Glob::new(pattern).expect(pattern).matches(path.as_bytes());
            assert_eq!(found, expected, "{pattern} {path}");
        }
        for bad in
            ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^]", "[]", "a[", "[a-", "\\"]
        {
            assert_eq!(Glob::new(bad), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn two_stars_go_deep() {
        for (pattern, path, expected) in [
            ("**", "a/b", true),
            ("**/a", "a", true),
            ("**/a", "x/y/a", true),
            ("**/a", "xa", false),
            ("a/**", "a/b/c", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("**/*.go", "x/a.go", true),
            ("**.go", "x/a.go", true),
            ("a**/b", "axx/b", true),
        ] {
            let found = Glob::deep(pattern).expect(pattern).matches(path.as_bytes());
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn names_that_are_no_text_match_byte_by_byte() {
        assert!(Glob::new("a?b").expect("a pattern").matches(b"a\xffb"));
        assert!(!Glob::new("a\u{fffd}b").expect("a pattern").matches(b"a\xffb"));
    }

    /// The definition, word for word.
    fn slow(pieces: &[Piece], path: &[char]) -> bool {
        match (pieces.split_first(), path.split_first()) {
            (None, _) => path.is_empty(),
            (Some((Piece::Star, rest)), None) => slow(rest, path),
            (Some((Piece::Star, rest)), Some((first, below))) => {
                slow(rest, path) || (*first != '/' && slow(pieces, below))
            }
            (Some(_), None) => false,
            (Some((piece, rest)), Some((first, below))) => {
                covers_one(piece, *first) && slow(rest, below)
            }
        }
    }

    proptest! {
        #[test]
        fn equals_the_definition(pattern in "[ab/*?]{0,8}", path in "[ab/]{0,8}") {
            let glob = Glob::new(&pattern).expect("no class");
            let chars: Vec<char> = path.chars().collect();
            prop_assert_eq!(glob.matches(path.as_bytes()), slow(&glob.0, &chars));
        }

        #[test]
        fn no_pattern_panics(pattern in "[a*?\\[\\]^\\\\/-]{0,20}", path in "[a/b]{0,20}") {
            for pattern in [Glob::new(&pattern), Glob::deep(&pattern)].into_iter().flatten() {
                let _ = pattern.matches(path.as_bytes());
            }
        }

        #[test]
        fn a_plain_path_covers_itself_only(path in "[a-z/.]{1,20}", other in "[a-z/.]{1,20}") {
            let pattern = Glob::new(&path).expect("no wildcard");
            prop_assert!(pattern.matches(path.as_bytes()));
            prop_assert_eq!(pattern.matches(other.as_bytes()), path == other);
        }
    }
}
