//! The rewriting of HTTP: no value for a host that it is not bound to, no effect of how a body is
//! split.

use matchlock_intercept::h1::{Method, RequestHead, Target, Version};
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers};
use matchlock_intercept::hooks::{
    BodyEdit, BodyEditor, CallbackReply, OnError, RequestView, Rules, SseEditor, WireRule,
};
use matchlock_intercept::rewrite::{self, BodyReplacer, Decoder, LeakScanner, Progress, Scrubber};
use matchlock_policy::{
    Allowed, DefaultEgress, Endpoint, Policy, PolicyConfig, SecretSpec, Secrets, Transport,
};

/// Name, value, placeholder, host.
const SECRETS: [(&str, &str, &str, &str); 3] = [
    ("ONE", "first-value", "PLACEHOLDER-1", "one.example.com"),
    ("TWO", "second/value", "PLACEHOLDER-2", "*.example.com"),
    ("THREE", "third=value%", "PLACEHOLDER_3", "three.example.net"),
];
const HOSTS: [&str; 3] = ["one.example.com", "two.example.com", "three.example.net"];
const CODINGS: [Option<&[u8]>; 5] =
    [None, Some(b"gzip"), Some(b"deflate"), Some(b"br"), Some(b"zstd")];

/// Heads: a byte of options, a target, and fields, a line each.
pub fn rewrite_request(input: &[u8]) {
    let Some((&options, rest)) = input.split_first() else { return };
    let host = HOSTS[usize::from(options) % HOSTS.len()];
    let transport = if options & 0x80 == 0 { Transport::Tls } else { Transport::Plain };
    let Some(mut head) = head(host, rest) else { return };
    let before = head.clone();
    let secrets = secrets();
    let bound = secrets.reveal(&allowed(host), transport);
    let result = rewrite::request(&mut head, &bound);
    let (shown, sent) = (bytes(&before), bytes(&head));
    for (name, value, placeholder, _) in SECRETS {
        let permitted = bound.permitted().any(|secret| secret.name.as_str() == name);
        let new = holds(&sent, value) && !holds(&shown, value);
        assert!(permitted || !new, "{name} went to {host}");
        assert!(permitted || result.is_err() || !holds(&shown, placeholder), "{name} leaked");
    }
    if result.is_err() {
        assert!(head == before, "a refused request was changed");
    }
}

/// Bodies: a byte of options, eight of how they are split, and the body.
pub fn body_rewrite(input: &[u8]) {
    let Some((options, seed, body)) = options(input) else { return };
    let host = HOSTS[usize::from(options) % HOSTS.len()];
    let coding = CODINGS[usize::from(options >> 4) % CODINGS.len()];
    let secrets = secrets();
    let bound = secrets.reveal(&allowed(host), Transport::Tls);

    let replace = |chunks: &[&[u8]]| {
        let (mut replacer, mut out) = (BodyReplacer::new(&bound), Vec::new());
        chunks.iter().for_each(|chunk| replacer.push(chunk, &mut out));
        replacer.finish(&mut out);
        (out, replacer.used().cloned().collect::<Vec<_>>())
    };
    let scan = |chunks: &[&[u8]]| {
        let mut scanner = LeakScanner::encoded(&bound, coding);
        chunks.iter().any(|chunk| scanner.push(chunk).is_err()) || scanner.finish().is_err()
    };
    let scrub = |chunks: &[&[u8]]| {
        let mut scrubber = Scrubber::new(&bound, coding).ok()?.expect("a secret of each host");
        let mut out = Vec::new();
        drain(chunks, &mut out, |chunk, out| match chunk {
            Some(chunk) => scrubber.push(chunk, out).ok(),
            None => scrubber.finish(out).ok(),
        })?;
        Some(out)
    };
    let (whole, parts) = (&[body][..], &split(body, seed)[..]);
    let replaced = replace(parts);
    assert!(replace(whole) == replaced, "splits change what is replaced");
    // Of a body that breaks its coding, how much is seen before that depends on the decoder.
    if decodes(coding, body) {
        assert_eq!(scan(whole), scan(parts), "splits change what leaks");
    }
    let scrubbed = scrub(parts);
    assert!(scrub(whole) == scrubbed, "splits change what is scrubbed");
    for (name, value, _, _) in SECRETS {
        let permitted = bound.permitted().any(|secret| secret.name.as_str() == name);
        let new = holds(&replaced.0, value) && !holds(body, value);
        assert!(permitted || !new, "{name} went to {host}");
        let shown = |written: &[u8]| {
            scrubbed.as_ref().is_some_and(|scrubbed| {
                scrubbed.windows(written.len()).any(|window| window == written)
            })
        };
        assert!(!permitted || !shown(value.as_bytes()), "{name} came back");
        for unit in [2, 4] {
            let big = |byte| [vec![0; unit - 1], vec![byte]].concat();
            let wide: Vec<u8> = value.bytes().flat_map(big).collect();
            assert!(!permitted || !shown(&wide), "{name} came back in {unit} bytes each");
        }
    }
}

/// Event streams: a byte of options, eight of how they are split, and the stream.
pub fn sse_editor(input: &[u8]) {
    let Some((options, seed, stream)) = options(input) else { return };
    let coding = CODINGS[usize::from(options >> 4) % CODINGS.len()];
    let run = |chunks: &[&[u8]]| {
        let mut editor = SseEditor::new(edit(), coding).expect("a coding");
        let mut out = Vec::new();
        drain(chunks, &mut out, |chunk, out| match chunk {
            Some(chunk) => editor.push(chunk, out).ok(),
            None => editor.finish(out).ok(),
        })?;
        Some(out)
    };
    assert!(run(&[stream]) == run(&split(stream, seed)), "splits change the stream");
}

