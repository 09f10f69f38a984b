//! The sandbox's authority, which is of no use beyond the sandbox: it does not become part of an image.

/// Files that hold nothing else, or lead to one: the agent's own, and what `update-ca-certificates` makes
/// of them.
const FILES: [&[u8]; 6] = [
    b"etc/ssl/certs/matchlock-ca.crt",
    b"etc/ssl/certs/matchlock-ca.pem",
    b"etc/ssl/certs/c185044c.0",
    b"usr/local/share/ca-certificates/matchlock-ca.crt",
    b"etc/pki/ca-trust/source/anchors/matchlock-ca.crt",
    b"etc/pki/trust/anchors/matchlock-ca.crt",
];

/// Where bundles are, which a tool of the guest may have put together anew.
const BUNDLES: [&[u8]; 3] = [b"etc/", b"var/lib/ca-certificates/", b"usr/share/ca-certificates/"];

/// No bundle of a distribution is near this, in bytes.
const MAX_BUNDLE: u64 = 8 * 1024 * 1024;

/// Written by the agent for this machine alone, as container engines do.
const IDENTITY: [&[u8]; 3] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];

/// No image has what the agent keeps at this path.
pub(super) fn is_own(path: &[u8]) -> bool {
    FILES.contains(&path) || IDENTITY.contains(&path)
}

/// The file may be a bundle with the authority in it.
pub(super) fn may_be_bundle(path: &[u8], size: u64) -> bool {
    size <= MAX_BUNDLE && BUNDLES.iter().any(|directory| path.starts_with(directory))
}

/// Removes every copy of the certificate.
pub(super) fn without(content: Vec<u8>, certificate: &[u8]) -> Vec<u8> {
    let found = |rest: &[u8]| rest.windows(certificate.len()).position(|part| part == certificate);
    if certificate.is_empty() || found(&content).is_none() {
        return content;
    }
    let mut kept = Vec::with_capacity(content.len());
    let mut rest = content.as_slice();
    while let Some((before, after)) = found(rest).and_then(|at| rest.split_at_checked(at)) {
        kept.extend(before);
        rest = after.get(certificate.len()..).unwrap_or_default();
    }
    kept.extend(rest);
    kept
}
