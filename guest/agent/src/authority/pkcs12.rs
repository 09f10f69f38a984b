//! PKCS #12 (RFC 7292) as Java has its certificates since version 18: nothing is encrypted, and there is no
//! digest. A store with a password is left alone: we have none for it.

use memchr::memmem;

use super::der::{
    BMP_STRING, CONTEXT_0, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, only, split, value,
};

/// `pkcs7-data`.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// `pkcs12` … `certBag`.
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03];
/// `pkcs-9` … `x509Certificate`.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// `friendlyName`.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x14];
/// Oracle's `trustedKeyUsage`: without it, a certificate is no trusted one to Java.
const TRUSTED: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf9, 0x66, 0xad, 0xca, 0x7b, 0x01, 0x01];
/// `anyExtendedKeyUsage`.
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// Version 3.
const VERSION: &[u8] = &[0x02, 0x01, 0x03];

/// A store with one certificate more; `None` when it has another format.
pub(super) fn with(store: &[u8], der: &[u8], alias: &str) -> Option<Vec<u8>> {
    let own = data(&value(SEQUENCE, &bag(der, alias)));
    Some(joined(&[contents(store)?, &own].concat()))
}

/// A store without the bags that have this certificate; `None` when it has another format.
pub(super) fn without(store: &[u8], der: &[u8]) -> Option<Vec<u8>> {
    let mut left = contents(store)?;
    let mut kept = Vec::new();
    while !left.is_empty() {
        let before = left;
        (_, left) = split(left, SEQUENCE)?;
        let content = before.get(..before.len() - left.len())?;
        if memmem::find(content, der).is_none() {
            kept.extend(content);
            continue;
        }
        let mut bags = only(of_data(content)?, SEQUENCE)?;
        let mut others = Vec::new();
        while !bags.is_empty() {
            let before = bags;
            (_, bags) = split(bags, SEQUENCE)?;
            let bag = before.get(..before.len() - bags.len())?;
            if memmem::find(bag, der).is_none() {
                others.extend(bag);
            }
        }
        if !others.is_empty() {
            kept.extend(data(&value(SEQUENCE, &others)));
        }
    }
    Some(joined(&kept))
}

/// What is in the sequence `AuthenticatedSafe` of a store without a digest.
fn contents(store: &[u8]) -> Option<&[u8]> {
    let inner = only(store, SEQUENCE)?.strip_prefix(VERSION)?;
    only(of_data(inner)?, SEQUENCE)
}

fn joined(contents: &[u8]) -> Vec<u8> {
    value(SEQUENCE, &[VERSION, &data(&value(SEQUENCE, contents))].concat())
}

/// `ContentInfo` with data in it.
fn data(content: &[u8]) -> Vec<u8> {
    let content = value(CONTEXT_0, &value(OCTET_STRING, content));
    value(SEQUENCE, &[value(OBJECT_IDENTIFIER, DATA), content].concat())
}

fn of_data(info: &[u8]) -> Option<&[u8]> {
    let (kind, content) = split(only(info, SEQUENCE)?, OBJECT_IDENTIFIER)?;
    let content = only(only(content, CONTEXT_0)?, OCTET_STRING)?;
    (kind == DATA).then_some(content)
}

/// `SafeBag` with a certificate.
fn bag(der: &[u8], alias: &str) -> Vec<u8> {
    let oid = |oid| value(OBJECT_IDENTIFIER, oid);
    let certificate = value(CONTEXT_0, &value(OCTET_STRING, der));
    let certificate = value(SEQUENCE, &[oid(X509), certificate].concat());
    let name: Vec<u8> = alias.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let attribute =
        |kind, content: &[u8]| value(SEQUENCE, &[oid(kind), value(SET, content)].concat());
    let attributes =
        [attribute(FRIENDLY_NAME, &value(BMP_STRING, &name)), attribute(TRUSTED, &oid(ANY_USAGE))];
    let parts = [oid(CERT_BAG), value(CONTEXT_0, &certificate), value(SET, &attributes.concat())];
    value(SEQUENCE, &parts.concat())
}
