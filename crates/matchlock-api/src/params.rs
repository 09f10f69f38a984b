//! Parameters: read with the names of what was ignored, or with the name of what is wrong.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::bytes;
use crate::error::{ErrorCode, ErrorKind, RpcError};

/// The `params` of a message: an object. Absent and `null` are an empty one.
pub trait Params: Serialize + DeserializeOwned {
    /// What the types cannot say.
    ///
    /// # Errors
    /// [`InvalidParams`] with the contract's text.
    fn check(&self) -> Result<(), InvalidParams> {
        Ok(())
    }
}

impl<T: Params> Params for Box<T> {
    fn check(&self) -> Result<(), InvalidParams> {
        (**self).check()
    }
}

/// Parameters that are wrong: −32602.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidParams {
    message: String,
    field: Option<String>,
    hint: Option<&'static str>,
}

impl InvalidParams {
    pub(crate) fn new(field: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), field: Some(field.to_owned()), hint: None }
    }

    /// With the prefix that the contract has for what parameters say together.
    pub(crate) fn configuration(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(field, format!("invalid configuration: {problem}"))
    }

    fn of_json(path: &str, error: &serde_json::Error) -> Self {
        let problem = without_value(&error.to_string());
        let field = segments(path);
        let message = match field.as_str() {
            "" => problem,
            // The contract has this text alone.
            _ if problem == bytes::INVALID => problem,
            field => format!("{field}: {problem}"),
        };
        Self { message, field: Some(field).filter(|field| !field.is_empty()), hint: None }
    }

    /// The parameter that is wrong, if it is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl From<InvalidParams> for RpcError {
    fn from(error: InvalidParams) -> Self {
        let mut rpc =
            Self::new(ErrorCode::InvalidParams, ErrorKind::InvalidArgument, error.message);
        if let Some(field) = error.field {
            rpc = rpc.of_field(field);
        }
        match error.hint {
            Some(hint) => rpc.hinted(hint),
            None => rpc,
        }
    }
}

/// Names of keys that were sent and mean nothing here: for the log, where they explain a surprise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored {
    names: Vec<String>,
    more: usize,
}

impl Ignored {
    /// How many names are kept. The others are counted.
    pub const MAX_NAMES: usize = 16;
    /// Where a name is cut off, in bytes.
    pub const MAX_LEN: usize = 120;

    fn add(&mut self, path: &str) {
        if self.names.len() == Self::MAX_NAMES {
            self.more += 1;
        } else {
            self.names.push(segments(path));
        }
    }

    /// The names with their places, as `network.mtuu`.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many there are beside [`Ignored::names`].
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }

    /// Whether all was understood.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Reads and checks parameters.
pub(crate) fn read<T: Params>(raw: Option<&RawValue>) -> Result<(T, Ignored), InvalidParams> {
    let text = raw.map(RawValue::get).filter(|text| *text != "null").unwrap_or("{}");
    // Without this, a list would be read as an object without names.
    if !text.starts_with('{') {
        let message = "params must be an object".to_owned();
        let hint = Some("give parameters by their names");
        return Err(InvalidParams { message, field: None, hint });
    }
    let mut ignored = Ignored::default();
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| ignored.add(&path.to_string()));
    let params: T =
        read.map_err(|error| InvalidParams::of_json(&track.path().to_string(), &error))?;
    params.check()?;
    Ok((params, ignored))
}

/// The path as a client writes it, bounded: without the marks of `Option`, and without the dot that
/// stands for the whole.
fn segments(path: &str) -> String {
    let kept: Vec<_> = path.split('.').filter(|part| !matches!(*part, "" | "?")).collect();
    let mut name = kept.join(".");
    if name.len() > Ignored::MAX_LEN {
        name.truncate(name.floor_char_boundary(Ignored::MAX_LEN));
        name.push('…');
    }
    name
}

