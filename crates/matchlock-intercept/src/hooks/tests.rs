use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use matchlock_policy::Endpoint;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::h1::{RequestHead, ResponseHead};
use crate::rewrite::testing::{head, headers, text};
use crate::rewrite::{Progress, encode};

fn rules(rules: serde_json::Value) -> Rules {
    Rules::new(serde_json::from_value(rules).expect("rules")).expect("valid rules")
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::parse(text, 443).expect("an endpoint")
}

/// Runs the rules over a request without asking callbacks; `None` if one blocks.
fn before(all: &Rules, host: &str, head: &mut RequestHead) -> Option<Vec<String>> {
    let endpoint = endpoint(host);
    let (mut matching, mut names) = (all.before(), Vec::new());
    while let Some(rule) = matching.next_for(&RequestView::new(head, &endpoint)) {
        if rule.block() {
            return None;
        }
        rule.apply_static_request(head);
        names.push(rule.name().to_owned());
    }
    Some(names)
}

fn response(fields: &[(&str, &str)]) -> ResponseHead {
    ResponseHead {
        version: crate::h1::Version::Http11,
        status: crate::h1::Status::new(200).expect("a status"),
        reason: crate::h1::Reason::default(),
        headers: headers(fields),
    }
}

fn edit(replacements: &[(&str, &str)], set_body: Option<&str>) -> BodyEdit {
    let replacements: Vec<_> = replacements
        .iter()
        .map(|(find, replace)| json!({"find": find, "replace": replace}))
        .collect();
    let set_body = set_body.map(|body| STANDARD.encode(body));
    let reply = json!({"response": {
        "headers": null, "body_replacements": replacements, "set_body_base64": set_body,
    }});
    let mut edit = BodyEdit::default();
    let reply = CallbackReply::parse(reply.to_string().as_bytes()).expect("a reply");
    reply.apply_response(&mut response(&[]), &mut edit, OnError::Allow);
    edit
}

#[test]
fn requests_are_changed_in_place() {
    let rules = rules(json!([{
        "name": "rewrite", "action": "mutate", "phase": "before",
        "hosts": ["example.com"], "methods": ["get"], "path": "/v1/*",
        "set_headers": {"X-New": " 1 ", "accept": "b", "Host": "evil.example"},
        "delete_headers": ["x-old", "Content-Length", "X-New2"],
        "set_query": {"trace": "hooked", "z": "a b"}, "delete_query": ["k"],
        "rewrite_path": "/anything/v2 %?",
        "unknown": 1, "callback_id": null, "timeout_ms": null, "body_replacements": null,
    }]));
    let fields =
        [("Host", "example.com"), ("Accept", "a"), ("X-Old", "1"), ("Content-Length", "0")];
    let mut request = head("/v1/ch%61t?z=1&k=2&b=%2f&z=3", &fields);
    assert_eq!(before(&rules, "example.com", &mut request).unwrap(), ["rewrite"]);
    assert_eq!(
        text(&request),
        "/anything/v2%20%25%3F?b=%2F&trace=hooked&z=a+b\n\
         Host: example.com\nAccept: b\nContent-Length: 0\nX-New: 1"
    );
}

#[test]
fn rules_match_by_host_method_and_decoded_path() {
    let all = rules(json!([
        {"action": "block", "hosts": ["*.example.com", "example.net:8443"], "methods": ["POST", "get"],
         "path": "/a b/*"},
    ]));
    for (host, target, blocked) in [
        ("www.example.com", "/a%20b/c", true),
        ("WWW.example.com:80", "/a%20b/c", true),
        ("example.net:8443", "/a%20b/c?d", true),
        ("example.net", "/a%20b/c", false),
        ("example.com", "/a%20b/c", false),
        ("www.example.com", "/a%20b/c/d", false),
        ("www.example.com", "/a%20b%2fc%2Fd", false),
    ] {
        let mut request = head(target, &[("Host", host)]);
        let result = before(&all, host, &mut request);
        assert_eq!(result.is_none(), blocked, "{host} {target}");
    }
    let all = rules(json!([{"action": "block", "methods": ["PUT"]}]));
    assert!(before(&all, "example.com", &mut head("/", &[])).is_some());
}

