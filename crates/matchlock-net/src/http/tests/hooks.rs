use std::path::PathBuf;

use matchlock_intercept::hooks::{Rules, WireRule};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::bench::{Bench, VALUE, bounded};
use crate::audit::Decision;
use crate::http::held::ALL_HELD;

pub(super) fn rules(of: Value) -> Rules {
    let wire: Vec<WireRule> = serde_json::from_value(of).unwrap();
    Rules::new(wire).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
}

/// What an SDK serves.
struct Callbacks {
    dir: TempDir,
    asked: mpsc::UnboundedReceiver<Value>,
}

impl Callbacks {
    /// Gives each question the answer that is made of it; none is silence.
    fn new(answer: impl Fn(&Value) -> Option<String> + Send + 'static) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("hook.sock")).unwrap();
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let question = serde_json::from_str(&line).unwrap();
                match answer(&question) {
                    Some(answer) => {
                        stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
                    }
                    None => silent.push(stream),
                }
                let _ = tell.send(question);
            }
        });
        Self { dir, asked }
    }

    fn socket(&self) -> Option<PathBuf> {
        Some(self.dir.path().join("hook.sock"))
    }
}

#[tokio::test]
async fn a_request_is_blocked_or_changed_by_rules() {
    let rules = rules(json!([
        {"name": "no", "action": "block", "methods": ["DELETE"]},
        {"name": "to", "path": "/get", "rewrite_path": "/anything/v2",
         "set_query": {"trace": "hooked"}, "set_headers": {"X-Set": "1", "Host": "evil.example"},
         "delete_headers": ["X-Gone", "Host"]},
    ]));
    let bench = Bench::with(rules, None, false);
    let mut guest = bench.connect().await;
    guest.send("GET /get HTTP/1.1\r\nHost: api.example.com\r\nX-Gone: 1\r\n\r\n").await;
    guest.response().await;
    let seen = bench.origin.last();
    assert_eq!(seen.target, "/anything/v2?trace=hooked");
    assert_eq!((seen.header("x-set"), seen.header("x-gone")), (Some("1"), None));
    assert_eq!(seen.header("host"), Some("api.example.com"));
    guest.send("DELETE /get HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await;
    let (head, _) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(bench.origin.requests().len(), 1);
    assert_eq!(bench.requests()[1].1, Decision::Denied);
}

#[tokio::test]
async fn a_response_is_changed_by_rules() {
    let rules = rules(json!([
        {"phase": "after", "set_response_headers": {"X-Set": "1"},
         "delete_response_headers": ["Content-Type"]},
        {"phase": "after", "path": "/chunked",
         "body_replacements": [{"find": "chunk", "replace": "lump!"}]},
    ]));
    let bench = Bench::with(rules, None, false);
    let mut guest = bench.connect().await;
    guest.send(get("/chunked?n=2")).await;
    let (head, body) = guest.response().await;
    assert!(head.contains("X-Set: 1") && !head.contains("ontent-type"), "{head}");
    assert!(head.contains("Content-Length: 16"), "{head}");
    assert_eq!(body, b"lump! 0\nlump! 1\n");
    guest.send(get("/bytes/3")).await;
    assert_eq!(guest.response().await.1, [0, 1, 2]);
}

#[tokio::test]
async fn bodies_that_are_held_back_are_bounded_together() {
    for (on_error, status) in [("allow", "HTTP/1.1 200"), ("block", "HTTP/1.1 403")] {
        let rules = rules(json!([
            {"phase": "after", "path": "/chunked", "on_error": on_error,
             "body_replacements": [{"find": "chunk", "replace": "lump!"}]},
        ]));
        let bench = Bench::with(rules, None, false);
        let placeholder = &bench.placeholder;
        let length = placeholder.len();
        let post = format!(
            "POST /echo HTTP/1.1\r\nHost: api.example.com\r\n\
            Content-Length: {length}\r\n\r\n{placeholder}"
        );
        let mut others = bench.shared.held().place();
        assert!(others.take(ALL_HELD) && !others.take(1));
        let mut guest = bench.connect().await;
        guest.send(&post).await;
        guest.response().await;
        assert_eq!(bench.origin.last().body, VALUE.as_bytes());
        assert_eq!(bench.origin.last().header("transfer-encoding"), Some("chunked"));
        guest.send(get("/chunked?n=2")).await;
        let (head, body) = guest.response().await;
        assert!(head.starts_with(status), "{head}");
        assert_eq!(body == b"chunk 0\nchunk 1\n", on_error == "allow");

        drop(others);
        let mut guest = bench.connect().await;
        guest.send(&post).await;
        guest.response().await;
        assert_eq!(bench.origin.last().body, VALUE.as_bytes());
        assert_eq!(bench.origin.last().header("transfer-encoding"), None);
        guest.send(get("/chunked?n=2")).await;
        assert_eq!(guest.response().await.1, b"lump! 0\nlump! 1\n");
        guest.close().await.unwrap();
        assert!(bench.shared.held().place().take(ALL_HELD), "all of it is given back");
    }
}

#[tokio::test]
async fn events_are_changed_one_by_one() {
    let rules = rules(json!([
        {"phase": "after", "body_replacements": [{"find": "\"id\"", "replace": "\"sid\""}]},
    ]));
    let bench = Bench::with(rules, None, false);
    let mut guest = bench.connect().await;
    guest.send(get("/sse?n=2&wait")).await;
    guest.until("\r\n\r\n").await;
    bench.origin.release(1);
    guest.until("{\"sid\":0").await;
    bench.origin.release(1);
    guest.until("{\"sid\":1").await;
    guest.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn callbacks_change_requests_and_responses() {
    let mut callbacks = Callbacks::new(|question| {
        let answer = if question["phase"] == "before" {
            json!({"request": {"headers": {"X-Only": ["a", "b"]}, "query": {"q": "2"}}})
        } else {
            json!({"response": {"set_body_base64": "bmV3IGJvZHk=",
                                "headers": {"X-Answer": ["yes"]}}})
        };
        Some(answer.to_string())
    });
    let rules = rules(json!([
        {"callback_id": "network_hook_1", "timeout_ms": 30000},
        {"callback_id": "network_hook_2", "phase": "after"},
    ]));
    let bench = Bench::with(rules, callbacks.socket(), false);
    let mut guest = bench.connect().await;
    let p = &bench.placeholder;
    guest
        .send(format!("GET /echo?q=1 HTTP/1.1\r\nHost: api.example.com\r\nX-Key: {p}\r\n\r\n"))
        .await;
    let (head, body) = guest.response().await;
    assert_eq!(body, b"new body");
    assert!(head.contains("X-Answer: yes") && head.contains("Content-Length: 8"), "{head}");
    let seen = bench.origin.last();
    assert_eq!(seen.target, "/echo?q=2");
    assert_eq!(seen.header("x-key"), None);
    assert_eq!(seen.headers.iter().filter(|(name, _)| name == "X-Only").count(), 2);
    let before = bounded(callbacks.asked.recv()).await.unwrap();
    assert_eq!(before["request_headers"]["X-Key"], json!([p]));
    assert_eq!(before["host"], "api.example.com");
    let after = bounded(callbacks.asked.recv()).await.unwrap();
    assert_eq!((&after["status_code"], &after["path"]), (&json!(200), &json!("/echo")));
    assert!(!before.to_string().contains(VALUE));
}

#[tokio::test]
async fn a_callback_that_fails_lets_pass_or_blocks() {
    let fails: [(&str, Option<&str>); 4] = [
        ("silent", None),
        ("error", Some(r#"{"error": "no idea"}"#)),
        ("form", Some("[1, 2]")),
        ("empty", Some("")),
    ];
    for (kind, answer) in fails {
        for (on_error, status) in [("allow", "HTTP/1.1 200"), ("block", "HTTP/1.1 403")] {
            for phase in ["before", "after"] {
                let callbacks = Callbacks::new(move |_| answer.map(str::to_owned));
                let rules = rules(json!([
                    {"callback_id": "x", "phase": phase, "timeout_ms": 50, "on_error": on_error},
                ]));
                let bench = Bench::with(rules, callbacks.socket(), false);
                let mut guest = bench.connect().await;
                guest.send(get("/echo")).await;
                let (head, _) = guest.response().await;
                assert!(head.starts_with(status), "{kind} {on_error} {phase}: {head}");
            }
        }
    }
}

#[tokio::test]
async fn a_rule_or_a_callback_may_block_a_response() {
    let callbacks = Callbacks::new(|_| Some(json!({"action": "block"}).to_string()));
    let rules = rules(json!([{"callback_id": "x", "phase": "after"}]));
    let bench = Bench::with(rules, callbacks.socket(), false);
    let mut guest = bench.connect().await;
    guest.send(get("/echo")).await;
    let (head, body) = guest.response().await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    assert_eq!(body, b"Blocked by policy");
    assert_eq!(bench.responses()[0].0, 403);
}
