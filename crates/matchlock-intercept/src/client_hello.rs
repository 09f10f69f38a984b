//! What a TLS ClientHello says before it is answered (RFC 8446, section 4.1.2).
