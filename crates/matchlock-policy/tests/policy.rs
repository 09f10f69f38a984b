//! Decisions of a policy as a whole.

use std::net::{IpAddr, SocketAddr};

use matchlock_policy::{
    AddressClass, Allowed, Carriage, Connection, DefaultEgress, Denied, DenyReason, Endpoint, Host,
    HostName, HostPattern, OwnAddresses, Policy, PolicyConfig, PrivateAccess, RequestRefused,
    SecretSpec, SecretValue, Secrets, Suggestion, Transport,
};

fn name(text: &str) -> HostName {
    text.parse().expect(text)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn patterns(texts: &[&str]) -> Vec<HostPattern> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::parse(text, 443).expect(text)
}

fn config(allowed: &[&str]) -> PolicyConfig {
    PolicyConfig { allowed_hosts: patterns(allowed), ..PolicyConfig::default() }
}

fn sealed(allowed: &[&str]) -> Policy {
    Policy::new(config(allowed))
}

fn public() -> Policy {
    Policy::new(PolicyConfig { default_egress: DefaultEgress::Public, ..config(&[]) })
}

fn secret(hosts: &[&str]) -> Secrets {
    let value = SecretValue::new("sk-real-value").expect("value");
    let spec = SecretSpec::new("API_KEY".parse().expect("name"), value, patterns(hosts));
    Secrets::new(vec![spec], &mut || [7; 16]).expect("secrets")
}

fn allowed(policy: &Policy, text: &str) -> Allowed {
    policy.connect(&endpoint(text)).unwrap_or_else(|denied| panic!("{denied}"))
}

fn denied(policy: &Policy, text: &str) -> Denied {
    policy.connect(&endpoint(text)).expect_err(text)
}

#[test]
fn a_rule_that_says_how_goes_before_one_that_does_not() {
    let policy = sealed(&["*.example.com", "db.example.com:5000/tcp", "a.example.com:443/tls"]);
    for (text, carriage, rule) in [
        ("db.example.com:5000", Carriage::Opaque, "allow-host db.example.com:5000/tcp"),
        ("db.example.com:443", Carriage::Http, "allow-host *.example.com"),
        ("a.example.com:443", Carriage::TlsPassthrough, "allow-host a.example.com:443/tls"),
        ("a.example.com:5000", Carriage::Http, "allow-host *.example.com"),
    ] {
        let allowed = allowed(&policy, text);
        assert_eq!((allowed.carriage(), &*allowed.rule().to_string()), (carriage, rule), "{text}");
        assert_eq!(allowed.opaque().is_some(), carriage == Carriage::Opaque);
        let (own, other) = (name("a.example.com"), name("db.example.com"));
        assert_eq!(allowed.passthrough(&own).is_some(), carriage == Carriage::TlsPassthrough);
        assert!(allowed.passthrough(&other).is_none() && allowed.unrecognised().is_none());
    }
    let suggestion =
        allowed(&sealed(&["2606:4700::/32"]), "[2606:4700::1]:5000").suggestion(Carriage::Opaque);
    assert_eq!(suggestion.allow_host.as_deref(), Some("[2606:4700::1]:5000/tcp"));
    assert!(sealed(&["*:5000/tcp"]).is_sealed());
}

#[test]
fn what_nobody_recognises_passes_in_the_open_network_only() {
    let open = sealed(&["*", "pinned.example.com:443/tls"]);
    assert!(allowed(&open, "example.com:5000").unrecognised().is_some());
    assert!(allowed(&open, "example.com:5000").opaque().is_none());
    assert_eq!(allowed(&open, "pinned.example.com").carriage(), Carriage::TlsPassthrough);
    let demanded = Policy::new(PolicyConfig { intercept: true, ..config(&["*"]) });
    for policy in [demanded, sealed(&["*:5000"]), sealed(&["example.com"])] {
        assert!(allowed(&policy, "example.com:5000").unrecognised().is_none());
    }
    // Where nothing is looked into, everything passes.
    assert_eq!(allowed(&public(), "example.com").carriage(), Carriage::Opaque);
}

