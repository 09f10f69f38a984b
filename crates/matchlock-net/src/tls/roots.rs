//! Whom we trust towards the outside.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where trust towards the outside begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roots {
    /// Also the certificates that the host trusts.
    pub(crate) system: bool,
    /// Certificates that the user named.
    pub(crate) extra: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Reads the host's certificates: a file of some hundred KiB.
    pub(crate) fn load(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        if self.system {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::info!(%error, "a root certificate of this host is not readable");
            }
            store.add_parsable_certificates(found.certs);
        }
        let (_, unusable) = store.add_parsable_certificates(self.extra.iter().cloned());
        if unusable > 0 {
            tracing::warn!(unusable, "extra root certificates are not usable");
        }
        store
    }
}

/// Not a list of certificates in PEM. What was found instead is not told: it may be a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPem {
    /// What looks like PEM is none.
    #[error("it is not valid PEM")]
    NotPem,
    /// There is no certificate in it.
    #[error("it holds no certificate")]
    NoCertificate,
}

/// Reads certificates in PEM (RFC 7468), of which there may be any number between other text, for
/// [`NetConfig::upstream_ca`](crate::NetConfig).
///
/// # Errors
///
/// [`InvalidPem`]: there is none, or one that is not readable.
pub fn read_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|_| InvalidPem::NotPem)?;
    if all.is_empty() { Err(InvalidPem::NoCertificate) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_from_text() {
        let one = crate::tls::Authority::new(crate::tls::provider(), std::time::SystemTime::now());
        let pem = one.expect("an authority").ca_pem().to_owned();
        let two = read_certificates(format!("{pem}a comment\n{pem}").as_bytes());
        assert_eq!(two.expect("two certificates").len(), 2);
        for wrong in ["", "nothing", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n"]
        {
            read_certificates(wrong.as_bytes()).expect_err("there is no certificate");
        }
    }
}
