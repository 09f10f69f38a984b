//! Bytes in JSON.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::display::Base64Display;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// The contract's text for what is not Base64 (its section 2.9).
pub(crate) const INVALID: &str = "invalid base64 content";

/// As Go reads what its clients send: padding may be missing, and unused bits count for nothing.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Bytes that are a string in Base64 (RFC 4648, section 4) in JSON.
///
/// They are written with padding. Line ends within the string are skipped, and padding may be missing.
/// There is no bound of its own: a line of at most [`MAX_LINE`](crate::line::MAX_LINE) bytes holds at
/// most three quarters of that.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

/// The text is not Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{INVALID}")]
pub struct InvalidBase64;

impl Base64 {
    /// Reads a text.
    ///
    /// # Errors
    /// [`InvalidBase64`] if it has other characters than the alphabet's, or cannot end there.
    pub fn decode(text: &str) -> Result<Self, InvalidBase64> {
        let text = text.as_bytes();
        let bytes = match memchr::memchr2(b'\r', b'\n', text) {
            None => LENIENT.decode(text),
            Some(_) => {
                let joined = text.iter().copied().filter(|byte| !b"\r\n".contains(byte));
                LENIENT.decode(joined.collect::<Vec<_>>())
            }
        };
        bytes.map(Self).map_err(|_| InvalidBase64)
    }
}

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Base64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Base64 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(&self.0, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(BytesVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Base64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in Base64")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Base64, E> {
        Base64::decode(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_go_reads_is_read() {
        let read = |text| Base64::decode(text).map(|bytes| bytes.0);
        assert_eq!(read("aGk="), Ok(b"hi".to_vec()));
        assert_eq!(read("aGk"), Ok(b"hi".to_vec()), "without padding");
        assert_eq!(read("aG\r\nk=\n"), Ok(b"hi".to_vec()), "in lines");
        assert_eq!(read("aGl="), Ok(b"hi".to_vec()), "with unused bits");
        assert_eq!(read(""), Ok(Vec::new()));
        for refused in ["a", "aGk=aGk=", "a b=", "aGk-", "_Gk=", "====", "aGk=="] {
            assert_eq!(read(refused), Err(InvalidBase64), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn bytes_survive(bytes: Vec<u8>) {
            let text = serde_json::to_string(&Base64(bytes.clone())).expect("a string");
            let plain = STANDARD.encode(&bytes);
            prop_assert_eq!(&text, &format!("\"{plain}\""));
            let read: Base64 = serde_json::from_str(&text).expect("Base64");
            prop_assert_eq!(read.0, bytes);
        }
    }
}
