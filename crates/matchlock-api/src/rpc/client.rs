//! A client's reading of what a server sends.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::RpcError;
use crate::id::RequestId;
use crate::message::{Method, Notification};

/// What a line is to a client.
#[derive(Debug, Clone)]
pub enum ServerMessage {
    /// A call succeeded. [`result`] reads it, for whoever knows which call it was.
    Result {
        /// Of the call.
        id: RequestId,
        /// The JSON of the result.
        result: Box<RawValue>,
    },
    /// A call failed.
    Error {
        /// Of the call. `None`: the server could not read what was sent to it.
        id: Option<RequestId>,
        /// Why.
        error: RpcError,
    },
    /// It was not asked for.
    Notification(Notification),
    /// A notification of a newer version.
    Unknown {
        /// Its name.
        method: String,
    },
}

/// What a server sent is not an answer, nor anything else that it may send.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    /// The line.
    #[error("the server sent no JSON-RPC message")]
    Message(#[source] serde_json::Error),
    /// It has neither a result nor an error nor a method, or no id.
    #[error("the server sent a message that is no answer and no notification")]
    Incomplete,
    /// The parameters of a notification.
    #[error("the server sent `{method}` with wrong parameters: {problem}")]
    Notification {
        /// The notification's name.
        method: String,
        /// What is wrong.
        problem: String,
    },
    /// The result of a call.
    #[error("the server answered `{method}` with another result than it has")]
    Result {
        /// The method that was called.
        method: &'static str,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
    #[serde(default)]
    id: Option<RequestId>,
}

impl ServerMessage {
    /// Reads a line.
    ///
    /// # Errors
    /// [`InvalidAnswer`] if a server cannot have sent it.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidAnswer> {
        let envelope: Envelope = serde_json::from_slice(line).map_err(InvalidAnswer::Message)?;
        match envelope {
            Envelope { error: Some(error), id, .. } => Ok(Self::Error { id, error }),
            Envelope { result: Some(result), id: Some(id), .. } => Ok(Self::Result { id, result }),
            Envelope { method: Some(method), params, id: None, .. } => {
                match Notification::read(&method, params.as_deref()) {
                    None => Ok(Self::Unknown { method }),
                    Some(Ok((notification, _))) => Ok(Self::Notification(notification)),
                    Some(Err(error)) => {
                        let problem = error.to_string();
                        Err(InvalidAnswer::Notification { method, problem })
                    }
                }
            }
            _ => Err(InvalidAnswer::Incomplete),
        }
    }
}

impl ServerMessage {
    /// Reads the result of a call.
    ///
    /// # Errors
    /// [`InvalidAnswer::Result`] if it is not one of this method.
    pub fn result<M: Method>(result: &RawValue) -> Result<M::Result, InvalidAnswer> {
        serde_json::from_str(result.get())
            .map_err(|source| InvalidAnswer::Result { method: M::NAME, source })
    }
}
