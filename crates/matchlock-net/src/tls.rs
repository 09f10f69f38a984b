//! The certificate authority of a sandbox, and TLS to both sides.