#[test]
fn no_secret_goes_where_bytes_pass_unread() {
    for (rule, host, useless) in [
        ("api.example.com:443/tls", "api.example.com", 1),
        ("api.example.com:443/tcp", "api.example.com", 1),
        ("*.example.com:443/tls", "api.example.com", 1),
        ("*:443/tls", "*.example.com", 1),
        ("api.example.com:443/tls", "*.example.com", 1),
        ("api.example.com:5000/tcp", "api.example.com:5000", 1),
        ("10.0.0.0/8:443/tcp", "10.1.1.1", 1),
        // Other ports of the same host are no matter.
        ("api.example.com:22/tcp", "api.example.com", 0),
        ("api.example.com:22/tcp", "api.example.com:443", 0),
        ("db.example.com:443/tcp", "api.example.com", 0),
    ] {
        let secrets = secret(&[host]);
        let policy = Policy::new(PolicyConfig { secrets: secrets.clone(), ..config(&[rule]) });
        let found = policy.useless_secrets();
        assert_eq!(found.len(), useless, "{rule} {host}: {found:?}");
    }
    let secrets = secret(&["api.example.com"]);
    let rule = &["api.example.com:443/tls"];
    let policy = Policy::new(PolicyConfig { secrets: secrets.clone(), ..config(rule) });
    for (endpoint, permitted) in [("api.example.com", 0), ("api.example.com:8443", 1)] {
        let allowed = allowed(&policy, endpoint);
        let bound = policy.secrets().reveal(&allowed, Transport::Tls);
        assert_eq!(bound.permitted().count(), permitted, "{endpoint}");
        assert_eq!(bound.foreign().count(), 1 - permitted, "{endpoint}");
    }
}

#[test]
fn the_zero_value_denies() {
    for policy in [Policy::default(), Policy::new(PolicyConfig::default())] {
        assert!(policy.is_sealed() && policy.intercepts());
        for text in ["example.com", "8.8.8.8", "[::1]:80", "127.0.0.1", "host.docker.internal:80"] {
            denied(&policy, text);
        }
        assert!(policy.resolve(&name("example.com")).is_err());
        assert!(policy.resolve(&name("localhost")).is_err());
        assert!(policy.allowed_hosts().is_empty() && policy.secrets().is_empty());
    }
    assert_eq!(DefaultEgress::default(), DefaultEgress::Deny);
}

#[test]
fn a_rule_opens_its_host_and_says_so() {
    let policy = sealed(&["*.example.com", "github.com:22"]);
    let allowed = allowed(&policy, "A.example.com:8080");
    assert_eq!(allowed.endpoint().to_string(), "a.example.com:8080");
    assert_eq!(allowed.rule().to_string(), "allow-host *.example.com");
    assert_eq!(
        serde_json::to_string(allowed.rule()).expect("json"),
        "\"allow-host *.example.com\""
    );

    // A name is known to DNS if some port of it may be reached.
    assert_eq!(
        policy.resolve(&name("github.com")).expect("known").to_string(),
        "allow-host github.com:22"
    );
    self::allowed(&policy, "github.com:22");
    assert_eq!(denied(&policy, "github.com:443").reason(), DenyReason::NotAllowed);
}

#[test]
fn what_is_public_and_what_is_intercepted() {
    let table: [(&str, Policy, bool, bool); 7] = [
        ("empty", sealed(&[]), true, true),
        ("a host", sealed(&["example.com"]), true, true),
        ("everything", sealed(&["example.com", "*"]), false, true),
        ("everything at one port", sealed(&["*:443"]), true, true),
        ("public", public(), false, false),
        (
            "public with a list",
            Policy::new(PolicyConfig {
                default_egress: DefaultEgress::Public,
                ..config(&["a.example"])
            }),
            true,
            true,
        ),
        (
            "public and forced",
            Policy::new(PolicyConfig {
                default_egress: DefaultEgress::Public,
                intercept: true,
                ..config(&[])
            }),
            false,
            true,
        ),
    ];
    for (what, policy, is_sealed, intercepts) in table {
        assert_eq!((policy.is_sealed(), policy.intercepts()), (is_sealed, intercepts), "{what}");
    }
}

