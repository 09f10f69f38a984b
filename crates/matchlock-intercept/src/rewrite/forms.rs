//! The ways in which a text is written that are looked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::pattern::{Escapes, Pattern};

/// Encoded forms shorter than this would be found everywhere by chance, in characters.
const MIN_ENCODED: usize = 4;

const NONE: Escapes =
    Escapes { percent: false, twice: false, backslash: false, reference: false, quoted: false };
const ALL: Escapes =
    Escapes { percent: true, twice: true, backslash: true, reference: true, quoted: false };

/// The text itself.
pub(super) fn literal(text: &[u8], tag: usize) -> Vec<Pattern> {
    if text.is_empty() { Vec::new() } else { vec![Pattern::new(text, NONE, tag)] }
}

/// The text in a query, with any of its bytes percent-encoded (RFC 3986, section 2.1).
pub(super) fn query(text: &[u8], tag: usize) -> Vec<Pattern> {
    escaped(text, Escapes { percent: true, ..NONE }, tag)
}

/// Everything that another program can easily make of the text: with any of its bytes escaped as
/// URLs, JSON, HTML and mail do, in hexadecimal, and in Base64 and Base32 at any offset, of either
/// alphabet.
pub(super) fn disguised(text: &[u8], tag: usize) -> Vec<Pattern> {
    let mut patterns = escaped(text, ALL, tag);
    patterns.extend(escaped(text, Escapes { quoted: true, ..NONE }, tag));
    let encoded = (0..3).map(|offset| base64(text, offset, tag));
    let encoded = encoded.chain((0..5).map(|offset| base32(text, offset, tag)));
    let encoded = encoded.chain([hexadecimal(text, tag)]);
    patterns.extend(encoded.filter(|pattern| pattern.len() >= MIN_ENCODED));
    patterns
}

/// A pattern never takes what introduces an escape for itself. Where the text has such bytes, there
/// is another pattern that does not undo that escape.
fn escaped(text: &[u8], escapes: Escapes, tag: usize) -> Vec<Pattern> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut readings = vec![escapes];
    let mut also_without = |introducer: u8, without: fn(Escapes) -> Escapes| {
        if text.contains(&introducer) {
            let more: Vec<_> = readings.iter().map(|reading| without(*reading)).collect();
            readings.extend(more);
        }
    };
    also_without(b'%', |reading| Escapes { twice: false, ..reading });
    also_without(b'%', |reading| Escapes { percent: false, twice: false, ..reading });
    also_without(b'=', |reading| Escapes { quoted: false, ..reading });
    also_without(b'\\', |reading| Escapes { backslash: false, ..reading });
    also_without(b'&', |reading| Escapes { reference: false, ..reading });
    let mut distinct: Vec<Escapes> = Vec::new();
    for reading in readings {
        if !distinct.contains(&reading) {
            distinct.push(reading);
        }
    }
    distinct.into_iter().map(|reading| Pattern::new(text, reading, tag)).collect()
}

fn hexadecimal(text: &[u8], tag: usize) -> Pattern {
    const LOWER: &[u8; 16] = b"0123456789abcdef";
    let digits: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect());
    let units = digits.iter().map(|&digit| LOWER[usize::from(digit)]);
    let units = units.map(|digit| [digit, digit.to_ascii_uppercase()]);
    Pattern::alternating(units, ALL, tag).separated()
}

/// The characters that the text alone decides when it begins so many bytes after a group of three
/// (RFC 4648, sections 4 and 5).
fn base64(text: &[u8], offset: usize, tag: usize) -> Pattern {
    let mut shifted = Zeroizing::new(vec![0; offset + text.len()]);
    shifted[offset..].copy_from_slice(text);
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&*shifted));
    let (start, end) = ((offset * 8).div_ceil(6), shifted.len() * 8 / 6);
    let units = encoded.as_bytes()[start..end.max(start)].iter().map(|&byte| match byte {
        b'+' => [b'+', b'-'],
        b'/' => [b'/', b'_'],
        other => [other, other],
    });
    Pattern::alternating(units, ALL, tag).wrapped()
}

/// The same for groups of five bytes (RFC 4648, section 6), in either case.
fn base32(text: &[u8], offset: usize, tag: usize) -> Pattern {
    const UPPER: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| {
        at / 8 < offset + text.len() && at / 8 >= offset && {
            text[at / 8 - offset] >> (7 - at % 8) & 1 == 1
        }
    };
    let (start, end) = ((offset * 8).div_ceil(5), (offset + text.len()) * 8 / 5);
    let digits: Zeroizing<Vec<u8>> = Zeroizing::new(
        (start..end.max(start))
            .map(|digit| (0..5).fold(0, |value, at| value << 1 | u8::from(bit(digit * 5 + at))))
            .collect(),
    );
    let units = digits.iter().map(|&digit| UPPER[usize::from(digit)]);
    let units = units.map(|digit| [digit, digit.to_ascii_lowercase()]);
    Pattern::alternating(units, ALL, tag).wrapped()
}
