//! Secrets: their grammar, their placeholders, and who may see what.

use std::error::Error;

use matchlock_policy::{
    Endpoint, HostPattern, InvalidSecret, InvalidSecretFile, PlaceholderProblem, Policy,
    PolicyConfig, SecretName, SecretProblem, SecretSpec, SecretValue, Secrets, Transport,
    ValueProblem,
};
use proptest::prelude::*;

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<SecretSpec, InvalidSecret> {
    SecretSpec::parse(text, &no_env)
}

fn spec(name: &str, value: &str, placeholder: Option<&str>) -> SecretSpec {
    let hosts: Vec<HostPattern> = vec!["api.example.com".parse().expect("pattern")];
    let value = SecretValue::new(value).expect("value");
    let spec = SecretSpec::new(name.parse().expect("name"), value, hosts);
    SecretSpec { placeholder: placeholder.map(str::to_owned), ..spec }
}

/// Different bytes at every call.
fn counter() -> impl FnMut() -> [u8; 16] {
    let mut next = 0_u8;
    move || {
        next += 1;
        [next; 16]
    }
}

fn build(specs: Vec<SecretSpec>) -> Result<Secrets, InvalidSecret> {
    Secrets::new(specs, &mut counter())
}

fn problem(specs: Vec<SecretSpec>) -> SecretProblem {
    build(specs).expect_err("refused").problem().clone()
}

/// The values that a host gets over TLS.
fn revealed(specs: Vec<SecretSpec>, host: &str) -> Vec<(String, String)> {
    let policy = Policy::new(PolicyConfig {
        secrets: build(specs).expect("secrets"),
        allowed_hosts: vec!["*".parse().expect("pattern")],
        ..PolicyConfig::default()
    });
    let allowed = policy.connect(&Endpoint::parse(host, 443).expect(host)).expect("allowed");
    let bound = policy.secrets().reveal(&allowed, Transport::Tls);
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
    bound.permitted().map(|secret| (secret.name.to_string(), text(secret.value))).collect()
}

/// An error as a log would have it.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{error:?} {error:#?}");
    let mut next = Some(error);
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

#[test]
fn the_grammar_is_name_value_hosts() {
    for (text, value, hosts) in [
        ("K=v@a.example", "v", &["a.example"][..]),
        ("K=v@a.example, b.example ,", "v", &["a.example", "b.example"]),
        ("K=v,w@a.example", "v,w", &["a.example"]),
        ("K=user@corp:x=1,y@a.example", "user@corp:x=1,y", &["a.example"]),
        ("K==@a.example", "=", &["a.example"]),
        ("K= v @a.example", " v ", &["a.example"]),
        ("K=\"q\"@*.example.com:443", "\"q\"", &["*.example.com:443"]),
        ("K=v@*", "v", &["*"]),
        ("K=v@[::1]:80", "v", &["[::1]:80"]),
    ] {
        let spec = parse(text).unwrap_or_else(|error| panic!("{text}: {}", told(&error)));
        let found: Vec<String> = spec.hosts.iter().map(ToString::to_string).collect();
        assert_eq!((spec.name.as_str(), &*found.join("|")), ("K", &*hosts.join("|")), "{text}");
        let host = if hosts[0].contains("[::1]") { "[2606:4700::1]:80" } else { "sub.example.com" };
        let open = SecretSpec { hosts: vec!["*".parse().expect("pattern")], ..spec };
        assert_eq!(revealed(vec![open], host), [("K".to_owned(), value.to_owned())]);
    }
}

