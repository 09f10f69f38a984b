//! The chunked transfer coding (RFC 9112, section 7.1).

use bytes::BytesMut;

use super::H1Error;
use super::MAX_HEAD;
use super::body::{Part, take};
use super::forward::is_hop_by_hop;
use super::lines::{Fields, Lines};
use crate::headers::{Headers, is_token};

/// The most bytes of a line with the size of a chunk.
const MAX_SIZE_LINE: usize = 512;
/// The most bytes of all extensions of a body: they are dropped, so they must not be the traffic.
const MAX_EXTENSIONS: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    extensions_left: usize,
}

#[derive(Debug)]
enum State {
    Size(Lines),
    Data(u64),
    DataEnd,
    Trailers(Lines, Fields),
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size(Lines::within(MAX_SIZE_LINE)), extensions_left: MAX_EXTENSIONS }
    }

    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Part>, H1Error> {
        loop {
            match &mut self.state {
                State::Size(lines) => {
                    let line = lines.next(input).map_err(|error| match error {
                        H1Error::TooLong => H1Error::ChunkExtension,
                        other => other,
                    })?;
                    let Some(line) = line else { return Ok(None) };
                    let (size, extensions) = parse_size(&line)?;
                    self.extensions_left = self
                        .extensions_left
                        .checked_sub(extensions)
                        .ok_or(H1Error::ChunkExtension)?;
                    self.state = match size {
                        0 => State::Trailers(Lines::within(MAX_HEAD), Fields::default()),
                        size => State::Data(size),
                    };
                }
                State::Data(0) => self.state = State::DataEnd,
                State::Data(left) => return Ok(take(left, input).map(Part::Data)),
                State::DataEnd => {
                    let seen = &input[..input.len().min(2)];
                    if !b"\r\n".starts_with(seen) {
                        return Err(H1Error::ChunkEnd);
                    }
                    if seen.len() < 2 {
                        return Ok(None);
                    }
                    let _ = input.split_to(2);
                    self.state = State::Size(Lines::within(MAX_SIZE_LINE));
                }
                State::Trailers(lines, fields) => {
                    let Some(trailers) = fields.read(lines, input)? else { return Ok(None) };
                    check_trailers(&trailers)?;
                    return Ok(Some(Part::End(trailers)));
                }
            }
        }
    }
}

/// Fields that would say where the message ends or where it goes, after that has been decided
/// (RFC 9110, section 6.5.1).
pub(super) fn is_no_trailer(name: &str) -> bool {
    is_hop_by_hop(name)
        || ["content-length", "host", "trailer"]
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other))
}

fn check_trailers(trailers: &Headers) -> Result<(), H1Error> {
    let bad = trailers.iter().any(|(name, _)| is_no_trailer(name.as_str()));
    if bad { Err(H1Error::Trailer) } else { Ok(()) }
}

/// The size of the chunk and how long its extensions are.
fn parse_size(line: &[u8]) -> Result<(u64, usize), H1Error> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    if !(1..=16).contains(&digits) || !matches!(extensions.first(), None | Some(b';')) {
        return Err(H1Error::ChunkSize);
    }
    check_extensions(extensions)?;
    let size = size.iter().fold(0, |size: u64, &digit| size << 4 | u64::from(hex(digit)));
    Ok((size, extensions.len()))
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the white space that only old senders put.
fn check_extensions(mut rest: &[u8]) -> Result<(), H1Error> {
    while let [b';', after @ ..] = rest {
        let name = after.iter().take_while(|&&byte| byte != b'=' && byte != b';').count();
        let (name, after) = after.split_at(name);
        if !is_token(name) {
            return Err(H1Error::ChunkExtension);
        }
        rest = match after {
            [b'=', b'"', quoted @ ..] => after_quoted(quoted).ok_or(H1Error::ChunkExtension)?,
            [b'=', value @ ..] => {
                let end = value.iter().take_while(|&&byte| byte != b';').count();
                let (value, after) = value.split_at(end);
                if !is_token(value) {
                    return Err(H1Error::ChunkExtension);
                }
                after
            }
            _ => after,
        };
    }
    if rest.is_empty() { Ok(()) } else { Err(H1Error::ChunkExtension) }
}

/// What follows a quoted string whose first quote is gone.
fn after_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    let text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', escaped, after @ ..] if text(*escaped) => after,
            [byte, after @ ..] if text(*byte) && *byte != b'\\' => after,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_hexadecimal_digits_and_nothing_else() {
        let table = [("0", 0), ("00A", 10), ("fF", 255), ("ffffffffffffffff", u64::MAX)];
        for (line, size) in table {
            assert_eq!(parse_size(line.as_bytes()), Ok((size, 0)), "{line}");
        }
        for line in
            ["", " 5", "5 ", "+5", "-5", "0x5", "5_0", "g", "5,5", "00000000000000005", ";a", "5\t"]
        {
            assert_eq!(parse_size(line.as_bytes()), Err(H1Error::ChunkSize), "{line}");
        }
    }

    #[test]
    fn chunk_extensions_are_well_formed() {
        for line in ["5;a", "5;a=b", "5;a=\"b;=\\\"\";c;d=e"] {
            assert_eq!(parse_size(line.as_bytes()), Ok((5, line.len() - 1)), "{line}");
        }
        for line in [
            "5;",
            "5;;a",
            "5; a",
            "5;a =b",
            "5;a= b",
            "5;a=",
            "5;a=\"",
            "5;a=\"b\"c",
            "5;a\0",
            "5;a=\"\0\"",
        ] {
            assert_eq!(parse_size(line.as_bytes()), Err(H1Error::ChunkExtension), "{line}");
        }
    }
}
