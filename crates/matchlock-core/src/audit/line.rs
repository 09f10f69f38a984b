//! One record as a line: ASCII JSON, chained and summed.

use std::io::{self, Write};

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};
use sha2::{Digest, Sha256};

/// SHA-256 of a line without its line end.
pub(super) type Hash = [u8; 32];

/// What the first line of a file holds as the hash of the line before it.
pub(super) const GENESIS: Hash = [0; 32];

/// Hexadecimal digits of a line's checksum of itself. The chain covers every line but the last; this
/// covers that one against damage. Whoever can forge it can write the whole file anew.
const SUM_DIGITS: usize = 16;

const SUM_KEY: &str = ",\"sum\":\"";
const SUM_END: &str = "\"}";

/// What every record begins with.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) seq: u64,
    pub(super) time: &'a str,
    pub(super) sandbox: &'a str,
}

/// The record as a line, its line end included.
pub(super) fn seal(
    header: &Header<'_>,
    event: &impl Serialize,
    prev: &Hash,
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Record<'a, E> {
        seq: u64,
        time: &'a str,
        sandbox: &'a str,
        #[serde(flatten)]
        event: &'a E,
        prev: &'a str,
    }
    let Header { seq, time, sandbox } = *header;
    let mut line = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Ascii);
    Record { seq, time, sandbox, event, prev: &hex(prev) }.serialize(&mut serializer)?;
    // The brace that ends the object comes after the sum.
    line.pop();
    let sum = sum(&line);
    line.extend_from_slice(SUM_KEY.as_bytes());
    line.extend_from_slice(sum.as_bytes());
    line.extend_from_slice(SUM_END.as_bytes());
    line.push(b'\n');
    Ok(line)
}

/// Whether a line, without its line end, carries its own sum.
pub(super) fn is_sealed(line: &[u8]) -> bool {
    let tail = SUM_KEY.len() + SUM_DIGITS + SUM_END.len();
    let Some((body, given)) = line.len().checked_sub(tail).and_then(|at| line.split_at_checked(at))
    else {
        return false;
    };
    given == format!("{SUM_KEY}{}{SUM_END}", sum(body)).as_bytes()
}

pub(super) fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

pub(super) fn hex(hash: &[u8]) -> String {
    HEXLOWER.encode(hash)
}

fn sum(body: &[u8]) -> String {
    hex(hash(body).get(..SUM_DIGITS / 2).unwrap_or_default())
}

/// Compact JSON whose bytes are printable ASCII only.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if (' '..='~').contains(&character) {
                writer.write_all(&[character as u8])?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Event<'a> {
            event: &'a str,
        }
        let header = Header { seq: 7, time: "now", sandbox: "vm-1" };
        seal(&header, &Event { event: text }, &GENESIS).expect("serialises")
    }

    #[test]
    fn no_text_can_end_a_line_or_steer_a_terminal() {
        for text in ["\n", "\r\n{}", "\x1b[2J", "\u{2028}\u{2029}\u{85}", "\x7f", "\u{202e}", "😀"]
        {
            let line = line(text);
            let (end, body) = line.split_last().expect("not empty");
            assert_eq!(*end, b'\n');
            assert!(body.iter().all(|byte| (0x20..0x7f).contains(byte)), "{body:?}");
            let back: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!(back["event"], text);
        }
    }

    #[test]
    fn a_line_knows_whether_it_was_changed() {
        let line = line("x");
        let body = line.strip_suffix(b"\n").expect("a line");
        assert!(is_sealed(body));
        for at in 0..body.len() {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            assert!(!is_sealed(&changed), "byte {at}");
        }
        assert!(!is_sealed(b""));
        assert!(!is_sealed(b"{}"));
    }
}
