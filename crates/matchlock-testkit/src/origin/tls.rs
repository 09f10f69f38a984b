//! The certificates of an origin.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate authority of its own, and a leaf of it.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    /// The leaf and its key.
    pub(crate) leaf_pem: String,
    pub(crate) acceptor: TlsAcceptor,
}

impl Identity {
    pub(crate) fn new(names: &[String], alpn: &[String]) -> Self {
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "test origin CA");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(ca, key).expect("a CA certificate");

        let mut covered = names.to_vec();
        covered.extend(["127.0.0.1".into(), "::1".into()]);
        let leaf_key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(covered)
            .expect("valid names")
            .signed_by(&leaf_key, &issuer)
            .expect("a leaf");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("a key that fits");
        config.alpn_protocols = alpn.iter().map(|p| p.clone().into_bytes()).collect();
        let leaf_pem =
            pem("CERTIFICATE", leaf.der()) + &pem("PRIVATE KEY", &leaf_key.serialize_der());
        let ca_pem = pem("CERTIFICATE", issuer.der());
        Self { ca_pem, leaf_pem, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

/// RFC 7468 section 5.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
