//! Ids of requests.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// What a client names a request by, and what its answer and its notifications carry.
///
/// JSON-RPC 2.0, section 4. The published clients count from 1. Texts are accepted because many
/// libraries make ids of them. A fraction or a negative number is refused. An id that is `null` or
/// not there is no id: `Option<RequestId>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestId {
    /// A whole number that is not negative.
    Number(u64),
    /// A text of at most [`RequestId::MAX_TEXT`] bytes.
    Text(Box<str>),
}

impl RequestId {
    /// The longest text, in bytes.
    pub const MAX_TEXT: usize = 128;
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = RequestId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number or a string of at most {} bytes", RequestId::MAX_TEXT)
    }

    fn visit_u64<E>(self, number: u64) -> Result<RequestId, E> {
        Ok(RequestId::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RequestId, E> {
        if text.len() > RequestId::MAX_TEXT {
            return Err(E::invalid_length(text.len(), &self));
        }
        Ok(RequestId::Text(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_whole_number_or_a_bounded_text() {
        let read = |text: &str| serde_json::from_str::<RequestId>(text).ok();
        assert_eq!(read("1"), Some(RequestId::Number(1)));
        assert_eq!(read("18446744073709551615"), Some(RequestId::Number(u64::MAX)));
        assert_eq!(read("\"a\""), Some(RequestId::Text("a".into())));
        let longest = format!("\"{}\"", "x".repeat(RequestId::MAX_TEXT));
        assert!(read(&longest).is_some());
        let longer = format!("\"{}\"", "x".repeat(RequestId::MAX_TEXT + 1));
        for refused in ["-1", "1.5", "true", "[1]", "{}", "null", &longer] {
            assert_eq!(read(refused), None, "{refused}");
        }
    }
}