/// Issue 9: no authority is installed where nothing is looked into.
#[test]
fn rules_that_have_bytes_pass_unread_end_no_tls() {
    for (rules, ends_tls) in [
        (&["db.example:5432/tcp"][..], false),
        (&["db.example:5432/tcp", "api.example:443/tls"], false),
        (&["db.example:5432/tcp", "api.example"], true),
        // A name may be allowed later.
        (&[], true),
    ] {
        assert_eq!(sealed(rules).ends_tls(), ends_tls, "{rules:?}");
    }
    let forced = PolicyConfig { intercept: true, ..config(&["db.example:5432/tcp"]) };
    assert!(Policy::new(forced).ends_tls());
    let with_secret =
        PolicyConfig { secrets: secret(&["api.example"]), ..config(&["db.example:1/tcp"]) };
    assert!(Policy::new(with_secret).ends_tls());
    assert!(!public().ends_tls());
}

#[test]
fn the_hosts_of_secrets_join_the_list() {
    let policy = Policy::new(PolicyConfig {
        secrets: secret(&["api.example.com", "other.example.com"]),
        default_egress: DefaultEgress::Public,
        ..config(&["other.example.com"])
    });
    assert_eq!(policy.allowed_hosts(), ["other.example.com", "api.example.com"]);
    assert!(policy.is_sealed() && policy.intercepts());
    assert_eq!(allowed(&policy, "api.example.com").rule().to_string(), "secret API_KEY");
    let rule = allowed(&policy, "other.example.com").rule().to_string();
    assert_eq!(rule, "allow-host other.example.com");
    assert_eq!(denied(&policy, "example.org").rule().to_string(), "allow-list");
}

#[test]
fn the_list_changes_by_exact_texts() {
    let policy = sealed(&["a.example", "b.example"]);
    let (more, added) = policy.with_added(&patterns(&[" c.example ", "a.example", "c.example"]));
    assert_eq!(added, ["c.example"]);
    assert_eq!(more.allowed_hosts(), ["a.example", "b.example", "c.example"]);
    // The old one is as it was.
    assert_eq!(policy.allowed_hosts(), ["a.example", "b.example"]);
    denied(&policy, "c.example");
    allowed(&more, "c.example");

    let texts = [" a.example ", "B.example", "c.example", "c.example"].map(str::to_owned);
    let (less, removed) = more.with_removed(&texts);
    assert_eq!(removed, ["a.example", "c.example"]);
    assert_eq!(less.allowed_hosts(), ["b.example"]);
}

#[test]
fn removing_everything_leaves_the_default() {
    let public = PolicyConfig { default_egress: DefaultEgress::Public, ..config(&["a.example"]) };
    for (policy, is_sealed) in [(Policy::new(public), false), (sealed(&["a.example"]), true)] {
        let (empty, removed) = policy.with_removed(&["a.example".to_owned()]);
        assert_eq!(removed, ["a.example"]);
        assert_eq!(empty.is_sealed(), is_sealed);
        assert_eq!(empty.connect(&endpoint("b.example")).is_err(), is_sealed);
    }
}

#[test]
fn a_literal_needs_a_rule_and_an_admissible_address() {
    let policy = sealed(&["10.0.0.0/8", "8.8.8.8", "*.example.com"]);
    assert_eq!(
        allowed(&policy, "8.8.8.8").fixed().expect("fixed").addresses(),
        [SocketAddr::new(ip("8.8.8.8"), 443)]
    );
    assert_eq!(denied(&policy, "8.8.4.4").reason(), DenyReason::NotAllowed);
    for text in ["10.0.0.5", "[::ffff:10.0.0.5]"] {
        let denied = denied(&policy, text);
        assert_eq!(denied.reason(), DenyReason::Address(AddressClass::Private));
        assert_eq!(suggested(&denied).as_deref(), Some("private 10.0.0.5/32"));
    }
    let open = PolicyConfig { private: PrivateAccess::local(), ..config(&["10.0.0.0/8"]) };
    let dialable = allowed(&Policy::new(open), "[::ffff:10.0.0.5]:80").fixed().expect("fixed");
    assert_eq!(dialable.addresses(), [SocketAddr::new(ip("10.0.0.5"), 80)]);
}