/// Rules and replies of callbacks, as JSON.
pub fn hook_reply(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let endpoint = Endpoint::parse(HOSTS[0], 443).expect("an endpoint");
    let mut head = head(HOSTS[0], b"/a%2fb?k=1\nX-A: b\nContent-Length: 3").expect("a head");
    let kept = |head: &RequestHead| {
        let names = ["host", "content-length", "transfer-encoding"];
        names.map(|name| head.headers.get_all(name).cloned().collect::<Vec<_>>())
    };
    let before = kept(&head);
    if let Ok(wire) = serde_json::from_str::<Vec<WireRule>>(&text)
        && let Ok(rules) = Rules::new(wire)
    {
        let mut matching = rules.before();
        while let Some(rule) = matching.next_for(&RequestView::new(&head, &endpoint)) {
            rule.apply_static_request(&mut head);
        }
    }
    if let Ok(reply) = CallbackReply::parse(input) {
        let unchanged = head.clone();
        if reply.apply_request(&mut head).is_err() {
            assert!(head == unchanged, "a reply that fails changes something");
        }
    }
    assert!(kept(&head) == before, "a hook changed the frame of a message");
    let target = head.target.path_and_query().expect("it has a path").as_bytes();
    let method = Method::try_from("GET").expect("a method");
    Target::parse(&method, &target.to_vec().into()).expect("a target that can be sent");

    let mut editor = BodyEditor::new(edit(), None).expect("a plain body");
    if editor.push(input).is_ok() {
        let _ = editor.finish();
    }
}

fn options(input: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&options, rest) = input.split_first()?;
    let (seed, rest) = rest.split_first_chunk::<8>()?;
    Some((options, u64::from_le_bytes(*seed), rest))
}

fn split(mut bytes: &[u8], mut seed: u64) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        // Knuth's MMIX generator; the high bits are the good ones.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let len = usize::from((seed >> 56).to_le_bytes()[0] % 32).min(bytes.len());
        let (chunk, rest) = bytes.split_at(len);
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

/// Gives a machine its chunks and then the end, each until there is no more.
fn drain(
    chunks: &[&[u8]],
    out: &mut Vec<u8>,
    mut step: impl FnMut(Option<&[u8]>, &mut Vec<u8>) -> Option<Progress>,
) -> Option<()> {
    for chunk in chunks {
        let mut chunk = *chunk;
        while step(Some(chunk), out)? == Progress::More {
            chunk = b"";
        }
    }
    while step(None, out)? == Progress::More {}
    Some(())
}

fn decodes(coding: Option<&[u8]>, body: &[u8]) -> bool {
    let Some(mut decoder) = Decoder::new(coding).expect("a coding") else { return true };
    decoder.push(body);
    decoder.finish();
    let mut out = Vec::new();
    loop {
        out.clear();
        match decoder.pull(&mut out) {
            Ok(Progress::More) => {}
            Ok(Progress::Drained) => return true,
            Err(_) => return false,
        }
    }
}

fn secrets() -> Secrets {
    let spec = |(name, value, placeholder, host): (&str, &str, &str, &str)| {
        let mut spec = SecretSpec::from_parts(name, value.to_owned(), &[host]).expect("a secret");
        spec.placeholder = Some(placeholder.to_owned());
        (spec.body, spec.scrub, spec.https_only) = (true, true, name == "TWO");
        spec
    };
    Secrets::new(SECRETS.map(spec).into(), &mut || [0; 16]).expect("secrets")
}

fn allowed(host: &str) -> Allowed {
    let config = PolicyConfig {
        default_egress: DefaultEgress::Public,
        intercept: true,
        ..PolicyConfig::default()
    };
    let endpoint = Endpoint::parse(host, 443).expect("an endpoint");
    Policy::new(config).connect(&endpoint).expect("a public host")
}

fn head(host: &str, text: &[u8]) -> Option<RequestHead> {
    let method = Method::try_from("GET").ok()?;
    let mut lines = text.split(|&byte| byte == b'\n');
    let target = Target::parse(&method, &lines.next()?.to_vec().into()).ok()?;
    let mut headers = Headers::new();
    headers.append(HeaderName::from_static("Host"), HeaderValue::try_from(host).ok()?);
    for line in lines {
        let colon = line.windows(2).position(|pair| pair == b": ")?;
        let name = HeaderName::new(line[..colon].to_vec()).ok()?;
        headers.append(name, HeaderValue::new(line[colon + 2..].to_vec()).ok()?);
    }
    Some(RequestHead { method, target, version: Version::Http11, headers })
}

fn bytes(head: &RequestHead) -> Vec<u8> {
    let mut bytes =
        head.target.path_and_query().map_or(&b""[..], |target| target.as_bytes()).to_vec();
    for (name, value) in head.headers.iter() {
        bytes.extend_from_slice(&[b"\n", name.as_bytes(), b": ", value.as_bytes()].concat());
    }
    bytes
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn edit() -> BodyEdit {
    let reply = br#"{"response": {"body_replacements": [
        {"find": "id", "replace": "sid"}, {"find": "ss", "replace": "s"}, {"find": "\n", "replace": ""}
    ]}}"#;
    let reply = CallbackReply::parse(reply).expect("a reply");
    let mut edit = BodyEdit::default();
    let mut head = matchlock_intercept::h1::ResponseHead {
        version: Version::Http11,
        status: matchlock_intercept::h1::Status::new(200).expect("a status"),
        reason: matchlock_intercept::h1::Reason::default(),
        headers: Headers::new(),
    };
    reply.apply_response(&mut head, &mut edit, OnError::Allow);
    edit
}
