//! The patterns of the allow-list.

use matchlock_policy::{Carriage, Host, HostName, HostPattern, InvalidName, InvalidPattern};
use proptest::prelude::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn host(text: &str) -> Host {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

#[test]
fn patterns_match_as_the_contract_says() {
    for (text, matching, others) in [
        ("*", &["example.com", "a.b.c.d", "localhost", "192.0.2.1", "::1"][..], &[][..]),
        (
            "*.example.com",
            &["a.example.com", "a.b.example.com", "A.EXAMPLE.com"],
            &["example.com", "aexample.com", "example.com.evil.example", "a.example.org"],
        ),
        (
            "example.*",
            &["example.com", "example.co.uk", "example.evil.example"],
            &["example", "notexample.com", "a.example.com"],
        ),
        (
            "api-*.example.com",
            &["api-1.example.com", "api-a.b.example.com", "api-1.x.example.com"],
            &["api.example.com", "xapi-1.example.com", "api-1.example.org"],
        ),
        ("*example.com", &["example.com", "badexample.com", "a.example.com"], &["example.org"]),
        ("a*b*c", &["abc", "axbxc", "abbc", "a.b.c"], &["acb", "ab", "ac", "abcd", "a.c"]),
        ("*-*.example.com", &["a-b.example.com"], &["ab.example.com"]),
        ("ab*bc", &["abbc", "abxbc"], &["abc"]),
        ("example.com", &["example.com", "EXAMPLE.com", "example.com."], &["a.example.com"]),
        ("bücher.example", &["xn--bcher-kva.example", "BÜCHER.example"], &["bucher.example"]),
        ("*.bücher.example", &["a.xn--bcher-kva.example"], &["xn--bcher-kva.example"]),
        ("192.0.2.1", &["192.0.2.1", "::ffff:192.0.2.1"], &["192.0.2.2", "example.com"]),
        ("10.0.0.0/8", &["10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.0", "::10.1.2.3"]),
        ("10.1.2.3/8", &["10.200.0.1"], &["11.0.0.0"]),
        ("::1", &["::1", "[::1]"], &["127.0.0.1", "::2"]),
        ("[2001:db8::1]", &["2001:db8::1"], &["2001:db8::2"]),
        ("2001:db8::/32", &["2001:db8::5"], &["2001:db9::"]),
        ("[2001:db8::/32]", &["2001:db8::5"], &["2001:db9::"]),
        ("::ffff:10.0.0.0/104", &["10.9.9.9"], &["11.0.0.1"]),
        ("0.0.0.0/0", &["192.0.2.1"], &["2001:db8::1", "example.com"]),
    ] {
        let pattern = pattern(text);
        for name in matching {
            assert!(pattern.matches(&host(name), 443), "{text} matches {name}");
        }
        for name in others {
            assert!(!pattern.matches(&host(name), 443), "{text} does not match {name}");
        }
    }
}

#[test]
fn what_follows_the_port_says_how_flows_are_carried() {
    for (text, name, carriage) in [
        ("example.com:5000/tcp", "example.com", Carriage::Opaque),
        ("*.example.com:22/tcp", "a.example.com", Carriage::Opaque),
        ("*:5000/tcp", "192.0.2.1", Carriage::Opaque),
        ("10.0.0.0/8:5000/tcp", "10.1.1.1", Carriage::Opaque),
        ("[::1]:5000/tcp", "::1", Carriage::Opaque),
        ("example.com:443/tls", "example.com", Carriage::TlsPassthrough),
        ("*.example.com:443/tls", "a.example.com", Carriage::TlsPassthrough),
        ("example.com:443", "example.com", Carriage::Http),
    ] {
        let pattern = pattern(text);
        assert_eq!((pattern.carriage(), pattern.as_str()), (carriage, text));
        assert!(pattern.matches(&host(name), pattern.port().expect("a port")), "{text}");
        assert!(!pattern.matches(&host(name), 1), "{text}");
    }
    for (text, expected) in [
        ("example.com/tcp", InvalidPattern::CarriagePort),
        ("*/tls", InvalidPattern::CarriagePort),
        ("10.0.0.0/tcp", InvalidPattern::CarriagePort),
        ("10.0.0.0/8:443/tls", InvalidPattern::TlsAddress),
        ("[::1]:443/tls", InvalidPattern::TlsAddress),
        ("example.com:443/udp", InvalidPattern::Port),
        ("example.com:443/TCP", InvalidPattern::Port),
        ("example.com:443/tcp/tls", InvalidPattern::Port),
        ("example.com:/tcp", InvalidPattern::Port),
        (":5000/tcp", InvalidPattern::Empty),
        ("/tcp", InvalidPattern::Empty),
    ] {
        assert_eq!(text.parse::<HostPattern>(), Err(expected), "{text}");
    }
}

#[test]
fn a_port_restricts_any_pattern() {
    for (text, name) in [
        ("example.com:443", "example.com"),
        ("*.example.com:443", "a.example.com"),
        ("*:443", "example.com"),
        ("*:443", "192.0.2.1"),
        ("192.0.2.1:443", "192.0.2.1"),
        ("10.0.0.0/8:443", "10.1.1.1"),
        ("[::1]:443", "::1"),
        ("[2001:db8::/32]:443", "2001:db8::1"),
    ] {
        let pattern = pattern(text);
        assert_eq!(pattern.port(), Some(443));
        assert!(pattern.matches(&host(name), 443), "{text}");
        assert!(!pattern.matches(&host(name), 444), "{text}");
        assert!(!pattern.is_everything());
        if let Host::Name(name) = host(name) {
            assert!(pattern.matches_any_port(&name));
        }
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    let name = InvalidPattern::Name;
    for (text, error) in [
        ("", InvalidPattern::Empty),
        ("  ", InvalidPattern::Empty),
        (":443", InvalidPattern::Empty),
        ("https://example.com/", InvalidPattern::Url),
        ("example.com:", InvalidPattern::Port),
        ("example.com:0", InvalidPattern::Port),
        ("example.com:http", InvalidPattern::Port),
        ("example.com:99999", InvalidPattern::Port),
        ("example.com/path", InvalidPattern::Range),
        ("10.0.0.0/33", InvalidPattern::Range),
        ("[10.0.0.1]", InvalidPattern::Range),
        ("[::1", InvalidPattern::Range),
        ("[example.com]:80", InvalidPattern::Range),
        ("fe80::1%eth0", InvalidPattern::Range),
        ("192.168.*", InvalidPattern::AddressWildcard),
        ("10.*.*.*", InvalidPattern::AddressWildcard),
        ("*.1", InvalidPattern::AddressWildcard),
        ("*.0x7f", InvalidPattern::AddressWildcard),
        ("127.1", name(InvalidName::Address)),
        ("a b", name(InvalidName::Character)),
        ("a\0*.example", name(InvalidName::Character)),
        ("a@*.example", name(InvalidName::Character)),
        ("*..example", name(InvalidName::EmptyLabel)),
        ("*.-a.example", name(InvalidName::Hyphen)),
        ("-*.example", name(InvalidName::Hyphen)),
        (&format!("*{}.example", "a".repeat(64)), name(InvalidName::LongLabel)),
        (&"a".repeat(600), InvalidPattern::TooLong),
    ] {
        assert_eq!(text.parse::<HostPattern>(), Err(error), "{text:?}");
    }
}

#[test]
fn the_text_stays_as_it_was_given() {
    assert_eq!(pattern("  *.Example.COM:443 ").to_string(), "*.Example.COM:443");
    let json = serde_json::to_string(&pattern("*.Example.COM")).expect("json");
    assert_eq!(json, "\"*.Example.COM\"");
}

#[test]
fn only_the_plain_star_is_everything() {
    assert!(pattern(" * ").is_everything());
    for text in ["**", "*.*", "*:443", "*.com", "0.0.0.0/0"] {
        assert!(!pattern(text).is_everything(), "{text}");
    }
}

#[test]
fn patterns_over_many_owners_are_broad() {
    let broad = ["*.com", "*.co.uk", "*.com:443", "example.*", "*example.com", "**", "*.a*"];
    let rented = ["*.github.io", "*.workers.dev", "app-*.web.app"];
    for text in broad.into_iter().chain(rented) {
        assert!(pattern(text).is_broad(), "{text}");
    }
    for text in ["*", "*.example.com", "api-*.example.com", "*.example.co.uk", "example.com", "::1"]
    {
        assert!(!pattern(text).is_broad(), "{text}");
    }
}

#[test]
fn the_services_of_the_host_need_their_name_and_a_port() {
    let service = host(HostName::HOST_MATCHLOCK);
    let name = service.name().expect("a name").clone();
    for text in ["*", "*:80", "*.internal", "*.internal:80", "host.*:80", "**", "*.matchlock.*"] {
        assert!(!pattern(text).matches(&service, 80), "{text}");
        assert!(!pattern(text).matches_any_port(&name), "{text}");
    }
    let without = pattern("host.matchlock.internal");
    assert!(!without.matches(&service, 80) && !without.matches_any_port(&name));
    let with = pattern("HOST.Matchlock.internal.:80");
    assert!(with.matches(&service, 80) && with.matches_any_port(&name));
    assert!(!with.matches(&service, 81));
    assert!(!with.matches(&host(HostName::HOST_DOCKER), 80));
}

fn any_name() -> impl Strategy<Value = HostName> {
    r"([a-z0-9_]([a-z0-9-]{0,5}[a-z0-9])?\.){0,4}[a-z]{1,5}"
        .prop_filter_map("not a name", |text| text.parse().ok())
}

fn any_glob() -> impl Strategy<Value = String> {
    r"[a-z\*\.-]{0,8}\*[a-z\*\.-]{0,8}"
        .prop_filter("not a glob", |text| text != "*" && text.parse::<HostPattern>().is_ok())
}

/// The textbook definition, slow.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| glob_matches(rest, &text[at..])),
        Some((byte, rest)) => {
            text.split_first().is_some_and(|(own, text)| own == byte && glob_matches(rest, text))
        }
    }
}

