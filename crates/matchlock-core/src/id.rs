//! Sandbox ids.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::as_text::as_text;

as_text!(SandboxId);

/// `vm-` and eight lower-case hexadecimal digits, random.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SandboxId(String);

/// Not the id of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is \"vm-\" and eight hexadecimal digits")]
pub struct InvalidId;

impl SandboxId {
    /// What all ids begin with.
    pub(crate) const PREFIX: &'static str = "vm-";

    /// A fresh id.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random() -> io::Result<Self> {
        let bytes: [u8; 4] = random()?;
        Ok(Self(format!("{}{:08x}", Self::PREFIX, u32::from_be_bytes(bytes))))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SandboxId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = text.strip_prefix(Self::PREFIX).ok_or(InvalidId)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let valid = digits.len() == 8 && digits.bytes().all(is_digit);
        valid.then(|| Self(text.to_owned())).ok_or(InvalidId)
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // Requests of up to 256 bytes are never cut short (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_that_clients_know() {
        let id = SandboxId::random().expect("random");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        for bad in
            ["", "vm-", "vm-0123456", "vm-0123456789", "vm-0123ABCD", "vm-../../x", "0123abcd"]
        {
            assert_eq!(bad.parse::<SandboxId>(), Err(InvalidId), "{bad}");
        }
    }
}
