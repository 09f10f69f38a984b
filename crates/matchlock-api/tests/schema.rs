//! The schema accepts what is really sent, and little else.

#![cfg(feature = "schema")]

use boon::{Compiler, Schemas};
use matchlock_api::schema;
use serde_json::{Value, json};

const RECORD: &str = include_str!("python_sdk/0.2.17.txt");

/// Whether a part of the schema accepts a value, and if not, why.
struct Validator {
    schemas: Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn of(part: &str) -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("rpc.json", schema::document()).expect("a schema");
        let index = compiler.compile(&format!("rpc.json#/$defs/{part}"), &mut schemas);
        Self { index: index.expect("a schema of draft 2020-12"), schemas }
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        self.schemas.validate(value, self.index).map_err(|error| format!("{value}: {error:#}"))
    }
}

#[test]
fn each_line_between_the_python_sdk_and_a_server_is_valid() {
    for (part, direction) in [("ClientMessage", "> "), ("ServerMessage", "< ")] {
        let validator = Validator::of(part);
        let lines: Vec<_> =
            RECORD.lines().filter_map(|line| line.strip_prefix(direction)).collect();
        assert!(lines.len() > 10, "{}", lines.len());
        for line in lines {
            let value = serde_json::from_str(line).expect("JSON");
            validator.check(&value).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

#[test]
fn a_wrong_message_is_not_valid() {
    let client = Validator::of("ClientMessage");
    let message = |method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let create = |key: &str, value: Value| message("create", json!({ "image": "x", key: value }));
    client.check(&create("env", Value::Null)).expect("null is as absent");
    client.check(&create("of_a_newer_version", json!(1))).expect("unknown keys are ignored");
    for wrong in [
        message("creat", json!({ "image": "x" })),
        message("create", json!({})),
        message("create", json!(["x"])),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "create" }),
        json!({ "jsonrpc": "1.0", "id": 1, "method": "log" }),
        json!({ "jsonrpc": "2.0", "id": -1, "method": "log" }),
        json!({ "jsonrpc": "2.0", "method": "exec_pipe", "params": { "command": "x" } }),
        create("privileged", json!("yes")),
        create("resources", json!({ "memory_mb": "1g" })),
        create("network", json!({ "secrets": { "K": { "hosts": ["a"] } } })),
        message("allow_list_add", json!({})),
        message("exec_tty.resize", json!({ "id": 1, "rows": 70_000, "cols": 1 })),
    ] {
        assert!(client.check(&wrong).is_err(), "{wrong}");
    }
}
