//! The schema as a page for people.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

const INTRODUCTION: &str = "\
# JSON-RPC reference

<!-- Written by `cargo xtask schema` from the crate matchlock-api. Do not edit it by hand. -->

Every message of `matchlock rpc` and of the control socket. [The guide](../rpc.md) says how they work together;
[the schema](json-rpc.schema.json) says the same as this page to programs (JSON Schema 2020-12).
";

/// The tables of the schema, with what stands above each.
const TABLES: [(&str, &str, &str); 4] = [
    ("methods", "Methods", "What a client asks for, and is answered."),
    (
        "inputs",
        "Input",
        "What a client sends to a command that runs. It is never answered, with an id or without one.",
    ),
    ("notifications", "Notifications", "What a client is told without asking."),
    (
        "control",
        "Control socket",
        "What only the control socket of a running sandbox has. Its streams are frames, not Base64.",
    ),
];

/// The whole page.
pub(super) fn page(schema: &Value) -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    for (keyword, title, introduction) in TABLES {
        write!(page, "\n## {title}\n\n{introduction}\n")?;
        for (name, message) in object(&schema[keyword])? {
            write!(page, "\n### `{name}`\n\n{}\n", text(message)?)?;
            write!(page, "\nParameters: {}.", type_of(&message["params"])?)?;
            if let Some(result) = message.get("result") {
                write!(page, " Result: {}.", type_of(result)?)?;
            }
            if message["needs_id"] == true {
                page.push_str(" Needs an id.");
            }
            page.push('\n');
        }
    }
    page.push_str("\n## Types\n\nA key that is not marked as required may be absent.\n");
    let lines = ["ClientMessage", "ServerMessage"];
    for (name, definition) in object(&schema["$defs"])? {
        if !lines.contains(&name.as_str()) {
            write!(page, "\n### {name}\n\n{}\n", text(definition)?)?;
            describe(&mut page, definition).with_context(|| format!("the type {name}"))?;
        }
    }
    Ok(page)
}

/// What a type consists of.
fn describe(page: &mut String, definition: &Value) -> Result<()> {
    if let Some(properties) = definition.get("properties") {
        let required = definition["required"].as_array();
        page.push('\n');
        for (name, property) in object(properties)? {
            write!(page, "- `{name}`: {}", type_of(property)?)?;
            if required.is_some_and(|required| required.iter().any(|key| key == name)) {
                page.push_str(", required");
            }
            writeln!(page, ". {}", text(property)?)?;
        }
        return Ok(());
    }
    match alternatives(definition) {
        Some(words) if words.iter().all(|word| word.get("const").is_some()) => {
            page.push('\n');
            for word in words {
                writeln!(page, "- `{}`: {}", word["const"], text(word)?)?;
            }
        }
        _ if definition["type"] == "object" => page.push_str("\nAn object without keys.\n"),
        _ => writeln!(page, "\nJSON: {}.", type_of(definition)?)?,
    }
    Ok(())
}

fn alternatives(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()
}

/// The type of a value in words, without `null`: that is as if the key were absent.
fn type_of(schema: &Value) -> Result<String> {
    if *schema == Value::Bool(true) {
        return Ok("any JSON".to_owned());
    }
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        return Ok(format!("[{name}](#{})", name.to_lowercase()));
    }
    if let Some(alternatives) = alternatives(schema) {
        let others = alternatives.iter().filter(|other| other["type"] != "null");
        let words: Vec<_> = others.map(type_of).collect::<Result<_>>()?;
        return Ok(words.join(" or "));
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .context("a type of null alone")?,
        Value::Null => return Ok("any JSON".to_owned()),
        other => bail!("{other} is no type"),
    };
    Ok(match kind {
        "array" => format!("list of {}", type_of(&schema["items"])?),
        "object" => match schema.get("additionalProperties") {
            Some(values) => format!("object of {}", type_of(values)?),
            None => "object".to_owned(),
        },
        other => other.to_owned(),
    })
}

/// The description in one line, with links of rustdoc as plain code.
fn text(schema: &Value) -> Result<String> {
    let Some(description) = schema.get("description").and_then(Value::as_str) else {
        return Ok(String::new());
    };
    let text = description.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.contains("`](") || text.contains("[`") {
        bail!("{text:?} has a link of rustdoc, which leads nowhere in the reference");
    }
    Ok(text)
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().context("the schema has something else in the place of an object")
}
