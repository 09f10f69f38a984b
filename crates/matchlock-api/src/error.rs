//! Errors, as they are answered.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What failed, as a number: JSON-RPC 2.0, section 5.1, and those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// −32700: the line is not JSON. The answer has no id.
    Parse,
    /// −32600: the line is JSON, but no request.
    InvalidRequest,
    /// −32601: there is no such method.
    MethodNotFound,
    /// −32602: a parameter is missing, of a wrong type, or asks for what cannot be.
    InvalidParams,
    /// −32603: a mistake of matchlock's own.
    Internal,
    /// −32000: the sandbox failed, or there is none.
    Sandbox,
    /// −32001: a command could not be run.
    Exec,
    /// −32002: a file or the log could not be read or written.
    File,
    /// −32003: the request was cancelled.
    Cancelled,
    /// A number of a newer version.
    Other(i64),
}

impl ErrorCode {
    /// Every code that has a name.
    pub const ALL: [Self; 9] = [
        Self::Parse,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::Internal,
        Self::Sandbox,
        Self::Exec,
        Self::File,
        Self::Cancelled,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Parse => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::Internal => -32603,
            Self::Sandbox => -32000,
            Self::Exec => -32001,
            Self::File => -32002,
            Self::Cancelled => -32003,
            Self::Other(number) => number,
        }
    }
}

impl From<i64> for ErrorCode {
    fn from(number: i64) -> Self {
        let known = Self::ALL.into_iter().find(|code| code.number() == number);
        known.unwrap_or(Self::Other(number))
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.number())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self::from)
    }
}

/// What a program can decide by. The words are those of `error.kind` in the command line's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The parameters, or a file that they name, cannot be used.
    InvalidArgument,
    /// An image, a program or a file is not there.
    NotFound,
    /// Something is in use, exists already, or is not what it was.
    Conflict,
    /// This machine, a registry or a server cannot do it now.
    Unavailable,
    /// A permission or a policy forbids it.
    Denied,
    /// A limit on time was reached.
    Timeout,
    /// The client, a signal or the end of the sandbox came first.
    Cancelled,
    /// The sandbox failed.
    Guest,
    /// The virtual machine monitor failed.
    Vmm,
    /// Files, sockets or memory of this machine failed.
    Io,
    /// A mistake of matchlock's own.
    Internal,
    /// A word of a newer version. A server does not send it.
    #[serde(other)]
    Unknown,
}

impl ErrorKind {
    /// The kind of an error of the operating system.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound,
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AlreadyExists => Self::Conflict,
            std::io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Io,
        }
    }
}

/// What an error says beside its text: our addition to the contract. Clients may ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorData {
    /// What a program can decide by.
    pub kind: ErrorKind,
    /// The parameter that is wrong, as `network.dns_servers[1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it, if there is something usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The `error` of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{message}")]
pub struct RpcError {
    /// What failed: one of the numbers below. Newer versions may have more.
    pub code: ErrorCode,
    /// What is wrong, in one line. The text may change.
    pub message: String,
    /// The same for programs. Answers of the reference implementation have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

impl RpcError {
    /// An error with a kind, and so with data.
    #[must_use]
    pub fn new(code: ErrorCode, kind: ErrorKind, message: impl Into<String>) -> Self {
        let data = ErrorData { kind, field: None, hint: None };
        Self { code, message: message.into(), data: Some(data) }
    }

    /// Names the parameter that is wrong.
    #[must_use]
    pub fn of_field(mut self, field: impl Into<String>) -> Self {
        if let Some(data) = &mut self.data {
            data.field = Some(field.into());
        }
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        if let Some(data) = &mut self.data {
            data.hint = Some(hint.into());
        }
        self
    }

    /// The kind, if the other side said one.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        self.data.as_ref().map(|data| data.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn codes_are_the_numbers_of_the_contract() {
        let numbers = ErrorCode::ALL.map(ErrorCode::number);
        let contract = [-32700, -32600, -32601, -32602, -32603, -32000, -32001, -32002, -32003];
        assert_eq!(numbers, contract);
        for number in contract {
            assert_eq!(ErrorCode::from(number).number(), number);
        }
        assert_eq!(ErrorCode::from(7), ErrorCode::Other(7));
    }

    #[test]
    fn an_error_has_its_data_and_can_be_without() {
        let error = RpcError::new(ErrorCode::Sandbox, ErrorKind::NotFound, "no image")
            .of_field("image")
            .hinted("pull it");
        let wire = json!({
            "code": -32000, "message": "no image",
            "data": { "kind": "not_found", "field": "image", "hint": "pull it" },
        });
        assert_eq!(serde_json::to_value(&error).expect("JSON"), wire);
        assert_eq!(serde_json::from_value::<RpcError>(wire).expect("an error"), error);

        let bare = json!({ "code": -32001, "message": "x" });
        let error: RpcError = serde_json::from_value(bare).expect("an error of the reference");
        assert_eq!((error.code, error.kind()), (ErrorCode::Exec, None));
    }

    #[test]
    fn a_kind_of_a_newer_version_is_read() {
        let data: ErrorData = serde_json::from_value(json!({ "kind": "new" })).expect("data");
        assert_eq!(data.kind, ErrorKind::Unknown);
    }
}
