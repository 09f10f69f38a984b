//! Names and endpoints: one canonical form, and nothing in it that a resolver reads otherwise.

use std::collections::HashSet;

use matchlock_policy::{Endpoint, Host, HostName, InvalidEndpoint, InvalidName};
use proptest::prelude::*;

fn name(text: &str) -> Result<String, InvalidName> {
    text.parse::<HostName>().map(|name| name.to_string())
}

#[test]
fn names_become_canonical() {
    for (text, canonical) in [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("example.com。", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("r3---sn-4g5e.example.com", "r3---sn-4g5e.example.com"),
        ("localhost", "localhost"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("exam\u{ad}ple.com", "example.com"),
    ] {
        assert_eq!(name(text).as_deref(), Ok(canonical), "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long = vec!["a".repeat(50); 6].join(".");
    for (text, error) in [
        ("", InvalidName::Empty),
        (".", InvalidName::Empty),
        ("..", InvalidName::EmptyLabel),
        ("a..b", InvalidName::EmptyLabel),
        (".a", InvalidName::EmptyLabel),
        ("a..", InvalidName::EmptyLabel),
        ("allowed.example\0.evil.example", InvalidName::Character),
        ("evil.example allowed.example", InvalidName::Character),
        ("user@example.com", InvalidName::Character),
        ("example.com%00", InvalidName::Character),
        ("fe80::1%eth0", InvalidName::Character),
        ("example.com/path", InvalidName::Character),
        ("example.com:443", InvalidName::Character),
        ("example.com\n", InvalidName::Character),
        ("*.example.com", InvalidName::Character),
        ("a％b.example", InvalidName::Character),
        ("a／b.example", InvalidName::Character),
        ("-a.example", InvalidName::Hyphen),
        ("a-.example", InvalidName::Hyphen),
        ("127.0.0.1", InvalidName::Address),
        ("2130706433", InvalidName::Address),
        ("0177.0.0.1", InvalidName::Address),
        ("0x7f000001", InvalidName::Address),
        ("0x7F.1", InvalidName::Address),
        ("example.0x", InvalidName::Address),
        ("example.1.", InvalidName::Address),
        ("１２７.０.０.１", InvalidName::Address),
        ("xn--", InvalidName::Idna),
        ("xn--a.example", InvalidName::Idna),
        (&long_label, InvalidName::LongLabel),
        (&long, InvalidName::TooLong),
        (&"a".repeat(5000), InvalidName::TooLong),
    ] {
        assert_eq!(name(text), Err(error), "{text:?}");
    }
}

#[test]
fn names_of_253_bytes_and_labels_of_63_are_names() {
    let label = "a".repeat(63);
    let longest = [&*label, &label, &label, &label[..61]].join(".");
    assert_eq!(longest.len(), 253);
    assert_eq!(name(&longest).as_ref(), Ok(&longest));
    assert_eq!(name(&format!("{longest}.")).as_ref(), Ok(&longest));
}

#[test]
fn services_of_the_host_are_known_by_name() {
    for text in ["HOST.matchlock.internal", "host.docker.internal."] {
        assert!(text.parse::<HostName>().expect("name").is_host_service());
    }
    assert!(!"xhost.docker.internal".parse::<HostName>().expect("name").is_host_service());
}

#[test]
fn addresses_are_hosts_of_their_own_kind() {
    for (text, printed) in [
        ("192.0.2.1", "192.0.2.1"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::0]", "[2001:db8::]"),
        ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]"),
        ("example.com", "example.com"),
    ] {
        assert_eq!(text.parse::<Host>().expect(text).to_string(), printed);
    }
    for text in ["[192.0.2.1]", "[::1", "::1]", "fe80::1%1", "[fe80::1%eth0]", "127.1", "010.0.0.1"]
    {
        assert!(text.parse::<Host>().is_err(), "{text}");
    }
}

#[test]
fn a_mapped_address_is_the_address() {
    let [mapped, v4]: [Host; 2] =
        ["::ffff:192.0.2.1", "192.0.2.1"].map(|text| text.parse().expect("host"));
    assert_eq!(mapped, v4);
    assert_eq!(HashSet::from([mapped, v4]).len(), 1);
}

#[test]
fn endpoints_are_read_as_a_host_field() {
    for (text, printed) in [
        ("example.com", "example.com:443"),
        ("Example.com:8443", "example.com:8443"),
        ("[::1]", "[::1]:443"),
        ("[::1]:80", "[::1]:80"),
        ("192.0.2.1:80", "192.0.2.1:80"),
    ] {
        assert_eq!(Endpoint::parse(text, 443).expect(text).to_string(), printed);
    }
    for (text, error) in [
        ("example.com:", InvalidEndpoint::Port),
        ("example.com:0", InvalidEndpoint::Port),
        ("example.com:65536", InvalidEndpoint::Port),
        ("example.com:+80", InvalidEndpoint::Port),
        ("example.com:80:90", InvalidEndpoint::Brackets),
        ("::1", InvalidEndpoint::Brackets),
        ("[::1]80", InvalidEndpoint::Host(InvalidName::Character)),
        (":80", InvalidEndpoint::Host(InvalidName::Empty)),
        ("a@example.com:80", InvalidEndpoint::Host(InvalidName::Character)),
    ] {
        assert_eq!(Endpoint::parse(text, 443), Err(error), "{text}");
    }
}

/// Texts that are likely to be names, or nearly.
fn nearly_a_name() -> impl Strategy<Value = String> {
    prop_oneof![
        r"([a-zA-Z0-9_-]{1,12}\.){0,5}[a-zA-Z0-9-]{1,8}\.?",
        r"([a-zü。\.ßσς-]{1,6}\.){0,3}[a-z]{1,4}",
        r"(xn--[a-z0-9-]{1,12}\.){1,3}[a-z]{1,4}",
        r"[0-9xXa-f\.]{1,20}",
        r"\PC{0,40}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn printing_and_parsing_a_name_changes_nothing(text in nearly_a_name()) {
        if let Ok(name) = text.parse::<HostName>() {
            prop_assert_eq!(name.as_str().parse::<HostName>(), Ok(name.clone()));
            prop_assert_eq!(name.as_str().to_ascii_uppercase().parse::<HostName>(), Ok(name.clone()));
            prop_assert_eq!(format!("{name}.").parse::<HostName>(), Ok(name));
        }
    }

    #[test]
    fn a_name_has_nothing_but_letters_digits_hyphens_and_underscores(text in nearly_a_name()) {
        if let Ok(name) = text.parse::<HostName>() {
            prop_assert!(name.as_str().len() <= 253);
            for label in name.labels() {
                prop_assert!((1..=63).contains(&label.len()));
                prop_assert!(!label.starts_with('-') && !label.ends_with('-'));
                let valid = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
                prop_assert!(label.bytes().all(valid));
            }
        }
    }

    #[test]
    fn no_name_is_a_number_to_a_resolver(text in nearly_a_name()) {
        if let Ok(name) = text.parse::<HostName>() {
            let last = name.labels().next_back().expect("a label");
            prop_assert!(last.parse::<u128>().is_err());
            prop_assert!(!last.starts_with("0x") || last[2..].bytes().any(|b| !b.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn printing_and_parsing_a_host_changes_nothing(ip: std::net::IpAddr) {
        let host = Host::Ip(ip);
        prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host.clone()));
        let endpoint = Endpoint::new(host, 443);
        prop_assert_eq!(Endpoint::parse(&endpoint.to_string(), 1), Ok(endpoint));
    }
}
