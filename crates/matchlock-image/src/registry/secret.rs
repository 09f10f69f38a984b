//! Text that nobody may see.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

/// A password or a token: wiped when dropped, and not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// `Bearer …` (RFC 6750 section 2.1); `None` when no field can hold it.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        sensitive(&Zeroizing::new(format!("Bearer {}", self.reveal())))
    }
}

/// `Basic …` (RFC 7617).
pub(crate) fn basic(user: &str, password: &Secret) -> Option<HeaderValue> {
    let plain = Zeroizing::new(format!("{user}:{}", password.reveal()));
    let encoded = Zeroizing::new(STANDARD.encode(plain.as_bytes()));
    sensitive(&Zeroizing::new(format!("Basic {}", *encoded)))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}
