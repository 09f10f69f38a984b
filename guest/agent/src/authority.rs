//! The sandbox's certificate authority: put into trust stores, and taken out of what becomes an image.
//!
//! Stores are text (PEM in a bundle), Java's two formats ([`jks`], [`pkcs12`]), or something else with
//! the certificate's bytes in it.

mod der;
mod jks;
mod pem;
mod pkcs12;

use std::io;

use memchr::memmem;

/// What a store in Java's formats knows it by.
const ALIAS: &str = "matchlock";

/// The certificate in both of its forms.
#[derive(Debug, Clone)]
pub struct Authority {
    pem: String,
    der: Vec<u8>,
}

impl Authority {
    /// # Errors
    /// `InvalidData` when this is no certificate in PEM.
    pub fn new(pem: String) -> io::Result<Self> {
        let der = pem::decode(&pem).filter(|der| der.len() > 2);
        let der = der.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pem, der })
    }

    /// In PEM, with an end of line.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// In Base64 without armour or line breaks.
    #[must_use]
    pub fn base64(&self) -> String {
        pem::base64(&self.der)
    }

    /// A Java key store that trusts the authority beside what `store` trusts; `None` when its format is
    /// another, or needs a password that nobody has told us.
    #[must_use]
    pub fn added_to_java_store(&self, store: &[u8]) -> Option<Vec<u8>> {
        jks::with(store, &self.der, ALIAS).or_else(|| pkcs12::with(store, &self.der, ALIAS))
    }

    /// `content` without any copy of the certificate that is not encrypted. What has a format that we
    /// know keeps it; in any other the bytes of the certificate become zeros.
    #[must_use]
    pub fn removed_from(&self, mut content: Vec<u8>) -> Vec<u8> {
        if memmem::find(&content, b"-----BEGIN ").is_some() {
            content = pem::without(&content, &self.der);
        }
        if memmem::find(&content, &self.der).is_none() {
            return content;
        }
        let kept =
            jks::without(&content, &self.der).or_else(|| pkcs12::without(&content, &self.der));
        kept.unwrap_or_else(|| blanked(content, &self.der))
    }
}

fn blanked(mut content: Vec<u8>, part: &[u8]) -> Vec<u8> {
    let mut from = 0;
    while let Some(at) = content.get(from..).and_then(|rest| memmem::find(rest, part)) {
        let found = from + at..from + at + part.len();
        from = found.end;
        content.get_mut(found).unwrap_or_default().fill(0);
    }
    content
}

#[cfg(test)]
mod tests;
