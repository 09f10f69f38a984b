//! The sandbox's authority, which is of no use beyond the sandbox: it does not become part of an image.

/// Files that hold nothing else, or lead to one: the agent's own, and what `update-ca-certificates` makes
/// of them.
const FILES: [&[u8]; 9] = [
    b"etc/ssl/certs/matchlock-ca.crt",
    b"etc/ssl/certs/matchlock-ca.pem",
    b"etc/ssl/certs/c185044c.0",
    b"usr/local/share/ca-certificates/matchlock-ca.crt",
    b"etc/pki/ca-trust/source/anchors/matchlock-ca.crt",
    b"etc/pki/trust/anchors/matchlock-ca.crt",
    b"etc/chromium/policies/managed/matchlock.json",
    b"etc/opt/chrome/policies/managed/matchlock.json",
    b"etc/opt/chrome_for_testing/policies/managed/matchlock.json",
];

/// Where bundles are, which a tool of the guest may have put together anew.
const STORES: [&[u8]; 3] = [b"etc/", b"var/lib/ca-certificates/", b"usr/share/ca-certificates/"];

/// What stores and certificates are called elsewhere: Java's, those of NSS, and what OpenSSL's tools write.
const NAMES: [&[u8]; 15] = [
    b"cacerts",
    b".jks",
    b".keystore",
    b".truststore",
    b".p12",
    b".pfx",
    b".pkcs12",
    b"cert9.db",
    b"cert8.db",
    b".pem",
    b".crt",
    b".cer",
    b".der",
    b".p7b",
    b".p11-kit",
];

/// No store of a distribution is near this, in bytes.
const MAX_STORE: u64 = 8 * 1024 * 1024;

/// Written by the agent for this machine alone, as container engines do.
const IDENTITY: [&[u8]; 3] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];

/// No image has what the agent keeps at this path.
pub(super) fn is_own(path: &[u8]) -> bool {
    FILES.contains(&path) || IDENTITY.contains(&path)
}

/// The file may be a trust store with the authority in it.
pub(super) fn may_be_store(path: &[u8], size: u64) -> bool {
    size <= MAX_STORE
        && (STORES.iter().any(|directory| path.starts_with(directory))
            || NAMES.iter().any(|name| path.ends_with(name)))
}