#[test]
fn later_rules_see_what_earlier_ones_did() {
    let all = rules(json!([
        {"name": "one", "rewrite_path": "/two", "path": "/one"},
        {"name": "nothing"},
        {"name": "also nothing", "phase": "before", "set_response_headers": {"a": "b"}},
        {"name": "not now", "phase": "AFTER", "set_response_headers": {"a": "b"}},
        {"name": "again", "path": "/one", "action": "block"},
        {"name": "two", "path": "/two", "set_query": {"a": ""}},
    ]));
    let mut request = head("/one", &[]);
    assert_eq!(before(&all, "example.com", &mut request).unwrap(), ["one", "two"]);
    assert_eq!(text(&request), "/two?a=");
    let mut matching = all.after();
    let endpoint = endpoint("example.com");
    let view = RequestView::new(&request, &endpoint);
    assert_eq!(matching.next_for(&view).unwrap().name(), "not now");
    assert!(matching.next_for(&view).is_none());
}

#[test]
fn wrong_rules_are_refused() {
    for (rule, expected) in [
        (json!({"hosts": ["a b"]}), "the host \"a b\" is not a pattern"),
        (json!({"path": "/["}), "the path \"/[\" is not a pattern"),
        (json!({"set_headers": {"a b": "secret"}}), "the header \"a b\" cannot be set"),
        (json!({"set_headers": {"a": "secret\r\n"}}), "the header \"a\" cannot be set"),
        (
            json!({"phase": "after", "set_response_headers": {"": ""}}),
            "the header \"\" cannot be set",
        ),
        (json!({"rewrite_path": "/\0"}), "the path cannot be rewritten to \"/\\0\""),
        (json!({"on_error": "ask"}), "on_error is \"ask\", neither \"allow\" nor \"block\""),
    ] {
        let wire = vec![WireRule::default(), serde_json::from_value(rule).unwrap()];
        let error = Rules::new(wire).unwrap_err();
        assert_eq!(error.to_string(), "network rule 2 (\"\") is not valid");
        assert_eq!(error.problem.to_string(), expected);
    }
}

#[test]
fn errors_block_where_the_rule_blocks_or_says_so() {
    use OnError::{Allow, Block};
    for (rule, expected) in [
        (json!({"callback_id": "a", "timeout_ms": 5}), Allow),
        (json!({"callback_id": "a", "on_error": "block"}), Block),
        (json!({"action": "block"}), Block),
        (json!({"action": "block", "on_error": "allow"}), Allow),
    ] {
        let all = rules(json!([rule]));
        let (endpoint, head) = (endpoint("example.com"), head("/", &[]));
        let mut matching = all.before();
        let rule = matching.next_for(&RequestView::new(&head, &endpoint)).unwrap();
        assert_eq!(rule.on_error(), expected, "{rule:?}");
        assert_eq!(rule.timeout().is_some(), rule.callback_id().is_some() && expected == Allow);
    }
}

#[test]
fn callbacks_are_told_what_the_contract_says() {
    let all =
        rules(json!([{"callback_id": "network_hook_1"}, {"phase": "after", "callback_id": "2"}]));
    let endpoint = endpoint("example.com");
    let fields = [("host", "example.com"), ("x-request-id", "1"), ("X-Request-ID", "2")];
    let request = head("/a%20b?k=1&k=2", &fields);
    let view = RequestView::new(&request, &endpoint);
    let rule = all.before().next_for(&view).unwrap();
    let line = CallbackRequest::before(rule, &view, &request).unwrap().to_line();
    assert_eq!(line.last(), Some(&b'\n'));
    let told: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let before = json!({
        "callback_id": "network_hook_1", "phase": "before", "host": "example.com", "method": "GET",
        "path": "/a b", "query": {"k": "1"}, "request_headers": {"X-Request-Id": ["1", "2"]},
    });
    assert_eq!(told, before);
    let rule = all.after().next_for(&view).unwrap();
    let response = response(&[("content-type", "Text/Event-Stream; charset=utf-8")]);
    let line = CallbackRequest::after(rule, &view, &request, &response).unwrap().to_line();
    let told: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let mut after = before;
    after["callback_id"] = "2".into();
    after["phase"] = "after".into();
    after["status_code"] = 200.into();
    after["response_headers"] = json!({"Content-Type": ["Text/Event-Stream; charset=utf-8"]});
    after["is_sse"] = true.into();
    assert_eq!(told, after);
}

