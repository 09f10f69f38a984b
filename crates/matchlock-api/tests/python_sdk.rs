//! What the published Python SDK sends is understood, and what we send is what it understood: a record
//! of its methods against a fake server (`python_sdk/record.py`).

use std::collections::{BTreeMap, BTreeSet};

use matchlock_api::line::Line;
use matchlock_api::rpc::{Incoming, Request, ServerMessage, receive};
use matchlock_api::{Call, Input, Method, RequestId, method};
use serde::Serialize as _;
use serde_json::Value;
use serde_json::value::RawValue;

const RECORD: &str = include_str!("python_sdk/0.2.17.txt");

/// Lines of the client (`>`) or of the server (`<`).
fn lines(of: &'static str) -> impl Iterator<Item = &'static str> {
    RECORD.lines().filter_map(move |line| line.strip_prefix(of))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn every_line_of_the_client_is_understood_and_written_again_as_it_was() {
    let mut names = BTreeSet::new();
    for line in lines("> ") {
        let (name, params) = match receive(Line::Whole(line.as_bytes())) {
            Incoming::Call { request: Request { id: Some(_), call }, ignored } => {
                assert!(ignored.is_empty(), "{line}: {:?}", ignored.names());
                (call.name(), call.serialize(serde_json::value::Serializer))
            }
            Incoming::Input(input) => {
                (input.name(), input.serialize(serde_json::value::Serializer))
            }
            other => panic!("{line}: {other:?}"),
        };
        names.insert(name);
        let sent = json(line);
        let params = params.expect("JSON");
        let empty = Value::Object(serde_json::Map::new());
        assert_eq!(&params, sent.get("params").unwrap_or(&empty), "{line}");
    }
    // The SDK has no methods for the allow-list.
    let all = Call::ALL.iter().chain(Input::ALL).map(|info| info.name);
    let all: BTreeSet<_> = all.filter(|name| !name.starts_with("allow_list")).collect();
    assert_eq!(names, all, "methods in the record");
}

#[test]
fn every_answer_that_the_client_understood_is_one_of_ours() {
    let mut calls = BTreeMap::new();
    for line in lines("> ") {
        if let Incoming::Call { request: Request { id: Some(id), call }, .. } =
            receive(Line::Whole(line.as_bytes()))
        {
            // Each client of the record counts from 1: the last with a number has the same method.
            calls.entry(id).or_insert_with(Vec::new).push(call.name());
        }
    }
    for line in lines("< ") {
        match ServerMessage::parse(line.as_bytes())
            .unwrap_or_else(|error| panic!("{line}: {error}"))
        {
            ServerMessage::Result { id, result } => {
                assert!(is_result(&calls[&id], &result), "{line}");
            }
            ServerMessage::Error { id, error } => {
                assert!(matches!(id, Some(RequestId::Number(_))) && error.kind().is_some());
            }
            ServerMessage::Notification(sent) => {
                let line_again = String::from_utf8(sent.to_line()).expect("UTF-8");
                assert_eq!(line_again.trim_end(), line);
            }
            ServerMessage::Unknown { method } => panic!("{method}"),
        }
    }
}

/// Whether it is a result of one of these methods, and is written again as it was.
fn is_result(methods: &[&str], result: &RawValue) -> bool {
    fn of<M: Method>(result: &RawValue) -> bool {
        let read = ServerMessage::result::<M>(result);
        read.is_ok_and(|read| serde_json::to_value(read).expect("JSON") == json(result.get()))
    }
    methods.iter().any(|name| match *name {
        "create" => of::<method::Create>(result),
        "exec" => of::<method::Exec>(result),
        "exec_stream" | "exec_pipe" | "exec_tty" => of::<method::ExecPipe>(result),
        "write_file" => of::<method::WriteFile>(result),
        "read_file" | "log" => of::<method::ReadFile>(result),
        "list_files" => of::<method::ListFiles>(result),
        "port_forward" => of::<method::PortForward>(result),
        "cancel" => of::<method::Cancel>(result),
        "close" => of::<method::Close>(result),
        _ => false,
    })
}
