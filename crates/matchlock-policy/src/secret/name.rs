//! Names of secrets.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::secret::error::{InvalidSecret, SecretProblem};
use crate::text::serialize_as_text;

const MAX_NAME: usize = 255;

/// The name of a secret and of its environment variable: letters, digits and `_`, no digit first
/// (POSIX.1-2024 XBD 3.216).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(Arc<str>);

impl SecretName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let starts_well = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if word && starts_well && text.len() <= MAX_NAME {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSecret::unnamed(SecretProblem::Name))
        }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl AsRef<str> for SecretName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for SecretName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

serialize_as_text!(SecretName);