#[test]
fn replies_replace_all_fields_but_those_that_frame_the_message() {
    let fields =
        [("Host", "a.com"), ("x-a", "1"), ("Content-Length", "3"), ("X-B", "1"), ("x-a", "2")];
    let reply = |reply: serde_json::Value| {
        let mut request = head("/a%2fb?k=1&k=2", &fields);
        let reply = CallbackReply::parse(reply.to_string().as_bytes()).unwrap();
        reply.apply_request(&mut request).map(|()| text(&request).replace('\n', "; "))
    };
    let unchanged = "/a%2fb?k=1&k=2; Host: a.com; x-a: 1; Content-Length: 3; X-B: 1; x-a: 2";
    for nothing in [
        json!({}),
        json!({"action": null, "request": null, "response": null, "error": null}),
        json!({"request": {"headers": null, "query": null, "path": ""}}),
        json!({"request": {"path": "/a/b"}}),
    ] {
        assert_eq!(reply(nothing).unwrap(), unchanged);
    }
    let all = json!({"request": {
        "headers": {"X-A": ["3", "4"], "host": ["evil"], "content-length": "9", "New": "5", "N": null},
        "query": {"z": "1", "b": "&"}, "path": "c d",
    }});
    let expected = "/c%20d?b=%26&z=1; Host: a.com; x-a: 3; x-a: 4; Content-Length: 3; New: 5";
    assert_eq!(reply(all).unwrap(), expected);
    let none = json!({"request": {"headers": {}, "query": {}}});
    assert_eq!(reply(none).unwrap(), "/a%2fb; Host: a.com; Content-Length: 3");
    assert!(matches!(reply(json!({"request": {"path": "/\0"}})), Err(CallbackError::Target(_))));
}

