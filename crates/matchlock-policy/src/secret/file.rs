//! The JSON of `--secret-file`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::secret::error::{InvalidSecret, SecretProblem};
use crate::secret::name::SecretName;
use crate::secret::spec::{SecretSpec, parse_hosts};
use crate::secret::value::SecretValue;

/// Why the content of a secret file is refused.
///
/// Neither what the JSON parser says nor any text of the file is kept, because both may be a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecretFile {
    /// Not JSON at all.
    #[error("the secret file is not valid JSON at line {line}, column {column}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 for the end of the line before.
        column: usize,
    },
    /// JSON of another form.
    #[error(
        "the secret file has an unexpected key or type at line {line}, column {column}: expected \
         {{\"NAME\": {{\"value\": \"…\", \"hosts\": [\"…\"]}}}} with the optional keys \
         \"placeholder\", \"body\", \"https_only\" and \"scrub\""
    )]
    Form {
        /// Counted from 1.
        line: usize,
        /// Counted from 1; 0 for the end of the line before.
        column: usize,
    },
    /// One of the secrets is not valid.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
}

pub(super) fn parse(json: &[u8]) -> Result<Vec<SecretSpec>, InvalidSecretFile> {
    let entries: Entries = serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => InvalidSecretFile::Form { line, column },
            _ => InvalidSecretFile::Json { line, column },
        }
    })?;
    Ok(entries.0.into_iter().map(Entry::into_spec).collect::<Result<_, _>>()?)
}

/// The members in their order; two of one name are both here.
struct Entries(Vec<Entry>);

struct Entry {
    name: String,
    fields: Fields,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    value: Value,
    hosts: Vec<String>,
    placeholder: Option<String>,
    #[serde(default)]
    body: bool,
    #[serde(default)]
    https_only: bool,
    #[serde(default)]
    scrub: bool,
}

impl Entry {
    fn into_spec(self) -> Result<SecretSpec, InvalidSecret> {
        let name: SecretName = self.name.parse()?;
        let of_name = |problem: SecretProblem| InvalidSecret::of(&name, problem);
        let Fields { value, hosts, placeholder, body, https_only, scrub } = self.fields;
        let value = SecretValue::take(value.0).map_err(|problem| of_name(problem.into()))?;
        let hosts = parse_hosts(hosts.iter().map(String::as_str)).map_err(of_name)?;
        Ok(SecretSpec { name, value, placeholder, hosts, body, https_only, scrub })
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of secrets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, fields)) = map.next_entry()? {
                    entries.push(Entry { name, fields });
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A string whose memory is wiped.
struct Value(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value(Zeroizing::new(text.as_bytes().to_vec())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
