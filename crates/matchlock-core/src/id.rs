//! Sandbox ids.

use std::fmt;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// `vm-` and eight lower-case hexadecimal digits, random.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SandboxId(String);

impl SandboxId {
    /// A fresh id.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random() -> io::Result<Self> {
        let bytes: [u8; 4] = random()?;
        Ok(Self(format!("vm-{:08x}", u32::from_be_bytes(bytes))))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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
        let digits = id.as_str().strip_prefix("vm-").expect("prefix");
        assert_eq!(digits.len(), 8);
        assert!(digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
}
