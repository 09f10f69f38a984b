use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::bench::{Bench, FOREIGN_VALUE, VALUE};
use crate::audit::{Decision, Event};
use matchlock_intercept::hooks::Rules;

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: api.example.com\r\n{fields}Content-Length: {length}\r\n\r\n\
         {body}"
    )
}

#[tokio::test]
async fn placeholders_become_secrets_in_the_head_and_the_body() {
    let bench = Bench::new();
    let p = &bench.placeholder;
    let mut guest = bench.connect().await;
    let basic = STANDARD.encode(format!("user:{p}"));
    let fields = format!("Authorization: Bearer {p}\r\nX-Basic: x\r\nProxy-Other: y\r\n");
    guest.send(post(&format!("/echo?key={p}"), &fields, &format!("{{\"k\":\"{p}\"}}"))).await;
    assert!(guest.response().await.0.starts_with("HTTP/1.1 200"));
    let seen = bench.origin.last();
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {VALUE}")));
    assert_eq!(seen.target, format!("/echo?key={VALUE}"));
    assert_eq!(String::from_utf8_lossy(&seen.body), format!("{{\"k\":\"{VALUE}\"}}"));
    assert_eq!(seen.header("content-length"), Some(&*(VALUE.len() + 8).to_string()));
    guest.send(post("/echo", &format!("Authorization: Basic {basic}\r\n"), "")).await;
    guest.response().await;
    let wanted = STANDARD.encode(format!("user:{VALUE}"));
    assert_eq!(bench.origin.last().header("authorization"), Some(&*format!("Basic {wanted}")));
    let Event::Request { path, secrets, .. } = &bench.events()[0] else { panic!("a request") };
    assert_eq!(path, &format!("/echo?key={p}"));
    assert_eq!(secrets, &["API_KEY"]);
    assert!(!format!("{:?}", bench.events()).contains(VALUE));
}

#[tokio::test]
async fn a_long_or_chunked_body_is_replaced_as_it_goes() {
    let bench = Bench::new();
    let p = &bench.placeholder;
    let mut guest = bench.connect().await;
    let padding = "x".repeat(2 << 20);
    let sending = post("/upload", "", &format!("{padding}{p}"));
    // The server reads all of it before it answers.
    guest.send(sending).await;
    guest.response().await;
    let seen = bench.origin.last();
    assert_eq!(seen.body_length, (padding.len() + VALUE.len()) as u64);
    assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
    let (first, second) = p.split_at(20);
    guest
        .send(format!(
            "POST /echo HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n\
             14\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            second.len()
        ))
        .await;
    guest.response().await;
    assert_eq!(bench.origin.last().body, VALUE.as_bytes());
    let used = bench.events().into_iter().find_map(|event| match event {
        Event::Response { secrets, .. } => Some(secrets),
        _ => None,
    });
    assert_eq!(used, Some(vec!["API_KEY".to_owned()]), "the trail names it");
}

#[tokio::test]
async fn a_placeholder_for_another_host_is_blocked_and_goes_nowhere() {
    let bench = Bench::new();
    let f = &bench.foreign;
    let basic = STANDARD.encode(format!("user:{f}"));
    let table = [
        post("/echo", &format!("X-Any: {f}\r\n"), ""),
        post("/echo", &format!("Authorization: Basic {basic}\r\n"), ""),
        post(&format!("/echo?k={f}"), "", ""),
        post(&format!("/{f}"), "", ""),
    ];
    for request in &table {
        let mut guest = bench.connect().await;
        guest.send(request).await;
        let (head, body) = guest.response().await;
        assert!(head.starts_with("HTTP/1.1 403"), "{request}: {head}");
        assert_eq!(body, b"Blocked by policy");
    }
    assert!(bench.origin.requests().is_empty());
    let leaks = bench.events().into_iter().filter(|e| matches!(e, Event::SecretLeak { .. }));
    assert_eq!(leaks.count(), table.len());
    assert!(bench.requests().iter().all(|r| r.1 == Decision::Denied));
    assert!(!format!("{:?}", bench.events()).contains(FOREIGN_VALUE));
}

#[tokio::test]
async fn a_body_with_a_placeholder_for_another_host_is_broken_off() {
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(post("/echo", "", &format!("key={}", bench.foreign))).await;
    let (head, _) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert!(bench.origin.requests().iter().all(|request| request.body_sha256.is_none()));
    assert!(bench.events().iter().any(|e| matches!(e, Event::SecretLeak { .. })));
}

#[tokio::test]
async fn responses_are_scrubbed_on_request() {
    let bench = Bench::with(Rules::default(), None, true);
    let p = &bench.placeholder;
    let mut guest = bench.connect().await;
    for path in ["/echo", "/gzip", "/deflate", "/br", "/zstd"] {
        guest.send(post(path, &format!("X-Reflect: {p}\r\nRange: bytes=3-\r\n"), "")).await;
        let (head, body) = guest.response().await;
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains(&format!("[\"X-Reflect\",\"{p}\"]")), "{path}: {body}");
        assert!(!head.contains(VALUE) && !body.contains(VALUE), "{path}: {head}{body}");
        assert!(!head.to_ascii_lowercase().contains("content-encoding"), "{head}");
        let seen = bench.origin.last();
        assert_eq!((seen.header("x-reflect"), seen.header("range")), (Some(VALUE), None));
    }
    // Without it, an echo is an echo.
    let bench = Bench::new();
    let mut guest = bench.connect().await;
    guest.send(post("/echo", &format!("X-Reflect: {}\r\n", bench.placeholder), "")).await;
    let (head, _) = guest.response().await;
    assert!(head.contains(&format!("x-reflected: {VALUE}")), "{head}");
}