#[test]
fn a_value_may_come_from_the_environment() {
    let env = |name: &str| match name {
        "TOKEN" => Some("from the environment".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let spec =
        SecretSpec::parse("TOKEN@api.example.com,b.example", &env).expect("in the environment");
    assert_eq!(spec.hosts.len(), 2);
    let expected = ("TOKEN".to_owned(), "from the environment".to_owned());
    assert_eq!(revealed(vec![spec], "api.example.com"), [expected]);
    for name in ["EMPTY", "ABSENT"] {
        let error = SecretSpec::parse(&format!("{name}@api.example.com"), &env).expect_err(name);
        assert!(matches!(error.problem(), SecretProblem::NotInEnvironment(_)));
        assert!(told(&error).contains("sudo -E"), "{}", told(&error));
    }
}

#[test]
fn errors_name_the_secret_and_what_is_wrong() {
    for (text, display, source) in [
        ("K=v", "invalid secret \"K\"", "expected NAME=VALUE@host1,host2 or NAME@host1,host2"),
        ("sk-value", "invalid secret", "expected NAME=VALUE@host1,host2 or NAME@host1,host2"),
        (
            "K=v@",
            "invalid secret \"K\"",
            "no hosts given: name the hosts that may get it after '@', or '*' for every host",
        ),
        ("K=@a.example", "invalid secret \"K\"", "the value is empty"),
        ("K=a\nb@a.example", "invalid secret \"K\"", "the value contains a line break or a NUL"),
        ("K=v@a.example,b c", "invalid secret \"K\"", "host number 2 is not valid"),
        (
            "MY-KEY=v@a.example",
            "invalid secret",
            "the name must consist of letters, digits and '_' and not begin with a digit",
        ),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.to_string(), display, "{text}");
        assert_eq!(error.source().expect("a source").to_string(), source, "{text}");
    }
}

#[test]
fn names_are_those_of_variables() {
    for name in ["K", "_K", "API_KEY_2", "k"] {
        assert!(parse(&format!("{name}=v@a.example")).is_ok(), "{name}");
    }
    for name in ["", "2K", "A B", "A-B", "A.B", "Ä", "A\0", &"A".repeat(256)] {
        let error = parse(&format!("{name}=v@a.example")).expect_err(name);
        assert_eq!(error.problem(), &SecretProblem::Name);
    }
}

#[test]
fn generated_placeholders_have_the_known_form() {
    let secrets = build(vec![spec("A", "v", None), spec("B", "v", None)]).expect("secrets");
    let env: Vec<(String, String)> =
        secrets.env().map(|(name, own)| (name.to_string(), own.to_string())).collect();
    assert_eq!(
        env,
        [
            ("A".to_owned(), format!("SANDBOX_SECRET_{}", "01".repeat(16))),
            ("B".to_owned(), format!("SANDBOX_SECRET_{}", "02".repeat(16))),
        ]
    );
}

#[test]
fn unfit_placeholders_are_refused() {
    let long = "x".repeat(1025);
    for (text, expected) in [
        ("", PlaceholderProblem::TooShort),
        ("seven77", PlaceholderProblem::TooShort),
        (&*long, PlaceholderProblem::TooLong),
        ("with space", PlaceholderProblem::Character),
        ("with\ttab", PlaceholderProblem::Character),
        ("with\nline", PlaceholderProblem::Character),
        ("non-ascii-ü", PlaceholderProblem::Character),
        ("SANDBOX_SECRET_", PlaceholderProblem::LooksGenerated),
        ("SANDBOX_SECRET_mine", PlaceholderProblem::LooksGenerated),
        ("xSANDBOX_SECRET_00", PlaceholderProblem::LooksGenerated),
        ("BOX_SECR", PlaceholderProblem::LooksGenerated),
        ("_SECRET_0123abcd", PlaceholderProblem::LooksGenerated),
    ] {
        let expected = SecretProblem::Placeholder(expected);
        assert_eq!(problem(vec![spec("K", "v", Some(text))]), expected, "{text:?}");
    }
    for text in ["gho_sandbox_placeholder", "ghp_0000", "_SECRET_0123ABCD", "SANDBOX-SECRET_00"] {
        assert!(build(vec![spec("K", "v1", Some(text))]).is_ok(), "{text}");
    }
}

#[test]
fn overlapping_placeholders_are_refused() {
    let pair = |a: &str, b: &str| vec![spec("A", "va", Some(a)), spec("B", "vb", Some(b))];
    for (a, b) in [
        ("placeholder-1", "placeholder-1"),
        ("placeholder-1", "placeholder-12"),
        ("my-placeholder-1", "placeholder-1"),
        ("placeholder-1", "x-placeholder-1-x"),
    ] {
        assert!(matches!(problem(pair(a, b)), SecretProblem::Overlap(_)), "{a} {b}");
    }
    assert!(build(pair("placeholder-1", "placeholder-2")).is_ok());
    // Eight digits that are in the other's random ones.
    let hex = vec![spec("A", "va", None), spec("B", "vb", Some("01010101"))];
    assert!(matches!(problem(hex), SecretProblem::Overlap(_)));
    // A source of entropy that is none.
    let same = Secrets::new(vec![spec("A", "v", None), spec("B", "v", None)], &mut || [0; 16]);
    assert!(matches!(same.expect_err("same").problem(), SecretProblem::Overlap(_)));
}

#[test]
fn a_placeholder_shows_no_value() {
    let value = "the-real-value";
    for text in [value, "x-the-real-value-x", "real-value", "the-real"] {
        let own = vec![spec("A", value, Some(text))];
        let others = vec![spec("A", value, None), spec("B", "something-else", Some(text))];
        for specs in [own, others] {
            let error = build(specs).expect_err(text);
            assert!(matches!(error.problem(), SecretProblem::PlaceholderAndValue(_)), "{text}");
            assert!(!told(&error).contains(text), "{}", told(&error));
        }
    }
}

#[test]
fn a_secret_needs_hosts_and_a_name_of_its_own() {
    let nowhere = SecretSpec { hosts: Vec::new(), ..spec("K", "v", None) };
    assert_eq!(problem(vec![nowhere]), SecretProblem::NoHosts);
    let twice = vec![spec("K", "v", None), spec("K", "w", None)];
    assert_eq!(problem(twice), SecretProblem::DuplicateName);
    let short = SecretSpec { scrub: true, ..spec("K", "abc", None) };
    assert_eq!(problem(vec![short]), SecretProblem::Value(ValueProblem::TooShortToScrub));
}

#[test]
fn placeholders_can_be_given_by_name() {
    let mut specs = vec![spec("A", "va", None), spec("B", "vb", None)];
    SecretSpec::set_placeholder(&mut specs, "B=with=sign-1").expect("known");
    assert_eq!(specs[1].placeholder.as_deref(), Some("with=sign-1"));
    for (text, expected) in [
        ("C=placeholder", SecretProblem::NoSuchSecret),
        ("B", SecretProblem::Placeholder(PlaceholderProblem::Form)),
        ("B-B=placeholder", SecretProblem::Name),
    ] {
        let error = SecretSpec::set_placeholder(&mut specs, text).expect_err(text);
        assert_eq!(error.problem(), &expected);
    }
}

#[test]
fn only_its_own_hosts_get_a_secret() {
    let specs = || {
        vec![
            SecretSpec { body: true, ..spec("A", "value-a", None) },
            SecretSpec {
                hosts: vec!["*.example.com:443".parse().expect("pattern")],
                https_only: true,
                scrub: true,
                ..spec("B", "value-b", None)
            },
        ]
    };
    let policy = Policy::new(PolicyConfig {
        secrets: build(specs()).expect("secrets"),
        allowed_hosts: vec!["*".parse().expect("pattern")],
        ..PolicyConfig::default()
    });
    for (endpoint, transport, permitted, foreign, scrubbed) in [
        ("api.example.com:443", Transport::Tls, "A B", "", "B"),
        ("API.example.com:8443", Transport::Tls, "A", "B", ""),
        ("api.example.com:443", Transport::Plain, "A", "B", "B"),
        ("www.example.com:443", Transport::Tls, "B", "A", "B"),
        ("example.com:443", Transport::Tls, "", "A B", ""),
        ("evil.example:443", Transport::Tls, "", "A B", ""),
        ("8.8.8.8:443", Transport::Tls, "", "A B", ""),
    ] {
        let allowed =
            policy.connect(&Endpoint::parse(endpoint, 1).expect("endpoint")).expect("allowed");
        let bound = policy.secrets().reveal(&allowed, transport);
        let names = |names: Vec<&str>| names.join(" ");
        let found = names(bound.permitted().map(|secret| secret.name.as_str()).collect());
        assert_eq!(found, permitted, "{endpoint}");
        assert_eq!(names(bound.foreign().map(|(name, _)| name.as_str()).collect()), foreign);
        let found = names(bound.scrubbed().map(|secret| secret.name.as_str()).collect());
        assert_eq!(found, scrubbed, "{endpoint}");
        for secret in bound.permitted() {
            assert_eq!(secret.body, secret.name.as_str() == "A");
            assert!(secret.placeholder.as_str().starts_with("SANDBOX_SECRET_"));
        }
        assert!(
            !format!("{policy:?} {bound:?} {:?}", bound.permitted().collect::<Vec<_>>())
                .contains("value-")
        );
    }
}

#[test]
fn a_file_of_secrets_is_a_map_of_names() {
    let specs = SecretSpec::parse_file(
        br#"{
            "GH_TOKEN": {
                "value": "gho_real\u0031",
                "placeholder": "gho_sandbox_placeholder",
                "hosts": ["github.com", " api.github.com "]
            },
            "OTHER": { "value": "v", "hosts": ["*"], "body": true, "https_only": true, "scrub": false }
        }"#,
    )
    .expect("valid");
    let [first, second] = &*specs else { panic!("two secrets") };
    assert_eq!(first.placeholder.as_deref(), Some("gho_sandbox_placeholder"));
    assert_eq!(
        (first.hosts.len(), first.body, first.https_only, first.scrub),
        (2, false, false, false)
    );
    assert_eq!((second.body, second.https_only, second.scrub), (true, true, false));
    assert_eq!(second.placeholder, None);
    let expected = ["GH_TOKEN gho_real1", "OTHER v"].map(|text| {
        text.split_once(' ').map(|(name, value)| (name.to_owned(), value.to_owned())).expect("two")
    });
    assert_eq!(revealed(specs, "github.com"), expected);
    assert!(SecretSpec::parse_file(b" {} ").expect("empty").is_empty());
}

