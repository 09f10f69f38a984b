//! What is looked for: a text, in one of the ways in which it can be written.
//!
//! Every pattern reads in one way only: where it undoes an escape, the byte that introduces the
//! escape never stands for itself. So whether a pattern begins at some place depends on nothing but
//! the bytes from there on, which is what makes the streams above it independent of how their input
//! is split.

use zeroize::Zeroizing;

/// Line breaks between two bytes of a wrapped text, in bytes: CR and LF.
const MAX_BREAK: usize = 2;
/// The longest character reference that is read, `&#x10FFFF;`, in bytes.
const MAX_REFERENCE: usize = 10;

/// Which escapes a pattern undoes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Escapes {
    /// `%41`, and `+` for a space (URL Standard, section 5.1).
    pub(super) percent: bool,
    /// `%2541`: the same, twice. With `percent`.
    pub(super) twice: bool,
    /// `\u0041`, `\/`, `\n` (RFC 8259, section 7), `\x41` and `\u{41}` as many languages print it.
    pub(super) backslash: bool,
    /// `&amp;`, `&#65;`, `&#x41;` (HTML, section 13.5), numbers without the semicolon too.
    pub(super) reference: bool,
    /// `=41`, and `=` at the end of a line (RFC 2045, section 6.7).
    pub(super) quoted: bool,
}

/// One way of writing a text.
pub(super) struct Pattern {
    /// Each byte of the text, with the other byte that may stand for it.
    units: Zeroizing<Vec<[u8; 2]>>,
    escapes: Escapes,
    /// What may stand between two bytes.
    between: Between,
    /// What the owner of the pattern knows it by.
    pub(super) tag: usize,
}

/// What may stand between the bytes of a text that do not stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    /// A line break, as MIME has them in Base64.
    LineBreak,
    /// After each two digits, what dumps put there: spaces, colons, hyphens, commas, line breaks.
    Separator,
}

impl Between {
    fn allows(self, unit: usize, text: &[u8]) -> bool {
        match self {
            Self::Nothing => text.is_empty(),
            Self::LineBreak => matches!(text, b"" | b"\r" | b"\n"),
            Self::Separator => {
                unit.is_multiple_of(2)
                    && matches!(text, b" " | b":" | b"-" | b"," | b"\r" | b"\n" | b"\t")
            }
        }
    }
}

/// Whether a pattern begins at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// It is there, in so many bytes.
    Match(usize),
    /// Not, whatever follows.
    No,
    /// What follows will decide.
    More,
}

impl Pattern {
    /// The text must not be empty.
    pub(super) fn new(text: &[u8], escapes: Escapes, tag: usize) -> Self {
        Self::alternating(text.iter().map(|&byte| [byte, byte]), escapes, tag)
    }

    /// A text of which each byte has an alternative.
    pub(super) fn alternating(
        units: impl ExactSizeIterator<Item = [u8; 2]>,
        escapes: Escapes,
        tag: usize,
    ) -> Self {
        Self { units: Zeroizing::new(units.collect()), escapes, between: Between::Nothing, tag }
    }

    pub(super) fn wrapped(mut self) -> Self {
        self.between = Between::LineBreak;
        self
    }

    pub(super) fn separated(mut self) -> Self {
        self.between = Between::Separator;
        self
    }

    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    /// The bytes with which it can begin.
    pub(super) fn starts(&self) -> impl Iterator<Item = u8> {
        let first = self.units[0];
        let space = self.escapes.percent && first.contains(&b' ');
        let introducers = [
            (self.escapes.percent, b'%'),
            (self.escapes.backslash, b'\\'),
            (self.escapes.reference, b'&'),
            (self.escapes.quoted, b'='),
            (space, b'+'),
        ];
        let used = introducers.into_iter().filter(|(used, _)| *used).map(|(_, byte)| byte);
        first.into_iter().chain(used)
    }

    /// The first character, where it is none of one byte.
    pub(super) fn wide_start(&self) -> Option<char> {
        let text: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.units.iter().take(4).map(|unit| unit[0]).collect());
        let valid = match std::str::from_utf8(&text) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).ok()?,
        };
        valid.chars().next().filter(|first| !first.is_ascii())
    }

    /// Whether it is at the beginning of the bytes. `last`: nothing follows them.
    pub(super) fn prefix(&self, bytes: &[u8], last: bool) -> Prefix {
        let (mut unit, mut at, mut breaks) = (0, 0, 0);
        while unit < self.units.len() {
            let token = match read(&bytes[at..], self.escapes, last) {
                Read::Token(token) => token,
                Read::No => return Prefix::No,
                Read::More => return Prefix::More,
            };
            let text = token.text();
            if unit > 0 && breaks < MAX_BREAK && self.between.allows(unit, text) {
                breaks += 1;
            } else if !text.is_empty() && self.accepts(unit, &token) {
                unit += text.len();
                breaks = 0;
            } else {
                return Prefix::No;
            }
            at += token.taken;
        }
        Prefix::Match(at)
    }

    fn accepts(&self, unit: usize, token: &Token) -> bool {
        let text = token.text();
        let Some(units) = self.units.get(unit..unit + text.len()) else {
            return false;
        };
        let plus_for_space = self.escapes.percent && token.taken == 1 && text == b"+";
        units.iter().zip(text).all(|(unit, byte)| unit.contains(byte))
            || (plus_for_space && units[0].contains(&b' '))
    }
}

