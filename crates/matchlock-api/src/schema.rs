//! The JSON Schema (2020-12) of every line of `matchlock rpc`, and of the calls of the control socket.
//!
//! The tables of messages are its only source. The root accepts any line; `$defs` has a schema for each
//! type. What a schema of one line cannot say, which result belongs to which method, is in keywords of
//! our own, which a validator ignores: `methods`, `inputs`, `notifications` and `control`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::bytes::Base64;
use crate::create::SecretValue;
use crate::error::{ErrorCode, RpcError};
use crate::id::RequestId;
use crate::message::{Call, ControlCall, Input, MessageInfo, Notification};

/// Makes a schema; for a type with a name, a reference to it.
pub type Make = fn(&mut SchemaGenerator) -> Schema;

pub(crate) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The whole schema.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let keywords = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "matchlock rpc",
        "description": "Any line that a client of `matchlock rpc` sends or gets.",
        "anyOf": [{ "$ref": "#/$defs/ClientMessage" }, { "$ref": "#/$defs/ServerMessage" }],
        "methods": table(&mut generator, Call::ALL),
        "inputs": table(&mut generator, Input::ALL),
        "notifications": table(&mut generator, Notification::ALL),
        "control": table(&mut generator, ControlCall::ALL),
    });
    let client = client_message(&mut generator);
    let server = server_message(&mut generator);
    let mut types = generator.take_definitions(true);
    types.insert("ClientMessage".to_owned(), client);
    types.insert("ServerMessage".to_owned(), server);
    let Value::Object(mut document) = keywords else { return keywords };
    document.insert("$defs".to_owned(), Value::Object(types));
    Value::Object(document)
}

/// Each message of a table by its name.
fn table(generator: &mut SchemaGenerator, messages: &[MessageInfo]) -> Value {
    let entry = |info: &MessageInfo| {
        let mut entry = json!({
            "description": description(info),
            "needs_id": info.needs_id,
            "params": (info.params)(generator),
        });
        if let Some(result) = info.result {
            entry["result"] = (result)(generator).into();
        }
        (info.name.to_owned(), entry)
    };
    Value::Object(messages.iter().map(entry).collect())
}

fn client_message(generator: &mut SchemaGenerator) -> Value {
    let messages = Call::ALL.iter().chain(Input::ALL);
    let messages: Vec<_> = messages.map(|info| message(generator, info)).collect();
    json!({ "description": "What a client sends.", "oneOf": messages })
}

fn server_message(generator: &mut SchemaGenerator) -> Value {
    let id = of::<RequestId>(generator);
    let results: Vec<_> =
        Call::ALL.iter().filter_map(|info| info.result).map(|make| make(generator)).collect();
    let mut messages = vec![
        json!({
            "description": "What a request gave.",
            "type": "object",
            "properties": { "jsonrpc": version(), "id": id, "result": { "anyOf": results } },
            "required": ["jsonrpc", "id", "result"],
        }),
        json!({
            "description": "Why a request failed. Without an id, a line could not be read.",
            "type": "object",
            "properties": {
                "jsonrpc": version(),
                "id": { "anyOf": [id, { "type": "null" }] },
                "error": of::<RpcError>(generator),
            },
            "required": ["jsonrpc", "error"],
        }),
    ];
    messages.extend(Notification::ALL.iter().map(|info| message(generator, info)));
    json!({ "description": "What a client gets.", "oneOf": messages })
}

/// A request or a notification with its name.
fn message(generator: &mut SchemaGenerator, info: &MessageInfo) -> Value {
    let params = (info.params)(generator);
    let mut required = vec!["jsonrpc", "method"];
    if is_required(generator, &params) {
        required.push("params");
    }
    if info.needs_id {
        required.push("id");
    }
    let mut properties = Map::from_iter([
        ("jsonrpc".to_owned(), version()),
        ("method".to_owned(), json!({ "const": info.name })),
        ("params".to_owned(), params.into()),
    ]);
    // A notification has no id: its parameters may name the request that it belongs to.
    if !Notification::ALL.iter().any(|other| other.name == info.name) {
        properties.insert("id".to_owned(), of::<RequestId>(generator).into());
    }
    json!({
        "description": description(info),
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

/// Whether some of these parameters must be there.
fn is_required(generator: &SchemaGenerator, params: &Schema) -> bool {
    let name = params.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let schema = name.and_then(|name| generator.definitions().get(name));
    let required = schema.and_then(|schema| schema.get("required")).and_then(Value::as_array);
    required.is_some_and(|names| !names.is_empty())
}

fn version() -> Value {
    json!({ "const": "2.0" })
}

fn description(info: &MessageInfo) -> String {
    info.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The schema of a type that writes its own JSON.
macro_rules! own_schema {
    ($type:ty, $name:literal, $($json:tt)+) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($json)+)
            }
        }
    };
}

own_schema!(Base64, "Base64", {
    "description": "Bytes in Base64: RFC 4648, section 4.",
    "type": "string",
    "contentEncoding": "base64",
});

own_schema!(SecretValue, "SecretValue", {
    "description": "The value of a secret. It is never written anywhere.",
    "type": "string",
    "writeOnly": true,
});

own_schema!(RequestId, "RequestId", {
    "description": "What a client names a request by.",
    "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "maxLength": RequestId::MAX_TEXT },
    ],
});

own_schema!(ErrorCode, "ErrorCode", {
    "description": "What failed, as a number: JSON-RPC 2.0, section 5.1, and −32000 to −32003 of ours.",
    "type": "integer",
    "examples": ErrorCode::ALL.map(ErrorCode::number),
});
