use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::bytes::Base64;
use crate::create::CreateParams;
use crate::exec::{Chunk, ExecParams, ExitResult};
use crate::files::WriteFileParams;
use crate::line::LineDecoder;
use crate::message::method;

fn whole(line: &str) -> Incoming {
    receive(Line::Whole(line.as_bytes()))
}

fn refused(line: &str) -> (i64, Option<RequestId>, String) {
    match whole(line) {
        Incoming::Refused(Refusal { id, error }) => (error.code.number(), id, error.message),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_request_is_read() {
    let line = r#"{"jsonrpc": "2.0", "method": "exec", "id": 3, "params": {"command": "true"}}"#;
    let Incoming::Call { request, ignored } = whole(line) else { panic!("no call") };
    assert_eq!(request.id, Some(RequestId::Number(3)));
    let params = ExecParams { command: "true".into(), ..ExecParams::default() };
    assert_eq!(request.call, Call::Exec(params));
    assert!(ignored.is_empty());
}

#[test]
fn parameters_may_be_absent() {
    for line in [
        r#"{"jsonrpc":"2.0","method":"log","id":1}"#,
        r#"{"jsonrpc":"2.0","method":"log","id":1,"params":null}"#,
        r#"{"jsonrpc":"2.0","method":"log","id":1,"params":{"x":1}}"#,
    ] {
        assert!(matches!(whole(line), Incoming::Call { .. }), "{line}");
    }
}

#[test]
fn what_is_not_json_is_a_parse_error_without_an_id() {
    for line in ["{", "x", r#"{"jsonrpc":"2.0","id":1,"method":"exec","params":{"command":NaN}}"#] {
        let parse = (-32700, None, "Parse error".to_owned());
        assert_eq!(refused(line), parse, "{line}");
    }
    let answer = Refusal { id: None, error: envelope(b"{").err().expect("an error") }.to_line();
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    assert!(answer.get("id").is_none(), "{answer}");
}

#[test]
fn json_that_is_no_request_is_refused() {
    for (line, id) in [
        (r#"[{"jsonrpc":"2.0","method":"log","id":1}]"#, None),
        ("[]", None),
        ("1", None),
        ("null", None),
        (r#"{"jsonrpc":"2.0","method":"log","id":1,"id":2}"#, None),
        (r#"{"jsonrpc":"2.0","method":"log","id":-1}"#, None),
        (r#"{"jsonrpc":"2.0","method":"log","id":[1]}"#, None),
        (r#"{"jsonrpc":"2.0","result":{},"id":1}"#, Some(1)),
        (r#"{"jsonrpc":"2.0","method":7,"id":1}"#, Some(1)),
        (r#"{"jsonrpc":"1.0","method":"log","id":1}"#, Some(1)),
        (r#"{"method":"log","id":1}"#, Some(1)),
    ] {
        let (code, of, _) = refused(line);
        assert_eq!((code, of), (-32600, id.map(RequestId::Number)), "{line}");
    }
}

#[test]
fn a_method_that_tells_of_itself_by_its_id_needs_one() {
    for method in ["exec_stream", "exec_pipe", "exec_tty"] {
        let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"command":"x"}}}}"#);
        assert_eq!(refused(&line), (-32600, None, format!("{method} requires request id")));
    }
    assert_eq!(refused(r#"{"jsonrpc":"2.0","method":"log_stream","id":null}"#).0, -32600);
}

#[test]
fn unknown_methods_and_wrong_parameters_are_answered_only_if_there_is_an_id() {
    let unknown = r#"{"jsonrpc":"2.0","method":"reboot","id":1}"#;
    assert_eq!(refused(unknown), (-32601, Some(1.into()), "Method not found".to_owned()));
    assert_eq!(refused(r#"{"jsonrpc":"2.0","method":"exec","id":1}"#).0, -32602);
    for line in [r#"{"jsonrpc":"2.0","method":"reboot"}"#, r#"{"jsonrpc":"2.0","method":"exec"}"#] {
        assert!(matches!(whole(line), Incoming::Dropped(_)), "{line}");
    }
}

#[test]
fn input_is_never_answered() {
    let ok =
        r#"{"jsonrpc":"2.0","method":"exec_pipe.stdin","id":9,"params":{"id":3,"data":"aGk="}}"#;
    let chunk = Chunk { id: 3.into(), data: Base64(b"hi".to_vec()) };
    assert_eq!(whole(ok), Incoming::Input(Input::ExecPipeStdin(chunk)));
    for params in [r#"{"id":3,"data":"*"}"#, r#"{"data":""}"#, "[]", r#"{"id":3,"rows":-1}"#] {
        for info in Input::ALL.iter().filter(|info| !info.name.ends_with("eof")) {
            let name = info.name;
            let line = format!(r#"{{"jsonrpc":"2.0","method":"{name}","id":1,"params":{params}}}"#);
            assert!(matches!(whole(&line), Incoming::Dropped(_)), "{line}");
        }
    }
}

#[test]
fn a_text_that_is_no_unicode_has_an_answer_with_its_id() {
    // As Python writes a file name that is not UTF-8.
    let line = r#"{"jsonrpc":"2.0","method":"exec","id":5,"params":{"command":"\udcff"}}"#;
    let (code, id, _) = refused(line);
    assert_eq!((code, id), (-32602, Some(5.into())));
}

#[test]
fn nesting_without_an_end_is_refused_and_uses_no_stack() {
    let deep = "[".repeat(1 << 20);
    assert_eq!(refused(&deep).0, -32700);
    let deep = format!("{deep}{}", "]".repeat(1 << 20));
    assert_eq!(refused(&deep).0, -32600);
    let rule = format!(r#"{{"image":"x","network":{{"interception":{{"rules":[{deep}]}}}}}}"#);
    let line = format!(r#"{{"jsonrpc":"2.0","method":"create","id":1,"params":{rule}}}"#);
    assert_eq!(refused(&line).0, -32602);
}

#[test]
fn a_line_that_is_too_long_is_answered_by_its_id() {
    let mut decoder = LineDecoder::new(100);
    decoder.push(br#"{"jsonrpc": "2.0", "method": "write_file", "id": 7, "params": {"path": "/x", "content": ""#);
    decoder.push(&[b'A'; 5000]);
    decoder.push(b"\"}}\n{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"id\":8}\n");
    let Some(Incoming::Refused(refusal)) = decoder.next().map(receive) else {
        panic!("it was read")
    };
    assert_eq!((refusal.error.code.number(), refusal.id), (-32600, Some(7.into())));
    assert!(matches!(decoder.next().map(receive), Some(Incoming::Call { .. })));

    let input = br#"{"jsonrpc":"2.0","method":"exec_tty.stdin","id":7,"params":{"#;
    assert!(matches!(receive(Line::TooLong { head: input, tail: b"" }), Incoming::Dropped(_)));
}

#[test]
fn messages_have_the_form_of_the_contract() {
    let text = |line: Vec<u8>| String::from_utf8(line).expect("UTF-8");
    let result = ExitResult { exit_code: 3, duration_ms: 12 };
    assert_eq!(
        text(result_line::<method::ExecPipe>(&4.into(), &result)),
        "{\"jsonrpc\":\"2.0\",\"result\":{\"exit_code\":3,\"duration_ms\":12},\"id\":4}\n"
    );
    assert_eq!(
        text(result_line::<method::Close>(&5.into(), &crate::files::Empty {})),
        "{\"jsonrpc\":\"2.0\",\"result\":{},\"id\":5}\n"
    );
    let chunk = Chunk { id: 4.into(), data: Base64(b"hi".to_vec()) };
    assert_eq!(
        text(Notification::ExecPipeStdout(chunk).to_line()),
        "{\"jsonrpc\":\"2.0\",\"method\":\"exec_pipe.stdout\",\
         \"params\":{\"id\":4,\"data\":\"aGk=\"}}\n"
    );
}

#[test]
fn names_are_unique_and_those_of_the_contract() {
    let all = [Call::ALL, Input::ALL, Notification::ALL];
    let names: Vec<_> = all.into_iter().flatten().map(|info| info.name).collect();
    let unique: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), unique.len()), (15 + 5 + 9, 15 + 5 + 9));
}

fn any_call() -> impl Strategy<Value = Call> {
    let text = || proptest::option::of(".*");
    prop_oneof![
        (".*", text(), text()).prop_map(|(command, working_dir, user)| Call::ExecPipe(
            ExecParams { command, working_dir, user, env: None }
        )),
        (".*", any::<Vec<u8>>(), proptest::option::of(any::<u32>())).prop_map(
            |(path, content, mode)| Call::WriteFile(WriteFileParams {
                path,
                content: Base64(content),
                mode
            })
        ),
        (".+", proptest::option::of(proptest::collection::btree_map(".*", ".*", 0..4))).prop_map(
            |(image, env)| Call::Create(Box::new(CreateParams {
                image,
                env,
                ..CreateParams::default()
            }))
        ),
    ]
}

proptest! {
    #[test]
    fn a_request_survives(call in any_call(), id in any::<u64>(), text in proptest::option::of(".{0,30}")) {
        let id = text.map_or(RequestId::Number(id), |text| RequestId::Text(text.into()));
        let request = Request { id: Some(id), call };
        let line = request.to_line();
        prop_assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1), "one line");
        let read = receive(Line::Whole(&line[..line.len() - 1]));
        prop_assert_eq!(read, Incoming::Call { request, ignored: Ignored::default() });
    }

    #[test]
    fn a_notification_survives(id: u64, data: Vec<u8>) {
        let sent = Notification::LogStreamData(Chunk { id: id.into(), data: Base64(data) });
        match ServerMessage::parse(&sent.to_line()) {
            Ok(ServerMessage::Notification(read)) => prop_assert_eq!(read, sent),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn no_line_panics(bytes: Vec<u8>, text in "[\\[\\]{}\":,a-z0-9 ]{0,80}") {
        let _ = receive(Line::Whole(&bytes));
        let _ = receive(Line::Whole(text.as_bytes()));
        let _ = receive(Line::TooLong { head: text.as_bytes(), tail: &bytes });
        let _ = ServerMessage::parse(text.as_bytes());
    }
}

#[test]
fn a_client_reads_answers() {
    let line =
        result_line::<method::ExecPipe>(&4.into(), &ExitResult { exit_code: 1, duration_ms: 2 });
    let Ok(ServerMessage::Result { id, result }) = ServerMessage::parse(&line) else {
        panic!("none")
    };
    assert_eq!(id, 4.into());
    assert_eq!(ServerMessage::result::<method::ExecPipe>(&result).expect("one").exit_code, 1);
    assert!(ServerMessage::result::<method::ReadFile>(&result).is_err());

    let error = RpcError::new(ErrorCode::Cancelled, ErrorKind::Cancelled, "cancelled");
    let line = Refusal { id: Some(1.into()), error: error.clone() }.to_line();
    let Ok(ServerMessage::Error { id, error: read }) = ServerMessage::parse(&line) else {
        panic!("none")
    };
    assert_eq!((id, read), (Some(1.into()), error));

    let newer = json!({ "jsonrpc": "2.0", "method": "new.thing", "params": [] }).to_string();
    assert!(matches!(ServerMessage::parse(newer.as_bytes()), Ok(ServerMessage::Unknown { .. })));
    assert!(ServerMessage::parse(b"{}").is_err());
    assert!(ServerMessage::parse(b"x").is_err());
}
