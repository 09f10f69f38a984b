//! Host names in the one form that everything else compares.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::text::serialize_as_text;

/// The longest name in text form, without a trailing dot (RFC 1035 2.3.4).
pub(crate) const MAX_NAME: usize = 253;
/// The longest label (RFC 1035 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;
/// Longer texts are refused before any Unicode work is done on them.
const MAX_TEXT: usize = 1024;

/// A host name: what UTS 46 makes of it in ASCII, lower case, without a trailing dot.
///
/// Labels consist of letters, digits, hyphens and underscores (RFC 1123 2.1, and underscores
/// because real services use them) and neither begin nor end with a hyphen. A name is never an
/// address: a text whose last label is a number, as the URL Standard's "ends in a number" checker
/// decides, is refused, since resolvers read it as an IPv4 address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// The name by which a guest reaches services of its host.
    pub const HOST_MATCHLOCK: &str = "host.matchlock.internal";
    /// The same, by the name that container images know.
    pub const HOST_DOCKER: &str = "host.docker.internal";

    /// Whether this is one of the names of the host's own services.
    #[must_use]
    pub fn is_host_service(&self) -> bool {
        matches!(self.as_str(), Self::HOST_MATCHLOCK | Self::HOST_DOCKER)
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels from left to right; there is at least one.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl FromStr for HostName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let name = to_ascii(text)?;
        let name = name.strip_suffix('.').unwrap_or(&name);
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(InvalidName::TooLong);
        }
        name.split('.').try_for_each(check_label)?;
        if ends_in_number(name) {
            return Err(InvalidName::Address);
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

serialize_as_text!(HostName);

/// Why a text is not a [`HostName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing, or nothing but a dot.
    #[error("the host name is empty")]
    Empty,
    /// Two dots in a row, or one at the beginning.
    #[error("the host name has an empty label")]
    EmptyLabel,
    /// A label of more than 63 bytes.
    #[error("a label of the host name is longer than 63 bytes")]
    LongLabel,
    /// More than 253 bytes.
    #[error("the host name is longer than 253 bytes")]
    TooLong,
    /// A space, NUL, `%`, `@`, `/` and so on.
    #[error("the host name has a character other than letters, digits, '-', '_' and '.'")]
    Character,
    /// A label begins or ends with a hyphen.
    #[error("a label of the host name begins or ends with '-'")]
    Hyphen,
    /// The last label is a number: resolvers read such a text as an IPv4 address.
    #[error("the host name ends in a number, as only an IP address does")]
    Address,
    /// Not a valid internationalised name (UTS 46).
    #[error("the host name is not a valid internationalised name")]
    Idna,
}

fn to_ascii(text: &str) -> Result<String, InvalidName> {
    if text.len() > MAX_TEXT {
        return Err(InvalidName::TooLong);
    }
    // Said first, because UTS 46 would only say that something is wrong.
    if text.bytes().any(|byte| byte.is_ascii() && byte != b'.' && !is_label_byte(byte)) {
        return Err(InvalidName::Character);
    }
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| InvalidName::Idna)
}

/// Checks one label of a name that is ASCII and lower case already.
pub(crate) fn check_label(label: &str) -> Result<(), InvalidName> {
    if label.is_empty() {
        return Err(InvalidName::EmptyLabel);
    }
    if label.len() > MAX_LABEL {
        return Err(InvalidName::LongLabel);
    }
    // Once more: UTS 46 maps some characters to ASCII that no name has.
    if !label.bytes().all(|byte| is_label_byte(byte) && !byte.is_ascii_uppercase()) {
        return Err(InvalidName::Character);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(InvalidName::Hyphen);
    }
    Ok(())
}

/// The "ends in a number" checker of the URL Standard, for a name without a trailing dot.
pub(crate) fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let digits = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    digits || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
