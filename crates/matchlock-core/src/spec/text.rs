//! How values of other crates are written and read again: as their texts.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A list of texts.
pub(super) fn list<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// A text, or bytes where it is none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&[u8]> for Word {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        }
    }
}

impl Word {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Words of a command.
pub(super) mod words {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Word;

    pub(in crate::spec) fn serialize<S: Serializer>(
        words: &[Vec<u8>],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(words.iter().map(|word| Word::from(&**word)))
    }

    pub(in crate::spec) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        Ok(Vec::<Word>::deserialize(from)?.into_iter().map(Word::bytes).collect())
    }
}

/// Variables of an environment: texts, or bytes where they are none.
pub(super) mod env {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Word;

    type Variable = (Vec<u8>, Vec<u8>);

    pub(in crate::spec) fn serialize<S: Serializer>(
        env: &[Variable],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(env.iter().map(|(name, value)| (Word::from(&**name), Word::from(&**value))))
    }

    pub(in crate::spec) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Variable>, D::Error> {
        let words = Vec::<(Word, Word)>::deserialize(from)?;
        Ok(words.into_iter().map(|(name, value)| (name.bytes(), value.bytes())).collect())
    }
}

/// Names with addresses.
pub(super) mod hosts {
    use std::net::IpAddr;

    use matchlock_policy::HostName;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::spec) fn serialize<S: Serializer>(
        hosts: &[(HostName, IpAddr)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(hosts)
    }

    pub(in crate::spec) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(HostName, IpAddr)>, D::Error> {
        let hosts = Vec::<(String, IpAddr)>::deserialize(from)?;
        let read = |(name, ip): (String, IpAddr)| Ok((name.parse().map_err(D::Error::custom)?, ip));
        hosts.into_iter().map(read).collect()
    }
}

/// What an empty allow-list means.
pub(super) mod egress {
    use matchlock_policy::DefaultEgress;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::spec) fn serialize<S: Serializer>(
        egress: &DefaultEgress,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(match egress {
            DefaultEgress::Deny => "deny",
            DefaultEgress::Public => "public",
        })
    }

    pub(in crate::spec) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<DefaultEgress, D::Error> {
        match String::deserialize(from)?.as_str() {
            "deny" => Ok(DefaultEgress::Deny),
            "public" => Ok(DefaultEgress::Public),
            other => Err(D::Error::custom(format!("{other:?} is neither \"deny\" nor \"public\""))),
        }
    }
}
