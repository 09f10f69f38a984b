//! Output of commands on its way to a client: in pieces that are whole characters where that is cheap.

use std::time::Duration;

use tokio::time::timeout;

use crate::exec::Output;

/// How long the first bytes of a character wait for its last.
const HOLD: Duration = Duration::from_millis(50);

/// An output whose pieces are cut between characters of UTF-8: clients decode each by itself.
#[derive(Debug)]
pub(super) struct Pieces {
    from: Output,
    held: Vec<u8>,
    over: bool,
}

impl Pieces {
    pub(super) fn of(from: Output) -> Self {
        Self { from, held: Vec::new(), over: false }
    }

    /// The next piece; it is not empty. `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.over {
                return Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty());
            }
            let next = if self.held.is_empty() {
                self.from.next().await
            } else {
                match timeout(HOLD, self.from.next()).await {
                    Ok(next) => next,
                    // It is no text, or somebody is waiting for the other half.
                    Err(_) => return Some(std::mem::take(&mut self.held)),
                }
            };
            let Some(chunk) = next else {
                self.over = true;
                continue;
            };
            let mut piece = std::mem::take(&mut self.held);
            piece.extend_from_slice(&chunk);
            self.held = piece.split_off(piece.len() - unfinished(&piece));
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    }
}

/// How many of the last bytes are the begin of a character that is not whole.
fn unfinished(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => return 0,
        };
        return if length > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_cut_between_characters(text in "\\PC{0,20}", at in 0usize..80) {
            let bytes = text.as_bytes();
            let part = &bytes[..at.min(bytes.len())];
            let (whole, _) = part.split_at(part.len() - unfinished(part));
            prop_assert!(std::str::from_utf8(whole).is_ok());
        }

        #[test]
        fn of_any_bytes_at_most_three_are_held(bytes: Vec<u8>) {
            prop_assert!(unfinished(&bytes) <= 3.min(bytes.len()));
        }
    }

    #[test]
    fn bytes_that_begin_no_character_are_not_held() {
        for (bytes, held) in [
            (&b"abc"[..], 0),
            ("é".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"a\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xff", 0),
            (b"\xc0", 0),
            (b"\x80\x80\x80\x80", 0),
        ] {
            assert_eq!(unfinished(bytes), held, "{bytes:?}");
        }
    }
}