/// What a piece of the input stands for.
struct Token {
    text: [u8; 4],
    len: usize,
    /// How long it is in the input, in bytes.
    taken: usize,
}

enum Read {
    Token(Token),
    No,
    More,
}

impl Token {
    fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Read {
    fn byte(byte: u8, taken: usize) -> Self {
        Self::Token(Token { text: [byte, 0, 0, 0], len: 1, taken })
    }

    fn character(code: u32, taken: usize) -> Self {
        let Some(character) = char::from_u32(code) else {
            return Self::No;
        };
        let mut text = [0; 4];
        let len = character.encode_utf8(&mut text).len();
        Self::Token(Token { text, len, taken })
    }
}

fn read(bytes: &[u8], escapes: Escapes, last: bool) -> Read {
    match bytes.first() {
        None => Read::More,
        Some(b'%') if escapes.percent => percent(bytes, escapes.twice, last),
        Some(b'\\') if escapes.backslash => backslash(bytes),
        Some(b'&') if escapes.reference => reference(bytes, last),
        Some(b'=') if escapes.quoted => quoted(bytes),
        Some(&byte) => Read::byte(byte, 1),
    }
}

fn percent(bytes: &[u8], twice: bool, last: bool) -> Read {
    match (hex(bytes, 1..3), hex(bytes, 3..5)) {
        (Hex::Number(0x25), Hex::Number(number)) if twice => Read::byte(low_byte(number), 5),
        (Hex::Number(0x25), Hex::More) if twice && !last => Read::More,
        (Hex::Number(number), _) => Read::byte(low_byte(number), 3),
        (Hex::No, _) => Read::No,
        (Hex::More, _) => Read::More,
    }
}

fn quoted(bytes: &[u8]) -> Read {
    let nothing = |taken| Read::Token(Token { text: [0; 4], len: 0, taken });
    match bytes {
        [_, b'\n', ..] => nothing(2),
        [_, b'\r', b'\n', ..] => nothing(3),
        [_, b'\r'] => Read::More,
        _ => match hex(bytes, 1..3) {
            Hex::Number(number) => Read::byte(low_byte(number), 3),
            Hex::No => Read::No,
            Hex::More => Read::More,
        },
    }
}

fn backslash(bytes: &[u8]) -> Read {
    let meant = match bytes.get(1) {
        None => return Read::More,
        Some(b'u') if bytes.get(2) == Some(&b'{') => return braces(bytes),
        Some(b'u') => return utf16(bytes),
        Some(b'x') => {
            return match hex(bytes, 2..4) {
                Hex::Number(number) => Read::byte(low_byte(number), 4),
                Hex::No => Read::No,
                Hex::More => Read::More,
            };
        }
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(&byte @ (b'/' | b'"' | b'\'' | b'\\')) => byte,
        Some(_) => return Read::No,
    };
    Read::byte(meant, 2)
}

/// `\uXXXX`, two of them for characters beyond the basic plane (RFC 8259, section 7).
fn utf16(bytes: &[u8]) -> Read {
    let first = match hex(bytes, 2..6) {
        Hex::Number(number) => number,
        Hex::No => return Read::No,
        Hex::More => return Read::More,
    };
    if !(0xd800..0xdc00).contains(&first) {
        return Read::character(first, 6);
    }
    match bytes.get(6..bytes.len().min(8)) {
        Some(b"\\u") => {}
        Some(b"" | b"\\") => return Read::More,
        _ => return Read::No,
    }
    match hex(bytes, 8..12) {
        Hex::Number(second @ 0xdc00..=0xdfff) => {
            Read::character(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
        }
        Hex::Number(_) | Hex::No => Read::No,
        Hex::More => Read::More,
    }
}

/// `\u{41}`: one to six digits.
fn braces(bytes: &[u8]) -> Read {
    let window = &bytes[3..bytes.len().min(10)];
    let digits = window.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match window.get(digits) {
        Some(b'}') => {
            number(&window[..digits], 16).map_or(Read::No, |code| Read::character(code, digits + 4))
        }
        None if digits < 7 => Read::More,
        _ => Read::No,
    }
}

/// A number without the semicolon, which ends where its digits do; `None` if it is no number.
fn bare_number(bytes: &[u8], last: bool) -> Option<Read> {
    let (radix, from) = match bytes {
        [_, b'#', b'x' | b'X', ..] => (16, 3),
        [_, b'#', ..] => (10, 2),
        _ => return None,
    };
    let window = &bytes[from..bytes.len().min(MAX_REFERENCE)];
    let digits = window.iter().take_while(|&&byte| char::from(byte).is_digit(radix)).count();
    match window.get(digits) {
        Some(b';') => None,
        None if bytes.len() < MAX_REFERENCE && !last => Some(Read::More),
        _ => Some(
            number(&window[..digits], radix)
                .map_or(Read::No, |code| Read::character(code, from + digits)),
        ),
    }
}

fn reference(bytes: &[u8], last: bool) -> Read {
    if let Some(read) = bare_number(bytes, last) {
        return read;
    }
    let window = &bytes[1..bytes.len().min(MAX_REFERENCE)];
    let Some(end) = window.iter().position(|&byte| byte == b';') else {
        let plausible = window.iter().all(|&byte| byte == b'#' || byte.is_ascii_alphanumeric());
        let open = plausible && bytes.len() < MAX_REFERENCE;
        return if open { Read::More } else { Read::No };
    };
    let taken = end + 2;
    let code = match &window[..end] {
        b"amp" => Some(u32::from(b'&')),
        b"lt" => Some(u32::from(b'<')),
        b"gt" => Some(u32::from(b'>')),
        b"quot" => Some(u32::from(b'"')),
        b"apos" => Some(u32::from(b'\'')),
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16),
        [b'#', digits @ ..] => number(digits, 10),
        _ => None,
    };
    code.map_or(Read::No, |code| Read::character(code, taken))
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    // `from_str_radix` would take a sign.
    let clean = digits.iter().all(u8::is_ascii_alphanumeric);
    let text = std::str::from_utf8(digits).ok().filter(|_| clean)?;
    u32::from_str_radix(text, radix).ok()
}

enum Hex {
    Number(u32),
    No,
    More,
}

fn hex(bytes: &[u8], range: std::ops::Range<usize>) -> Hex {
    let there = &bytes[range.start.min(bytes.len())..range.end.min(bytes.len())];
    let mut number = 0;
    for &byte in there {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return Hex::No;
        };
        number = number << 4 | digit;
    }
    if there.len() == range.len() { Hex::Number(number) } else { Hex::More }
}