/// The text of a serde error without the position, which is that in a part of the line, and without
/// the value, which may be a secret: a value in place of an object is quoted there.
fn without_value(text: &str) -> String {
    let text = text.rfind(" at line ").map_or(text, |at| &text[..at]);
    let quoting = ["invalid type: ", "invalid value: ", "unknown variant "];
    let Some(start) = quoting.into_iter().find(|start| text.starts_with(start)) else {
        return text.to_owned();
    };
    let rest = &text[start.len()..];
    let kind = rest.split(['"', '`']).next().unwrap_or_default().trim_end();
    let kind = kind.split(", expected ").next().unwrap_or_default();
    match rest.rfind(", expected ") {
        Some(at) => format!("{}{kind}{}", start, &rest[at..]).replace(" ,", ","),
        None => start.trim_end_matches([' ', ':']).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::CreateParams;
    use crate::exec::{ExecParams, ExecTtyParams};
    use crate::files::WriteFileParams;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    fn error<T: Params>(text: &str) -> InvalidParams {
        match read::<T>(Some(&raw(text))) {
            Ok(_) => panic!("{text} was read"),
            Err(error) => error,
        }
    }

    #[test]
    fn an_error_names_the_parameter() {
        let wrong = error::<CreateParams>(r#"{"image":"x","network":{"dns_servers":["a",1]}}"#);
        assert_eq!(wrong.field(), Some("network.dns_servers[1]"));
        let text = "network.dns_servers[1]: invalid type: integer, expected a string";
        assert_eq!(wrong.to_string(), text);
        assert_eq!(error::<ExecParams>("{}").to_string(), "missing field `command`");
        let wrong = error::<WriteFileParams>(r#"{"path":"/x","content":"*"}"#);
        assert_eq!(wrong.to_string(), "invalid base64 content");
        assert_eq!(wrong.field(), Some("content"));
        let wrong = error::<ExecTtyParams>(r#"{"command":"x","rows":70000}"#);
        assert_eq!(wrong.to_string(), "rows: invalid value: integer, expected u16");
    }

    #[test]
    fn an_error_never_has_the_value() {
        for secrets in [
            r#"{"K":"hunter2"}"#,
            r#"{"K":{"value":["hunter2"],"hosts":"hunter2"}}"#,
            r#"{"K":{"value":"x","hosts":"a, expected hunter2 at line 1"}}"#,
            r#"["hunter2"]"#,
            r#""hunter2""#,
        ] {
            let text = format!(r#"{{"image":"x","network":{{"secrets":{secrets}}}}}"#);
            let error = RpcError::from(error::<CreateParams>(&text));
            let told = serde_json::to_string(&error).expect("JSON");
            assert!(!told.contains("hunter2"), "{told}");
            assert!(told.contains("network.secrets"), "{told}");
        }
    }

    #[test]
    fn keys_without_a_meaning_are_named() {
        let text = r#"{"image":"x","colour":1,"network":{"mtuu":{"a":1}},
            "vfs":{"mounts":{"/w":{"type":"memory","speed":9}},"workspace":"/w"}}"#;
        let (_, ignored) = read::<CreateParams>(Some(&raw(text))).expect("parameters");
        assert_eq!(ignored.names(), ["colour", "network.mtuu", "vfs.mounts./w.speed"]);
    }

    #[test]
    fn what_is_kept_of_ignored_names_is_bounded() {
        let keys: Vec<_> = (0..100).map(|n| format!("\"{n}{}\":1", "é".repeat(500))).collect();
        let text = format!("{{\"command\":\"x\",{}}}", keys.join(","));
        let (_, ignored) = read::<ExecParams>(Some(&raw(&text))).expect("parameters");
        assert_eq!((ignored.names().len(), ignored.more()), (Ignored::MAX_NAMES, 84));
        assert!(ignored.names().iter().all(|name| name.len() <= Ignored::MAX_LEN + 3));
    }

    #[test]
    fn parameters_have_names() {
        assert_eq!(error::<ExecParams>(r#"["true"]"#).to_string(), "params must be an object");
        assert!(read::<ExecParams>(Some(&raw("null"))).is_err(), "null is an empty object");
    }
}
