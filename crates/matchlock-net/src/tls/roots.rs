//! Whom we trust towards the outside.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

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
                tracing::warn!(%error, "a root certificate of this host is not readable");
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

/// The text is not a list of certificates in PEM.
#[derive(Debug, thiserror::Error)]
#[error("not certificates in PEM")]
pub struct InvalidPem(#[source] Option<pem::Error>);

/// Reads certificates in PEM (RFC 7468), for [`NetConfig::upstream_ca`](crate::NetConfig).
///
/// # Errors
///
/// There is none, or one that is not readable.
pub fn read_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidPem> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| InvalidPem(Some(error)))?;
    if all.is_empty() { Err(InvalidPem(None)) } else { Ok(all) }
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
