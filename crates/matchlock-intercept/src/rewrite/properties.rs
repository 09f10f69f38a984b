//! What holds for every request, body and secret.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use matchlock_policy::{Secrets, Transport};
use proptest::prelude::*;

use super::testing::{allowed, head, placeholder, secrets, spec, text};
use super::*;
use crate::h1::RequestHead;

const HOSTS: [&str; 3] = ["one.example.com", "two.example.com", "three.example.net"];
const PATTERNS: [&str; 4] = ["one.example.com", "*.example.com", "three.example.net", "*"];

fn transport(tls: bool) -> Transport {
    if tls { Transport::Tls } else { Transport::Plain }
}

prop_compose! {
    fn some_secrets()(
        specs in prop::collection::vec(
            // Values cannot be confused with placeholders or with what the heads consist of.
            ("[v-z]{4}[!+/=%&\"#é]{0,3}[v-z]{6}", 0..PATTERNS.len(), any::<bool>(), any::<bool>()),
            1..4,
        ),
    ) -> Secrets {
        let specs = specs.into_iter().enumerate().map(|(at, (value, host, body, https_only))| {
            let mut spec = spec(&format!("KEY{at}"), &format!("{value}{at}"), PATTERNS[host]);
            (spec.body, spec.https_only) = (body, https_only);
            spec
        });
        secrets(specs.collect())
    }
}

/// Text with placeholders in it, each written in some way.
fn some_text() -> impl Strategy<Value = Vec<(String, usize, u8)>> {
    prop::collection::vec(("[a-c.=&:]{0,4}", 0..3usize, 0..5u8), 0..4)
}

fn render(parts: &[(String, usize, u8)], secrets: &Secrets) -> String {
    let known = secrets.iter().len();
    let part = |(before, at, form): &(String, usize, u8)| {
        let placeholder = placeholder(secrets, at % known);
        let written = match form {
            0 => placeholder,
            1 => placeholder.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            2 => placeholder.replace('_', "%5F"),
            3 => STANDARD.encode(format!("user:{placeholder}")),
            _ => String::new(),
        };
        format!("{before}{written}")
    };
    parts.iter().map(part).collect()
}

/// The output with its Basic credentials and percent-encodings undone too.
fn everything_readable(head: &RequestHead) -> String {
    let mut all = text(head);
    for (_, value) in head.headers.iter() {
        let token = value.to_str().and_then(|value| value.split(' ').next_back());
        if let Some(decoded) =
            token.and_then(|token| STANDARD_NO_PAD.decode(token.trim_end_matches('=')).ok())
        {
            all.push_str(&String::from_utf8_lossy(&decoded));
        }
    }
    let decoded = percent::decode(all.as_bytes());
    all + &String::from_utf8_lossy(&decoded)
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

/// The value of a secret; the tests made it.
fn value(secrets: &Secrets, at: usize) -> String {
    let everywhere = secrets.iter().nth(at).expect("a secret");
    let host = HOSTS.iter().find(|host| {
        let bound = secrets.reveal(&allowed(host), Transport::Tls);
        bound.permitted().any(|revealed| revealed.name == &everywhere.name)
    });
    let bound = secrets.reveal(&allowed(host.expect("a host of it")), Transport::Tls);
    let revealed = bound.permitted().find(|revealed| revealed.name == &everywhere.name);
    String::from_utf8(revealed.expect("it").value.to_vec()).expect("text")
}

proptest! {
    #[test]
    fn no_value_goes_to_a_host_that_it_is_not_bound_to(
        secrets in some_secrets(),
        host in prop::sample::select(&HOSTS[..]),
        tls in any::<bool>(),
        path in some_text(), query in some_text(), field in some_text(), basic in some_text(),
        padded in any::<bool>(),
    ) {
        let [path, query, field] = [&path, &query, &field].map(|parts| render(parts, &secrets));
        let basic = format!("u{}", render(&basic, &secrets));
        let token = if padded { STANDARD.encode(&basic) } else { STANDARD_NO_PAD.encode(&basic) };
        let field = format!("f{field}");
        let mut head = head(&format!("/{path}?{query}"), &[
            ("Host", host), ("X-Any", &field), ("Authorization", &format!("Basic {token}")),
        ]);
        let before = head.clone();
        let bound = secrets.reveal(&allowed(host), transport(tls));
        let permitted: Vec<_> = bound.permitted().map(|secret| secret.name.clone()).collect();
        let result = request(&mut head, &bound);
        let after = everything_readable(&head);
        let shown = everything_readable(&before);
        for (at, secret) in secrets.iter().enumerate() {
            if !permitted.contains(&secret.name) {
                prop_assert!(!holds(after.as_bytes(), &value(&secrets, at)));
                prop_assert!(result.is_err() || !holds(shown.as_bytes(), secret.placeholder.as_str()));
            }
        }
        match result {
            Err(_) => prop_assert_eq!(head, before),
            Ok(used) => for (at, secret) in secrets.iter().enumerate() {
                let sent = holds(after.as_bytes(), &value(&secrets, at));
                prop_assert_eq!(sent, used.contains(&secret.name), "{}", after);
            },
        }
    }

    #[test]
    fn bodies_get_what_is_permitted_however_they_are_split(
        secrets in some_secrets(),
        host in prop::sample::select(&HOSTS[..]),
        tls in any::<bool>(),
        body in some_text(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let body = render(&body, &secrets).into_bytes();
        let bound = secrets.reveal(&allowed(host), transport(tls));
        let mut expected = String::from_utf8(body.clone()).unwrap();
        for secret in bound.permitted().filter(|secret| secret.body) {
            let value = std::str::from_utf8(secret.value).unwrap();
            expected = expected.replace(secret.placeholder.as_str(), value);
        }
        let (mut replacer, mut scanner) = (BodyReplacer::new(&bound), LeakScanner::new(&bound));
        let mut whole = LeakScanner::new(&bound);
        let whole_leaks = whole.push(&body).and_then(|()| whole.finish()).is_err();
        let (mut out, mut leaks) = (Vec::new(), false);
        for chunk in split(&body, &cuts) {
            leaks |= scanner.push(chunk).is_err();
            replacer.push(chunk, &mut out);
        }
        leaks |= scanner.finish().is_err();
        replacer.finish(&mut out);
        prop_assert_eq!(leaks, whole_leaks);
        for (_, placeholder) in bound.foreign() {
            prop_assert!(leaks || !holds(&body, placeholder.as_str()));
        }
        prop_assert_eq!(replacer.used().next().is_some(), out != body);
        prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn splits_of_a_scrubbed_body_do_not_matter(
        // Close to the value and to its escapes, to come near to a match often.
        body in "(sec|ret|value|%72|\\\\u0065|&#x74;|%|\\\\|c2Vj|cmV0|dmFsdWU|736563|[a-z]){0,30}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let secrets = secrets(vec![spec("A", "secretvalue", "*"), spec("B", "%\\valu", "*")]);
        let bound = secrets.reveal(&allowed(HOSTS[0]), Transport::Tls);
        let run = |chunks: Vec<&[u8]>| {
            let mut scrubber = Scrubber::new(&bound, None).unwrap().unwrap();
            let mut out = Vec::new();
            for chunk in chunks {
                assert_eq!(scrubber.push(chunk, &mut out).unwrap(), Progress::Drained);
            }
            assert_eq!(scrubber.finish(&mut out).unwrap(), Progress::Drained);
            out
        };
        let whole = run(vec![body.as_bytes()]);
        prop_assert!(!holds(&whole, "secretvalue"));
        prop_assert_eq!(run(split(body.as_bytes(), &cuts)), whole);
    }
}

fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}