proptest! {
    #[test]
    fn a_name_matches_itself_in_any_case(name in any_name()) {
        let upper = name.as_str().to_ascii_uppercase();
        prop_assert!(pattern(&upper).matches(&Host::Name(name.clone()), 1));
        let below: HostName = format!("x.{name}").parse().expect("name");
        let suffix = pattern(&format!("*.{upper}"));
        prop_assert!(suffix.matches(&Host::Name(below), 1));
        prop_assert!(!suffix.matches(&Host::Name(name), 1));
    }

    #[test]
    fn globs_match_as_by_definition(glob in any_glob(), name in any_name()) {
        let expected = glob_matches(glob.trim_end_matches('.').as_bytes(), name.as_str().as_bytes());
        prop_assert_eq!(pattern(&glob).matches_any_port(&name), expected);
        prop_assert_eq!(pattern(&glob.to_uppercase()).matches_any_port(&name), expected);
    }

    #[test]
    fn a_wildcard_never_matches_an_address(glob in any_glob(), ip: std::net::IpAddr) {
        prop_assert!(!pattern(&glob).matches(&Host::Ip(ip), 443));
    }

    #[test]
    fn a_wildcard_never_matches_a_service_of_the_host(glob in any_glob(), port in 1_u16..) {
        for name in [HostName::HOST_MATCHLOCK, HostName::HOST_DOCKER] {
            for text in [glob.clone(), format!("{glob}:{port}")] {
                prop_assert!(!pattern(&text).matches(&host(name), port));
            }
        }
    }

    #[test]
    fn printing_and_parsing_a_pattern_changes_nothing(text in r"[\[\]a-zA-Z0-9:/\*\. -]{0,24}|\PC{0,24}") {
        if let Ok(pattern) = text.parse::<HostPattern>() {
            prop_assert_eq!(pattern.to_string(), text.trim());
            prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }
}