#[test]
fn every_answer_is_checked() {
    let policy = sealed(&["*.example.com"]);
    let allowed = allowed(&policy, "a.example.com");
    let answers =
        ["10.0.0.1", "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "2606:4700::1"].map(ip);
    let dialable = allowed.admit(&answers).expect("some are public");
    let expected = ["8.8.8.8", "2606:4700::1"].map(|text| SocketAddr::new(ip(text), 443));
    assert_eq!(dialable.addresses(), expected);
    assert_eq!(
        dialable.dropped(),
        [(ip("10.0.0.1"), AddressClass::Private), (ip("64:ff9b::7f00:1"), AddressClass::Loopback),]
    );
    assert_eq!(dialable.name_for_proxy(), None);

    // A rebinding server: nothing is left.
    let denied =
        allowed.admit(&[ip("169.254.169.254"), ip("10.0.0.1")]).expect_err("none is public");
    assert_eq!(denied.reason(), DenyReason::Address(AddressClass::Metadata));
    assert_eq!(denied.refused_address(), Some(ip("169.254.169.254")));
    assert_eq!(suggested(&denied).as_deref(), Some("private 169.254.169.254/32"));
    assert_eq!(allowed.admit(&[]).expect_err("no answer").reason(), DenyReason::NoAddress);
}

#[test]
fn a_star_admits_no_private_address() {
    for policy in [sealed(&["*"]), public()] {
        let answers = ["127.0.0.1", "0.0.0.0", "192.168.1.1", "::1"].map(ip);
        allowed(&policy, "rebind.example").admit(&answers).expect_err("none is public");
        allowed(&policy, "localhost").admit(&[ip("127.0.0.1")]).expect_err("loopback");
        for text in ["127.0.0.1", "[::1]", "169.254.169.254", "[64:ff9b::a9fe:a9fe]", "0.0.0.0"] {
            assert!(matches!(denied(&policy, text).reason(), DenyReason::Address(_)), "{text}");
        }
    }
}

#[test]
fn services_of_the_host_are_reached_at_their_ports_only() {
    let policy = sealed(&["*", "host.matchlock.internal:8080"]);
    let service = allowed(&policy, "host.matchlock.internal:8080");
    let loopback = ["127.0.0.1", "::1"].map(|text| SocketAddr::new(ip(text), 8080));
    assert_eq!(service.fixed().expect("fixed").addresses(), loopback);
    // Never by the idea that a proxy has of the name.
    assert_eq!(service.by_name_only().name_for_proxy(), None);
    policy.resolve(&name("host.matchlock.internal")).expect("known");

    for (policy, text) in [
        (&policy, "host.matchlock.internal:8081"),
        (&policy, "host.docker.internal:8080"),
        (&public(), "host.docker.internal:8080"),
        (&sealed(&["host.docker.internal"]), "host.docker.internal:8080"),
    ] {
        let denied = denied(policy, text);
        assert_eq!(denied.reason(), DenyReason::NeedsPort, "{text}");
        assert_eq!(suggested(&denied).as_deref(), Some(text));
    }
    let denied = policy.resolve(&name("host.docker.internal")).expect_err("not opened");
    assert_eq!(suggested(&denied).as_deref(), Some("host.docker.internal:PORT"));
}

#[test]
fn a_proxy_gets_the_name() {
    let dialable = allowed(&sealed(&["example.com"]), "example.com").by_name_only();
    assert!(dialable.addresses().is_empty());
    assert_eq!(dialable.name_for_proxy(), Some(&endpoint("example.com")));
    let literal = allowed(&sealed(&["8.8.8.8"]), "8.8.8.8").by_name_only();
    assert_eq!((literal.addresses().len(), literal.name_for_proxy()), (1, None));
}

/// What would lift a refusal, as a text.
fn suggested(denied: &Denied) -> Option<String> {
    let Suggestion { allow_host, allow_private } = denied.suggestion()?;
    let private = allow_private.map(|range| format!("private {range}"));
    Some(allow_host.into_iter().chain(private).collect::<Vec<_>>().join(" "))
}

#[test]
fn refusals_say_what_and_how_to_lift_it() {
    let policy = sealed(&[]);
    for (text, message, suggestion) in [
        (
            "evil.example",
            "evil.example:443: not allowed (default egress deny)",
            Some("evil.example"),
        ),
        (
            "[2606:4700::1]:80",
            "[2606:4700::1]:80: not allowed (default egress deny)",
            Some("[2606:4700::1]"),
        ),
        (
            "10.0.0.5",
            "10.0.0.5:443: not allowed (default egress deny)",
            Some("10.0.0.5 private 10.0.0.5/32"),
        ),
        ("0.0.0.0", "0.0.0.0:443: not allowed (default egress deny)", None),
        (
            "host.docker.internal:80",
            "host.docker.internal:80: needs a rule with its exact name and port (default egress deny)",
            Some("host.docker.internal:80"),
        ),
    ] {
        let denied = denied(&policy, text);
        assert_eq!(denied.to_string(), message);
        assert_eq!(suggested(&denied).as_deref(), suggestion);
        // What is suggested is understood, and it helps.
        let suggestion = denied.suggestion().unwrap_or_default();
        if let Some(pattern) = &suggestion.allow_host {
            let private = suggestion.allow_private.map(|range| PrivateAccess::ranges(vec![range]));
            let config =
                PolicyConfig { private: private.unwrap_or_default(), ..config(&[pattern]) };
            allowed(&Policy::new(config), text);
        }
    }
    let denied = policy.resolve(&name("evil.example")).expect_err("sealed");
    assert_eq!(denied.to_string(), "evil.example: not allowed (default egress deny)");
    assert_eq!(denied.port(), None);

    let denied = denied_by_address();
    assert_eq!(denied.to_string(), "a.example:443: its address 127.0.0.1 is loopback");
    let json = serde_json::to_string(&denied.reason()).expect("json");
    assert_eq!(json, "\"loopback address\"");
    assert_eq!(denied.rule().to_string(), "address check");
}

fn denied_by_address() -> Denied {
    allowed(&sealed(&["a.example"]), "a.example").admit(&[ip("127.0.0.1")]).expect_err("loopback")
}

#[test]
fn added_hosts_have_their_addresses_and_need_a_rule() {
    let policy = Policy::new(PolicyConfig {
        add_hosts: vec![
            (name("db.example"), ip("10.0.0.5")),
            (name("cache.example"), ip("10.0.0.5")),
            (name("db.example"), ip("::ffff:10.0.0.6")),
        ],
        private: PrivateAccess::local(),
        ..config(&["db.example"])
    });
    assert_eq!(policy.added_addresses(&name("DB.example")), ["10.0.0.5", "10.0.0.6"].map(ip));
    assert!(policy.added_addresses(&name("other.example")).is_empty());
    assert_eq!(
        policy.names_of_added(ip("::ffff:10.0.0.5")),
        ["db.example", "cache.example"].map(name)
    );
    assert!(policy.names_of_added(ip("10.0.0.7")).is_empty());
    assert_eq!(denied(&policy, "cache.example").reason(), DenyReason::NotAllowed);
    let allowed = allowed(&policy, "db.example");
    allowed.admit(&policy.added_addresses(&name("db.example"))).expect("opened");
}

/// Issue 9: a service that listens on all addresses is behind the public ones of the host too.
#[test]
fn the_public_network_is_not_this_host() {
    let own: OwnAddresses = [ip("11.0.0.1")].into_iter().collect();
    for policy in [sealed(&["*", "11.0.0.0/8"]), public()].map(|p| p.on_host(own.clone())) {
        let refused = denied(&policy, "11.0.0.1:8000");
        assert_eq!(refused.reason(), DenyReason::Address(AddressClass::ThisHost));
        assert_eq!(suggested(&refused).as_deref(), Some("private 11.0.0.1/32"));
        let by_name = allowed(&policy, "wild.example");
        by_name.admit(&[ip("11.0.0.1")]).expect_err("it leads to this host");
        assert_eq!(
            by_name.admit(&[ip("11.0.0.1"), ip("11.0.0.2")]).expect("one").dropped().len(),
            1
        );
        allowed(&policy, "11.0.0.2:8000");
    }
    let private = "11.0.0.1".parse().expect("an address");
    let opened = Policy::new(PolicyConfig { private, ..config(&["*"]) }).on_host(own);
    allowed(&opened, "11.0.0.1:8000");
    let (more, _) = opened.with_added(&patterns(&["x.example"]));
    allowed(&more, "x.example").admit(&[ip("11.0.0.1")]).expect("named");
    let (less, _) = sealed(&["*", "x.example"])
        .on_host([ip("11.0.0.1")].into_iter().collect())
        .with_removed(&["x.example".to_owned()]);
    denied(&less, "11.0.0.1:8000");
}

fn bound(names: &[&str], address: &str, sni: Option<&str>) -> Connection {
    Connection {
        names: names.iter().map(|text| name(text)).collect(),
        address: address.parse().expect(address),
        sni: sni.map(name),
        bound: true,
    }
}

fn is_misdirected(policy: &Policy, connection: &Connection, authority: &str) -> bool {
    let result = policy.request(connection, &endpoint(authority));
    matches!(result, Err(RequestRefused::Misdirected { .. }))
}

#[test]
fn a_request_goes_where_its_connection_goes() {
    let policy = sealed(&["*"]);
    let synthetic = "198.19.0.1:443";
    for sni in [None, Some("a.example")] {
        let connection = bound(&["a.example", "b.example"], synthetic, sni);
        policy.request(&connection, &endpoint("A.example:443")).expect("the name of the flow");
        for authority in ["c.example", "a.example:80", "198.19.0.1", "sub.a.example", "[::1]"] {
            assert!(is_misdirected(&policy, &connection, authority), "{authority}");
        }
        // Both are names of the address, but the handshake was for one.
        assert_eq!(is_misdirected(&policy, &connection, "b.example"), sni.is_some());
    }
}

#[test]
fn a_request_on_a_flow_to_an_address_names_the_address() {
    let policy = sealed(&["8.8.8.8", "a.example"]);
    let connection = bound(&[], "8.8.8.8:443", None);
    policy.request(&connection, &endpoint("8.8.8.8")).expect("the literal");
    policy.request(&connection, &endpoint("[::ffff:8.8.8.8]")).expect("the literal, mapped");
    for authority in ["a.example", "8.8.4.4", "8.8.8.8:80"] {
        assert!(is_misdirected(&policy, &connection, authority), "{authority}");
    }
    let with_sni = bound(&[], "8.8.8.8:443", Some("a.example"));
    for authority in ["a.example", "8.8.8.8"] {
        assert!(is_misdirected(&policy, &with_sni, authority), "{authority}");
    }
}

#[test]
fn an_added_address_may_be_named_too() {
    let policy = Policy::new(PolicyConfig {
        add_hosts: vec![(name("db.example"), ip("8.8.8.8"))],
        ..config(&["*"])
    });
    let connection = bound(&["db.example"], "8.8.8.8:80", None);
    for authority in ["db.example:80", "8.8.8.8:80"] {
        policy.request(&connection, &endpoint(authority)).expect(authority);
    }
    assert!(is_misdirected(&policy, &connection, "other.example:80"));
}

#[test]
fn an_unbound_connection_is_what_its_server_name_says() {
    let policy = sealed(&["*", "10.0.0.1"]);
    let connection =
        |sni: Option<&str>| Connection { bound: false, ..bound(&[], "8.8.8.8:443", sni) };
    policy.request(&connection(Some("a.example")), &endpoint("a.example")).expect("same name");
    policy.request(&connection(None), &endpoint("a.example")).expect("no other witness");
    assert!(is_misdirected(&policy, &connection(Some("a.example")), "b.example"));
    assert!(is_misdirected(&policy, &connection(None), "a.example:80"));
    let refused = policy.request(&connection(None), &endpoint("10.0.0.1")).expect_err("private");
    assert!(matches!(refused, RequestRefused::Denied(_)));
}

#[test]
fn a_request_is_decided_by_the_policy_of_the_moment() {
    let policy = sealed(&["a.example"]);
    let connection = bound(&["a.example"], "198.19.0.1:443", Some("a.example"));
    policy.request(&connection, &endpoint("a.example")).expect("allowed");
    let (policy, _) = policy.with_removed(&["a.example".to_owned()]);
    let refused = policy.request(&connection, &endpoint("a.example")).expect_err("removed");
    assert_eq!(refused.to_string(), "a.example:443: not allowed (default egress deny)");
    let fronted = policy.request(&connection, &endpoint("b.example")).expect_err("other name");
    let message = "request for b.example:443 on a connection to a.example:443";
    assert_eq!(fronted.to_string(), message);
}

#[test]
fn a_host_that_is_an_address_is_not_a_name() {
    assert_ne!(Host::Ip(ip("127.0.0.1")), Host::Name(name("localhost")));
}
