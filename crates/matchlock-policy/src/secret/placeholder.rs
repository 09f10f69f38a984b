//! What the guest holds in place of a value.

use std::fmt;
use std::sync::Arc;

use memchr::memmem;

use crate::secret::value::SecretValue;
use crate::text::serialize_as_text;

const PREFIX: &str = "SANDBOX_SECRET_";
const HEX_DIGITS: usize = 32;
/// Shorter ones occur by chance.
const MIN: usize = 8;
const MAX: usize = 1024;

/// The text that stands for a secret inside the guest: ASCII that can be seen, of 8 to 1024 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Placeholder {
    text: Arc<str>,
    given: bool,
}

impl Placeholder {
    /// `SANDBOX_SECRET_` and 32 hexadecimal digits.
    pub(super) fn generate(random: [u8; 16]) -> Self {
        let text = format!("{PREFIX}{:032x}", u128::from_be_bytes(random));
        Self { text: text.into(), given: false }
    }

    /// A placeholder of the user's choice.
    pub(super) fn given(text: &str) -> Result<Self, PlaceholderProblem> {
        if text.len() < MIN {
            return Err(PlaceholderProblem::TooShort);
        }
        if text.len() > MAX {
            return Err(PlaceholderProblem::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PlaceholderProblem::Character);
        }
        if text.contains(PREFIX) || is_part_of_generated(text) {
            return Err(PlaceholderProblem::LooksGenerated);
        }
        Ok(Self { text: text.into(), given: true })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    pub(super) fn is_given(&self) -> bool {
        self.given
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.text.contains(&*other.text) || other.text.contains(&*self.text)
    }

    pub(super) fn shares_with(&self, value: &SecretValue) -> bool {
        memmem::find(self.as_bytes(), value.expose()).is_some()
            || memmem::find(value.expose(), self.as_bytes()).is_some()
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl AsRef<[u8]> for Placeholder {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

serialize_as_text!(Placeholder);

/// What is wrong with a placeholder that the user gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderProblem {
    /// There is no `=` between the name and the placeholder.
    #[error("expected NAME=PLACEHOLDER")]
    Form,
    /// Fewer than 8 bytes, or none.
    #[error("the placeholder is shorter than {MIN} characters")]
    TooShort,
    /// More than 1024 bytes.
    #[error("the placeholder is longer than {MAX} characters")]
    TooLong,
    /// Spaces, control characters, or beyond ASCII.
    #[error("the placeholder has a character that is not visible ASCII")]
    Character,
    /// It could be taken for a placeholder that was made here.
    #[error("the placeholder overlaps with the form of generated ones, {PREFIX}<hex>")]
    LooksGenerated,
}

/// The random bytes that a placeholder was made of; `None` for one of the user's.
#[must_use]
pub fn made_of(placeholder: &str) -> Option<[u8; 16]> {
    let digits = placeholder.strip_prefix(PREFIX).filter(|digits| digits.len() == HEX_DIGITS)?;
    let random = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    (Placeholder::generate(random).as_str() == placeholder).then_some(random)
}

/// Whether some generated placeholder could contain `text`.
fn is_part_of_generated(text: &str) -> bool {
    let fits = |at: usize, byte: u8| match PREFIX.as_bytes().get(at) {
        Some(&fixed) => byte == fixed,
        None => at < PREFIX.len() + HEX_DIGITS && matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    // Beginning beyond the prefix it is only hex digits, which a generated one holds by a chance
    // that `Secrets::new` looks at.
    (0..PREFIX.len()).any(|start| text.bytes().enumerate().all(|(at, byte)| fits(start + at, byte)))
}
