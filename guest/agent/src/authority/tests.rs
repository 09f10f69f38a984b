use super::*;

const OWN: &str = include_str!("testdata/own.pem");

/// Stores of one other certificate, made by `keytool` of version 17: `JKS` with the usual password, and
/// `PKCS12` with `certProtectionAlgorithm` and `macAlgorithm` `NONE`.
const JKS: &[u8] = include_bytes!("testdata/roots.jks");
const PKCS12: &[u8] = include_bytes!("testdata/roots.p12");

fn own() -> Authority {
    Authority::new(OWN.to_owned()).expect("a certificate")
}

#[test]
fn a_java_store_gets_the_authority_and_loses_it_again() {
    let own = own();
    for store in [JKS, PKCS12] {
        let more = own.added_to_java_store(store).expect("known");
        assert!(more.len() > store.len() + own.der.len());
        assert!(memmem::find(&more, &own.der).is_some());
        // With the digest that keytool computed, where there is one.
        assert_eq!(own.removed_from(more), store);
        assert_eq!(own.removed_from(store.to_vec()), store, "it was not there");
    }
}

#[test]
fn what_is_no_java_store_is_left_alone() {
    let own = own();
    let damaged: Vec<Vec<u8>> = [JKS, PKCS12]
        .iter()
        .flat_map(|store| (0..store.len()).map(|length| store[..length].to_vec()))
        .collect();
    for store in damaged {
        // A store that is cut off within its entries is only seen to be one when they are read.
        let more = own.added_to_java_store(&store).unwrap_or_default();
        assert!(memmem::find(&own.removed_from(more), &own.der).is_none());
    }
    let with_digest = der::value(
        der::SEQUENCE,
        &[der::only(PKCS12, der::SEQUENCE).expect("one"), &der::value(der::SEQUENCE, b"digest")]
            .concat(),
    );
    assert!(own.added_to_java_store(&with_digest).is_none());
    for other in [&b""[..], b"\xfe\xed\xfe\xed\0\0\0\x01", b"SQLite format 3\0", &[0x30, 0x84]] {
        assert!(own.added_to_java_store(other).is_none());
    }
}

#[test]
fn a_certificate_leaves_a_bundle_however_it_is_written() {
    let own = own();
    let root = "-----BEGIN CERTIFICATE-----\nQUFB\n-----END CERTIFICATE-----\n";
    let trusted = [own.der.as_slice(), b"0\x0c0\n\x06\x08"].concat();
    let trusted = format!(
        "-----BEGIN TRUSTED CERTIFICATE-----\n{}\n-----END TRUSTED CERTIFICATE-----\n",
        pem::base64(&trusted)
    );
    let one_line =
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", own.base64());
    for form in [OWN.to_owned(), OWN.replace('\n', "\r\n"), one_line, trusted] {
        let bundle = format!("# roots\n{root}{form}{root}{form}# end\n");
        let kept = own.removed_from(bundle.into_bytes());
        assert_eq!(String::from_utf8_lossy(&kept), format!("# roots\n{root}{root}# end\n"));
    }
    let unfinished = format!("{root}-----BEGIN CERTIFICATE-----\nQUFB");
    assert_eq!(own.removed_from(unfinished.clone().into_bytes()), unfinished.as_bytes());
}

#[test]
fn in_any_other_format_its_bytes_become_zeros() {
    let own = own();
    let database = [b"SQLite format 3\0", own.der.as_slice(), b"...", &own.der].concat();
    let kept = own.removed_from(database.clone());
    assert_eq!(kept.len(), database.len());
    assert!(memmem::find(&kept, &own.der).is_none());
    assert!(kept.starts_with(b"SQLite format 3\0\0\0") && memmem::find(&kept, b"...").is_some());
}
