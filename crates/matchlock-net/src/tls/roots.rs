//! Whom we trust towards the outside.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

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
