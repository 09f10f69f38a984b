//! Header fields as they came, in their order and case.
//!
//! A name is a token and a value has no control characters but tabs, checked when they are made
//! (RFC 9110, sections 5.1 and 5.5). Whoever writes fields out need not look again: nothing can be
//! injected. Values may be credentials, so `Debug` shows only how long they are.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;

/// What is not a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Empty, or with a byte that is not of a token.
    #[error("the name of a header field is not a token")]
    Name,
    /// With a control character, or with white space at an end.
    #[error("the value of a header field has a control character or white space at an end")]
    Value,
}

/// The name of a field: a token, in the case in which it came. Compares without regard to case.
#[derive(Clone)]
pub struct HeaderName(Bytes);

impl HeaderName {
    /// Checks that the bytes are a token.
    pub fn new(name: impl Into<Bytes>) -> Result<Self, InvalidHeader> {
        let name = name.into();
        if is_token(&name) { Ok(Self(name)) } else { Err(InvalidHeader::Name) }
    }

    /// A name that the program knows.
    ///
    /// # Panics
    ///
    /// If it is not a token.
    #[must_use]
    pub fn from_static(name: &'static str) -> Self {
        Self::new(name.as_bytes()).expect("a token")
    }

    /// The name as it came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a token is ASCII")
    }

    /// Whether this is that field.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for HeaderName {}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in &self.0 {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl TryFrom<&str> for HeaderName {
    type Error = InvalidHeader;

    fn try_from(name: &str) -> Result<Self, InvalidHeader> {
        Self::new(Bytes::copy_from_slice(name.as_bytes()))
    }
}

/// The value of a field: any bytes but control characters, tabs excepted; no white space at its ends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HeaderValue(Bytes);

impl HeaderValue {
    /// Checks the bytes.
    pub fn new(value: impl Into<Bytes>) -> Result<Self, InvalidHeader> {
        let value = value.into();
        let outer = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        let clean = value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if clean && !outer(value.first()) && !outer(value.last()) {
            Ok(Self(value))
        } else {
            Err(InvalidHeader::Value)
        }
    }

    /// A value that the program knows.
    ///
    /// # Panics
    ///
    /// If it is not a value.
    #[must_use]
    pub fn from_static(value: &'static str) -> Self {
        Self::new(value.as_bytes()).expect("a value")
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is ASCII: what else the bytes may mean is not defined.
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok().filter(|text| text.is_ascii())
    }
}

impl From<u64> for HeaderValue {
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

impl TryFrom<&str> for HeaderValue {
    type Error = InvalidHeader;

    fn try_from(value: &str) -> Result<Self, InvalidHeader> {
        Self::new(Bytes::copy_from_slice(value.as_bytes()))
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

/// The fields of a message, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// No fields.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many field lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every field line, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Every field line, in order, with its value to change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&HeaderName, &mut HeaderValue)> {
        self.0.iter_mut().map(|(name, value)| (&*name, value))
    }

    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&HeaderValue> {
        self.get_all(name).next()
    }

    /// The values of a field, a line each.
    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a HeaderValue> {
        self.0.iter().filter(move |(other, _)| other.is(name)).map(|(_, value)| value)
    }

    /// The members of a field that is a comma-separated list (RFC 9110, section 5.6.1), of all its
    /// lines, without the empty ones. Commas in quoted strings are not looked for.
    pub fn members<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name)
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .map(trim)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list has this member, in any case.
    #[must_use]
    pub fn has_member(&self, name: &str, member: &str) -> bool {
        self.members(name).any(|other| other.eq_ignore_ascii_case(member.as_bytes()))
    }

    /// Whether there is such a field.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds a line at the end.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Makes this the only line of its field: in place of the first one, or at the end. The first
    /// one keeps the case of its name.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let Some(first) = self.0.iter().position(|(other, _)| *other == name) else {
            return self.append(name, value);
        };
        self.0[first].1 = value;
        let mut at = 0;
        self.0.retain(|(other, _)| {
            at += 1;
            at - 1 <= first || *other != name
        });
    }

    /// Removes every line of a field; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| !other.is(name));
        self.0.len() != before
    }

    /// Keeps the lines for which the function says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &HeaderValue) -> bool) {
        self.0.retain(|(name, value)| keep(name, value));
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TCHARS[usize::from(byte)])
}

/// The bytes of tokens (RFC 9110, section 5.6.2).
const TCHARS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"!#$%&'*+-.^_`|~";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

/// Without optional white space (RFC 9110, section 5.6.3) at the ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &'static str) -> HeaderName {
        HeaderName::from_static(text)
    }

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    fn lines(headers: &Headers) -> Vec<(&str, &str)> {
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn names_are_tokens() {
        for good in ["a", "X-Api_Key", "!#$%&'*+-.^_`|~09"] {
            assert!(HeaderName::try_from(good).is_ok(), "{good:?}");
        }
        for bad in ["", " a", "a ", "a:", "a\r\nb", "a\0", "(a)", "é", "a\tb"] {
            assert_eq!(HeaderName::try_from(bad), Err(InvalidHeader::Name), "{bad:?}");
        }
    }

    #[test]
    fn values_have_no_controls_and_no_outer_space() {
        for good in ["", "a b\tc", "é", "\"quoted, \\\" text\""] {
            assert!(HeaderValue::try_from(good).is_ok(), "{good:?}");
        }
        for bad in [" ", " a", "a\t", "a\r\nB: c", "a\nb", "a\rb", "a\0b", "\x1b[1m", "\x7f"] {
            assert_eq!(HeaderValue::try_from(bad), Err(InvalidHeader::Value), "{bad:?}");
        }
    }

    #[test]
    fn fields_are_found_in_any_case_and_kept_in_theirs() {
        let mut headers = Headers::new();
        headers.append(name("AcCePt"), value("a, b"));
        headers.append(name("Other"), value("1"));
        headers.append(name("accept"), value(", c"));
        assert_eq!(headers.get("ACCEPT"), Some(&value("a, b")));
        assert_eq!(headers.members("accept").collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert!(headers.has_member("accept", "C"));
        headers.set(name("ACCEPT"), value("d"));
        assert_eq!(lines(&headers), [("AcCePt", "d"), ("Other", "1")]);
        headers.set(name("New"), value("2"));
        assert!(headers.remove("other"));
        assert!(!headers.remove("other"));
        assert_eq!(lines(&headers), [("AcCePt", "d"), ("New", "2")]);
    }

    #[test]
    fn debug_shows_no_value() {
        let headers = Headers::from_iter([(name("Authorization"), value("Bearer hunter2"))]);
        assert_eq!(format!("{headers:?}"), r#"{"Authorization": [14 bytes]}"#);
    }
}
