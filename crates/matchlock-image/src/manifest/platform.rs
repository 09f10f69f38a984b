//! For which machine an image is (OCI image spec, image-index.md, "platform").

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// An operating system and a processor: `linux/amd64`, `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {0:?} (want OS/ARCH or OS/ARCH/VARIANT, as in linux/arm64)")]
pub struct InvalidPlatform(String);

impl Platform {
    /// Linux on the processor of this host.
    #[must_use]
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// Puts one together. Empty variants are none.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|text| !text.is_empty()).map(str::to_owned);
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// Whether it names no processor.
    pub(super) fn is_any(&self) -> bool {
        self.architecture.is_empty()
    }

    /// Whether an image for `other` runs here; 0 is the best of the ranks.
    pub(super) fn accepts(&self, other: &Self) -> Option<u8> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        let (ours, theirs) = (self.variant(), other.variant());
        if ours == theirs {
            return Some(0);
        }
        // Every processor of the architecture has its first variant.
        (theirs == self.first_variant()).then_some(1)
    }

    fn variant(&self) -> &str {
        match self.variant.as_deref() {
            None | Some("") => self.first_variant(),
            Some(variant) => variant,
        }
    }

    fn first_variant(&self) -> &'static str {
        match self.architecture.as_str() {
            "arm64" => "v8",
            "amd64" => "v1",
            _ => "",
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.chars().take(64).collect());
        let parts: Vec<_> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(plain) {
            return Err(invalid());
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = vec![&self.os, &self.architecture];
        parts.extend(self.variant.iter().filter(|text| !text.is_empty()));
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            // Hostile text: no control characters, no novels.
            for c in part.chars().filter(|c| !c.is_control()).take(32) {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}