#[test]
fn a_file_of_another_form_is_refused_without_its_text() {
    let form = |text: &str| match SecretSpec::parse_file(text.as_bytes()) {
        Err(InvalidSecretFile::Form { line, .. }) => line,
        other => panic!("{text}: {other:?}"),
    };
    for text in [
        r#"[]"#,
        r#""CANARY""#,
        r#"{"K": "CANARY"}"#,
        r#"{"K": {"value": "CANARY"}}"#,
        r#"{"K": {"hosts": ["a.example"]}}"#,
        r#"{"K": {"value": "CANARY", "hosts": "CANARY"}}"#,
        r#"{"K": {"value": 1, "hosts": ["a.example"]}}"#,
        r#"{"K": {"value": "CANARY", "hosts": [], "CANARY": 1}}"#,
        r#"{"K": {"value": "CANARY", "value": "CANARY", "hosts": []}}"#,
        r#"{"K": {"value": "CANARY", "hosts": ["a.example"], "body": "CANARY"}}"#,
    ] {
        assert_eq!(form(text), 1);
    }
    assert_eq!(form("{\n\"K\": {\n\"value\": \"v\",\n\"unknown\": 1}}"), 4);
    for text in ["", "{", "K=v@a.example", r#"{"K": {"value": "CANARY}"#, "{} CANARY"] {
        let error = SecretSpec::parse_file(text.as_bytes()).expect_err(text);
        assert!(matches!(error, InvalidSecretFile::Json { .. }), "{text}: {error:?}");
    }
    assert!(SecretSpec::parse_file(b"{\"K\": {\"value\": \"\xff\", \"hosts\": []}}").is_err());

    for (text, expected) in [
        (r#"{"K": {"value": "v", "hosts": []}}"#, SecretProblem::NoHosts),
        (r#"{"K-K": {"value": "v", "hosts": ["a.example"]}}"#, SecretProblem::Name),
        (
            r#"{"K": {"value": "v\n", "hosts": ["a.example"]}}"#,
            SecretProblem::Value(ValueProblem::Character),
        ),
    ] {
        let Err(InvalidSecretFile::Secret(error)) = SecretSpec::parse_file(text.as_bytes()) else {
            panic!("{text}");
        };
        assert_eq!(error.problem(), &expected);
    }
    let twice = r#"{"K": {"value": "v", "hosts": ["*"]}, "K": {"value": "w", "hosts": ["*"]}}"#;
    let specs = SecretSpec::parse_file(twice.as_bytes()).expect("by itself");
    assert_eq!(problem(specs), SecretProblem::DuplicateName);
}

/// A value that occurs in no message by chance.
fn canary() -> impl Strategy<Value = String> {
    ("[ -~]{0,6}", "[ -~ü\n\0]{0,6}").prop_map(|(before, after)| format!("{before}CaNaRy{after}"))
}

/// What surrounds the value, right or wrong.
fn around() -> impl Strategy<Value = (String, String)> {
    ("[A-Z_ -]{0,4}=", r"[@,=]?[a-z@,\*:/ 0-9.\[\]-]{0,12}")
}

proptest! {
    #[test]
    fn no_parse_failure_tells_the_value(value in canary(), (before, after) in around()) {
        let text = format!("{before}{value}{after}");
        if let Err(error) = parse(&text) {
            prop_assert!(!told(&error).contains("CaNaRy"), "{}", told(&error));
        }
        if let Err(error) = SecretSpec::from_parts(&before, value.clone(), &[&after]) {
            prop_assert!(!told(&error).contains("CaNaRy"), "{}", told(&error));
        }
    }

    #[test]
    fn a_value_alone_is_not_told(value in "[A-Za-z0-9_,:/+.-]{0,8}-CaNaRy[A-Za-z0-9_,:/+.@-]{0,8}") {
        if let Err(error) = parse(&value) {
            prop_assert!(!told(&error).contains("CaNaRy"), "{}", told(&error));
        }
    }

    #[test]
    fn no_failure_of_a_file_tells_the_value(
        value in canary(),
        keys in proptest::collection::vec("value|hosts|placeholder|body|CaNaRy", 0..5),
        cut in any::<proptest::sample::Index>(),
    ) {
        let value = serde_json::to_string(&value).expect("json");
        let fields: Vec<String> = keys.iter().map(|key| match &**key {
            "hosts" => format!("\"hosts\": [{value}]"),
            key => format!("\"{key}\": {value}"),
        }).collect();
        let json = format!("{{\"K\": {{{}}}}}", fields.join(", "));
        let json = json.as_bytes();
        for json in [json, &json[..cut.index(json.len())]] {
            if let Err(error) = SecretSpec::parse_file(json) {
                prop_assert!(!told(&error).contains("CaNaRy"), "{}", told(&error));
            }
        }
    }

    #[test]
    fn no_failure_of_a_set_tells_a_value(value in "[!-~]{0,3}CaNaRy[!-~]{0,3}", wrap in "[!-~]{0,3}") {
        let given = format!("{wrap}{value}");
        let specs = vec![spec("A", &value, None), spec("B", "other", Some(&given))];
        let error = build(specs).expect_err("shows a value");
        prop_assert!(!told(&error).contains("CaNaRy"), "{}", told(&error));
        let debug = format!("{:?}", spec("A", &value, None));
        prop_assert!(!debug.contains("CaNaRy"), "{}", debug);
    }

    #[test]
    fn what_is_put_together_is_taken_apart(
        name in "[A-Za-z_][A-Za-z0-9_]{0,8}",
        value in "[ -~]{1,24}",
        hosts in proptest::collection::vec("[a-z]{1,5}\\.example", 1..4),
    ) {
        let spec = parse(&format!("{name}={value}@{}", hosts.join(","))).expect("valid");
        prop_assert_eq!(spec.name.as_str(), &*name);
        let found: Vec<String> = spec.hosts.iter().map(ToString::to_string).collect();
        prop_assert_eq!(&found, &hosts);
        prop_assert_eq!(revealed(vec![spec], &hosts[0]), [(name, value)]);
    }

    #[test]
    fn accepted_placeholders_never_overlap(
        a in "[a-c]{8,10}|SANDBOX_SECRET_[0-9a-f]{32}|0{8}",
        b in "[a-c]{8,10}|SECRET_[0-9a-f]{1,32}",
    ) {
        let specs = vec![spec("A", "1va", Some(&a)), spec("B", "2vb", Some(&b)), spec("C", "3vc", None)];
        if let Ok(secrets) = build(specs) {
            let all: Vec<&str> = secrets.env().map(|(_, own)| own.as_str()).collect();
            for (at, one) in all.iter().enumerate() {
                for (other_at, other) in all.iter().enumerate() {
                    prop_assert!(at == other_at || !one.contains(other));
                }
            }
        }
    }
}

fn of(texts: &[&str]) -> Secrets {
    let specs = texts.iter().map(|text| SecretSpec::parse(text, &|_| None).expect("valid"));
    let mut count = 0;
    Secrets::new(specs.collect(), &mut || {
        count += 1;
        [count; 16]
    })
    .expect("valid")
}

fn changed(secrets: &Secrets, name: &str, value: &str, hosts: &[&str]) -> Secrets {
    let hosts = hosts.iter().map(|host| host.parse().expect("a host")).collect();
    let value = SecretValue::new(value).expect("a value");
    secrets.with(name.parse().expect("a name"), value, hosts, &mut || [9; 16]).expect("valid")
}

#[test]
fn a_secret_that_is_set_again_keeps_its_placeholder_and_has_another_value() {
    let first = of(&["A=first-value@a.example.com", "B=other-value@b.example.com"]);
    let second = changed(&first, "A", "second-value", &[]);
    let names = |secrets: &Secrets| {
        secrets.iter().map(|s| (s.name.to_string(), s.placeholder.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), names(&second));
    let policy = |secrets| Policy::new(PolicyConfig { secrets, ..PolicyConfig::default() });
    let revealed = |policy: &Policy| {
        let endpoint = Endpoint::parse("a.example.com", 443).expect("an endpoint");
        let allowed = policy.connect(&endpoint).expect("allowed");
        let bound = policy.secrets().reveal(&allowed, Transport::Tls);
        let values = bound.permitted().map(|secret| secret.value.to_vec());
        values.collect::<Vec<_>>()
    };
    let before = policy(first.clone());
    assert_eq!(revealed(&before), [b"first-value".to_vec()]);
    assert_eq!(revealed(&before.with_secrets(second)), [b"second-value".to_vec()]);
    // Other hosts only if they are named.
    let moved = before.with_secrets(changed(&first, "A", "x-value", &["c.example.com"]));
    assert_eq!(moved.allowed_hosts(), ["c.example.com", "b.example.com"]);
    let gone = before.with_secrets(first.without(&"A".parse().expect("a name")).expect("there"));
    assert_eq!(gone.allowed_hosts(), ["b.example.com"]);
    let endpoint = Endpoint::parse("a.example.com", 443).expect("an endpoint");
    assert!(gone.connect(&endpoint).is_err());
    assert!(first.without(&"C".parse().expect("a name")).is_none());
}

#[test]
fn a_new_secret_needs_hosts_and_the_user_s_list_stays_as_it_is() {
    let none = Secrets::default();
    let value = || SecretValue::new("value").expect("a value");
    let name: SecretName = "NEW".parse().expect("a name");
    none.with(name.clone(), value(), Vec::new(), &mut || [1; 16]).expect_err("no hosts");
    let policy = Policy::new(PolicyConfig {
        allowed_hosts: vec!["a.example.com".parse().expect("a host")],
        ..PolicyConfig::default()
    });
    let with = policy.with_secrets(changed(&none, "NEW", "v", &["a.example.com", "n.example.com"]));
    assert_eq!(with.allowed_hosts(), ["a.example.com", "n.example.com"]);
    let (without_host, _) = with.with_removed(&["n.example.com".into()]);
    let again = without_host.with_secrets(changed(without_host.secrets(), "NEW", "w", &[]));
    assert_eq!(again.allowed_hosts(), ["a.example.com"], "what was removed stays removed");
    let gone = again.with_secrets(again.secrets().without(&name).expect("there"));
    assert_eq!(gone.allowed_hosts(), ["a.example.com"]);
    assert!(gone.secrets().is_empty());
}