#[test]
fn replies_that_cannot_be_followed_are_errors() {
    let parse = |text: &str| CallbackReply::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(parse(""), CallbackError::Form(_)));
    assert!(matches!(parse("{} {}"), CallbackError::Form(_)));
    assert!(matches!(parse(r#"{"action": "block", "error": "no"}"#), CallbackError::Failed(_)));
    let header = parse(r#"{"request": {"headers": {"a": ["b\r\nc: d"]}}}"#);
    assert!(matches!(header, CallbackError::Header { .. }));
    assert!(matches!(parse(r#"{"response": {"set_body_base64": "!"}}"#), CallbackError::Body(_)));
    assert!(CallbackReply::parse(b"{\"action\": \"block\"}\n").unwrap().block());
}

#[test]
fn bodies_are_set_then_replaced() {
    let finish = |edit: BodyEdit, coding: Option<&str>, body: &[u8]| {
        let mut editor = BodyEditor::new(edit, coding.map(str::as_bytes))?;
        editor.push(body)?;
        editor.finish().map(|body| String::from_utf8(body).unwrap())
    };
    let foobar = [("foo", "bar"), ("", "x"), ("barbar", "b")];
    assert_eq!(finish(edit(&foobar, None), None, b"a foo foofoo").unwrap(), "a bar b");
    let gzip = encode("gzip", b"a foo");
    assert_eq!(finish(edit(&foobar, None), Some("gzip"), &gzip).unwrap(), "a bar");
    assert_eq!(finish(edit(&foobar, Some("foo!")), Some("unknown"), &gzip).unwrap(), "bar!");
    let unknown = finish(edit(&foobar, None), Some("unknown"), &gzip);
    assert!(matches!(unknown, Err(EditError::Undecodable(_))));
    let cut = finish(edit(&foobar, None), Some("gzip"), &gzip[..9]);
    assert!(matches!(cut, Err(EditError::Undecodable(_))));

    let mut both = edit(&[("b", "c")], Some("one"));
    let second = edit(&[("c", "d")], Some("b two"));
    both.add(&second_replacements(), Some(b"b two".to_vec()), OnError::Block);
    assert!(second.replaces_all());
    assert_eq!(both.on_error(), OnError::Block);
    assert_eq!(finish(both, None, b"").unwrap(), "d two");
}

fn second_replacements() -> Vec<Replacement> {
    Replacement::list(vec![WireReplacement { find: "c".into(), replace: "d".into() }])
}

#[test]
fn bodies_are_bounded() {
    let edit = edit(&[("a", "bb")], None);
    assert!(edit.fits(MAX_BODY as u64) && !edit.fits(MAX_BODY as u64 + 1));
    let mut editor = BodyEditor::new(edit.clone(), None).unwrap();
    let most = vec![b'a'; MAX_BODY];
    editor.push(&most).unwrap();
    assert!(matches!(editor.push(b"a"), Err(EditError::TooLarge)));
    assert_eq!(editor.received().len(), MAX_BODY);
    assert!(matches!(editor.finish(), Err(EditError::TooLarge)));
    assert_eq!(editor.received().len(), MAX_BODY);
    let mut bomb = BodyEditor::new(edit, Some(b"zstd")).unwrap();
    bomb.push(&encode("zstd", &vec![0; MAX_BODY + (1 << 20)])).unwrap();
    assert!(matches!(bomb.finish(), Err(EditError::TooLarge)));
}

fn stream(edit: &BodyEdit, coding: Option<&str>, chunks: &[&[u8]]) -> Result<String, EditError> {
    let mut editor = SseEditor::new(edit.clone(), coding.map(str::as_bytes))?;
    let mut out = Vec::new();
    for chunk in chunks {
        let mut chunk = *chunk;
        while editor.push(chunk, &mut out)? == Progress::More {
            chunk = b"";
        }
    }
    while editor.finish(&mut out)? == Progress::More {}
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[test]
fn only_payloads_of_events_are_edited() {
    let edit = edit(&[("\"id\"", "\"sid\""), ("d", "D"), (" ", "_")], None);
    let input =
        "\u{feff}data: {\"id\": d}\r\nid: d\n: data\ndata:d\rdata\ndatad: d\n\ndata: last d";
    let expected =
        "\u{feff}data: {\"siD\":_D}\r\nid: d\n: data\ndata:D\rdata\ndatad: d\n\ndata: last_D";
    assert_eq!(stream(&edit, None, &[input.as_bytes()]).unwrap(), expected);
    let gzip = encode("gzip", input.as_bytes());
    assert_eq!(stream(&edit, Some("gzip"), &[&gzip]).unwrap(), expected);
    assert!(matches!(stream(&edit, Some("gzip"), &[b"data:"]), Err(EditError::Undecodable(_))));
    assert!(SseEditor::new(edit, Some(b"unknown")).is_err());
}

#[test]
fn whole_lines_come_out_at_once() {
    let mut editor = SseEditor::new(edit(&[("a", "b")], None), None).unwrap();
    let mut out = Vec::new();
    assert_eq!(editor.push(b"data: a\ndata: a", &mut out).unwrap(), Progress::Drained);
    assert_eq!(out, b"data: b\n");
}

#[test]
fn lines_are_bounded() {
    let long = [&b"data:"[..], &vec![b'a'; MAX_LINE - 5]].concat();
    let same = edit(&[("b", "c")], None);
    assert_eq!(stream(&same, None, &[&long]).unwrap().len(), MAX_LINE);
    assert!(matches!(stream(&same, None, &[&long, b"a"]), Err(EditError::LineTooLong)));
    let larger = edit(&[("a", "bb")], None);
    assert!(matches!(stream(&larger, None, &[&long]), Err(EditError::LineTooLong)));
}

proptest! {
    #[test]
    fn splits_do_not_matter(chunks in prop::collection::vec("(data:|data|a|b|:| |\r|\n|\u{feff}){0,6}", 0..8)) {
        let edit = edit(&[("a", "bb"), ("bbb", "a")], None);
        let whole = chunks.concat();
        let chunks: Vec<&[u8]> = chunks.iter().map(String::as_bytes).collect();
        let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        let expected = stream(&edit, None, &[whole.as_bytes()]).unwrap();
        prop_assert_eq!(&stream(&edit, None, &chunks).unwrap(), &expected);
        prop_assert_eq!(&stream(&edit, None, &bytes).unwrap(), &expected);
    }
}
