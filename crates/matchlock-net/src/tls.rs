//! The certificate authority of a sandbox, and TLS to both sides.
//!
//! The keys live in this process's memory only and end with the sandbox. Both sides run on one
//! provider of cryptography, chosen in [`provider`].

mod authority;
mod roots;
mod upstream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub(crate) use authority::{Authority, AuthorityError};
pub(crate) use roots::Roots;
pub use roots::{InvalidPem, read_certificates};
pub(crate) use upstream::{UpstreamTls, UpstreamTlsError, describe};

/// HTTP/2 over TLS (RFC 9113, section 3.2).
pub(crate) const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 over TLS (RFC 7301, section 6).
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The one place that chooses who computes.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
