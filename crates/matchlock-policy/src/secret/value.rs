//! The values of secrets.

use std::fmt;

use zeroize::Zeroizing;

/// The value of a secret: wiped when dropped, and not to be printed, compared, copied or
/// serialised. Its bytes come out only by way of [`Bound`](crate::Bound).
///
/// ```compile_fail,E0277
/// let value = matchlock_policy::SecretValue::new("sk-1").expect("valid");
/// println!("{value}");
/// ```
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes over `value`, whose memory is wiped even if it is refused.
    ///
    /// # Errors
    /// When it is empty, or has a NUL, CR or LF, which no header field can carry (RFC 9110 5.5).
    pub fn new(value: impl Into<Vec<u8>>) -> Result<Self, ValueProblem> {
        Self::take(Zeroizing::new(value.into()))
    }

    pub(super) fn take(value: Zeroizing<Vec<u8>>) -> Result<Self, ValueProblem> {
        if value.is_empty() {
            return Err(ValueProblem::Empty);
        }
        if value.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')) {
            return Err(ValueProblem::Character);
        }
        Ok(Self(value))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(redacted)")
    }
}

/// What is wrong with the value of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueProblem {
    /// There is none.
    #[error("the value is empty")]
    Empty,
    /// It has a NUL, CR or LF.
    #[error("the value contains a line break or a NUL")]
    Character,
    /// It would be found everywhere.
    #[error(
        "a value of fewer than {} bytes cannot be scrubbed from responses",
        super::MIN_SCRUBBED
    )]
    TooShortToScrub,
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;

    fn is_wiped_on_drop(_: &impl ZeroizeOnDrop) {}

    #[test]
    fn a_value_is_wiped_and_never_printed() {
        let value = SecretValue::new("sk-canary").expect("valid");
        is_wiped_on_drop(&value.0);
        assert_eq!(format!("{value:?} {value:#?}").matches("canary").count(), 0);
        assert_eq!(value.expose(), b"sk-canary");
    }

    #[test]
    fn a_value_fits_into_a_header_field() {
        assert_eq!(SecretValue::new("").err(), Some(ValueProblem::Empty));
        for text in ["a\rb", "a\nb", "a\0b"] {
            assert_eq!(SecretValue::new(text).err(), Some(ValueProblem::Character));
        }
        assert!(SecretValue::new("with spaces, = and @, and ünicode").is_ok());
    }
}