fn low_byte(number: u32) -> u8 {
    number.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Escapes =
        Escapes { percent: true, twice: true, backslash: true, reference: true, quoted: false };

    fn prefix(text: &str, bytes: &str) -> Prefix {
        Pattern::new(text.as_bytes(), ALL, 0).prefix(bytes.as_bytes(), false)
    }

    #[test]
    fn escapes_stand_for_their_text() {
        for (text, written) in [
            ("a/b", "a/b"),
            ("a/b", "%61%2fb"),
            ("a/b", "a%2F%62"),
            ("a/b", r"a\/b"),
            ("a/b", r"\u0061\u002F\x62"),
            ("a b", "a+b"),
            ("a+b", "a+b"),
            ("a\"\\\n\t", r#"a\"\\\n\t"#),
            ("a&b<c", "a&amp;b&lt;c"),
            ("a'b", "a&#39;b"),
            ("a'b", "&#97&#39b"),
            ("ab", "%2561%2562"),
            ("a%z", "a%25z"),
            ("ab", r"\u{61}\u{000062}"),
            ("😀!", r"\u{1f600}!"),
            ("a'b", "a&#x27;&#098;"),
            ("é€", r"\u00e9\u20AC"),
            ("é€", "é%E2%82%ac"),
            ("😀!", r"\ud83d\ude00!"),
            ("😀!", "&#x1F600;!"),
        ] {
            assert_eq!(prefix(text, written), Prefix::Match(written.len()), "{text} {written}");
            for cut in 0..written.len() {
                if written.is_char_boundary(cut) {
                    assert_eq!(prefix(text, &written[..cut]), Prefix::More, "{text} {cut}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_become_the_text_is_known_at_once() {
        for start in ["", "%6", r"\u00", "&#9"] {
            assert_eq!(prefix("ab", start), Prefix::More, "{start}");
        }
        for (text, written) in [
            ("ab", "b"),
            ("ab", "ac"),
            ("ab", "%6g"),
            ("ab", "%62"),
            ("ab", r"\q"),
            ("ab", r"\u00g"),
            ("😀", r"\ud83dx"),
            ("😀", r"\ud83d\n"),
            ("😀", r"\ud83d\ud83d"),
            ("ab", "& b"),
            ("ab", "&#1114112;"),
            ("ab", "&longname;;"),
            ("ab", "&abcdefghijk"),
            ("a%b", "a%b!"),
        ] {
            assert_eq!(prefix(text, written), Prefix::No, "{text} {written}");
        }
    }

    #[test]
    fn lines_break_between_bytes_only_where_they_may() {
        let plain = Pattern::new(b"abc", ALL, 0);
        assert_eq!(plain.prefix(b"a\nbc", false), Prefix::No);
        let wrapped = Pattern::new(b"abc", ALL, 0).wrapped();
        assert_eq!(wrapped.prefix(b"a\r\nbc", false), Prefix::Match(5));
        assert_eq!(wrapped.prefix(br"a\nbc", false), Prefix::Match(5));
        assert_eq!(wrapped.prefix(b"a\n\n\nbc", false), Prefix::No);
        assert_eq!(wrapped.prefix(b"\nabc", false), Prefix::No);
    }
}
