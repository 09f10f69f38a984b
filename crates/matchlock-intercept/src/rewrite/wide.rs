//! Text in UTF-16 and UTF-32.

use zeroize::Zeroizing;

use super::pattern::{Pattern, Prefix};

/// What a character consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// Bytes, as in ASCII and UTF-8.
    Bytes,
    /// Units of 16 bits, the low byte first or not (RFC 2781).
    Utf16 { little: bool },
    /// Units of 32 bits (Unicode, section 3.10).
    Utf32 { little: bool },
}

impl Width {
    pub(super) const WIDE: [Self; 4] = [
        Self::Utf16 { little: true },
        Self::Utf16 { little: false },
        Self::Utf32 { little: true },
        Self::Utf32 { little: false },
    ];

    /// ASCII written so.
    pub(super) fn encode(self, text: &[u8]) -> Vec<u8> {
        let unit = |byte: &u8| match self {
            Self::Bytes => vec![*byte],
            Self::Utf16 { little: true } => vec![*byte, 0],
            Self::Utf16 { little: false } => vec![0, *byte],
            Self::Utf32 { little: true } => vec![*byte, 0, 0, 0],
            Self::Utf32 { little: false } => vec![0, 0, 0, *byte],
        };
        text.iter().flat_map(unit).collect()
    }

    /// Whether a character of ASCII may be at the beginning of some bytes, by a look at two of them.
    pub(super) fn is_plausible(self, bytes: &[u8]) -> bool {
        match self {
            Self::Bytes => true,
            Self::Utf16 { little: true } | Self::Utf32 { little: true } => {
                bytes.get(1).is_none_or(|&byte| byte == 0)
            }
            Self::Utf16 { little: false } | Self::Utf32 { little: false } => {
                bytes.first().is_none_or(|&byte| byte == 0)
            }
        }
    }

    /// The first character; `None` is for what is none.
    pub(super) fn first(self, bytes: &[u8]) -> Option<First> {
        match self {
            Self::Bytes => None,
            Self::Utf16 { little } => {
                let unit = |bytes: &[u8], at: usize| {
                    let unit = *bytes.get(at..)?.first_chunk()?;
                    Some(if little { u16::from_le_bytes(unit) } else { u16::from_be_bytes(unit) })
                };
                let Some(first) = unit(bytes, 0) else { return Some(First::More) };
                if !(0xd800..0xe000).contains(&first) {
                    return Some(First::Character(char::from_u32(first.into())?, 2));
                }
                let Some(second) = unit(bytes, 2) else { return Some(First::More) };
                let character = char::decode_utf16([first, second]).next()?.ok()?;
                Some(First::Character(character, 4))
            }
            Self::Utf32 { little } => {
                let Some(unit) = bytes.first_chunk() else { return Some(First::More) };
                let code =
                    if little { u32::from_le_bytes(*unit) } else { u32::from_be_bytes(*unit) };
                Some(First::Character(char::from_u32(code)?, 4))
            }
        }
    }

    /// Whether a pattern is at the beginning of the bytes, in characters of this width.
    pub(super) fn prefix(self, pattern: &Pattern, bytes: &[u8], last: bool) -> Prefix {
        if self == Self::Bytes {
            return pattern.prefix(bytes, last);
        }
        let mut text = Zeroizing::new(Vec::new());
        let (mut at, mut ended, mut wanted) = (0, None, 1);
        loop {
            while ended.is_none() && text.len() < wanted {
                match self.first(&bytes[at..]) {
                    Some(First::Character(character, taken)) => {
                        let mut utf8 = [0; 4];
                        let utf8 = character.encode_utf8(&mut utf8);
                        super::stream::extend(&mut text, utf8.as_bytes());
                        at += taken;
                    }
                    // Whether the text can go on is known; what breaks it off is its end.
                    other => ended = Some(other.is_some() && !last),
                }
            }
            let open = ended.is_some_and(|open| open);
            match pattern.prefix(&text, ended.is_some() && !open) {
                Prefix::More if ended.is_none() => wanted = wanted * 4 + 4,
                Prefix::More if !open => return Prefix::No,
                Prefix::Match(len) => {
                    return self.length(&text[..len]).map_or(Prefix::No, Prefix::Match);
                }
                other => return other,
            }
        }
    }

    /// How long a text is when it is written so; `None` if it is cut within a character.
    fn length(self, text: &[u8]) -> Option<usize> {
        let text = std::str::from_utf8(text).ok()?;
        Some(match self {
            Self::Bytes => text.len(),
            Self::Utf16 { .. } => text.encode_utf16().count() * 2,
            Self::Utf32 { .. } => text.chars().count() * 4,
        })
    }
}

/// The beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// A character, of so many bytes.
    Character(char, usize),
    /// What follows decides.
    More,
}
