//! JSON-RPC 2.0 over lines: contract, sections 2.1 and 2.3.
//!
//! [`receive`] is a server's reading of one line, [`ServerMessage::parse`] a client's. The functions that
//! end in `_line` write one, with its LF. Nothing here waits, and nothing panics whatever comes.

mod client;
mod overlong;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use client::{InvalidAnswer, ServerMessage};

use crate::error::{ErrorCode, ErrorKind, RpcError};
use crate::id::RequestId;
use crate::line::{Line, MAX_LINE};
use crate::message::{Call, Input, Method, Notification};
use crate::params::{Ignored, InvalidParams};

/// What a line is to a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// To be carried out, and answered if it has an id.
    Call {
        /// The id, and what is asked.
        request: Request,
        /// For the log.
        ignored: Ignored,
    },
    /// To be given to a running command, and never answered.
    Input(Input),
    /// To be answered with an error, and nothing else.
    Refused(Refusal),
    /// To be dropped: it is wrong, and must not be answered. The error is for the log.
    Dropped(RpcError),
}

/// A call with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `None`: a notification, which is carried out and not answered.
    pub id: Option<RequestId>,
    /// What is asked.
    pub call: Call,
}

/// An answer to what cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `None`: nobody knows whose it was.
    pub id: Option<RequestId>,
    /// Why.
    pub error: RpcError,
}

/// A line before its parameters are looked at. What is not known is not read.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// Reads a line of [`LineDecoder`](crate::line::LineDecoder).
#[must_use]
pub fn receive(line: Line<'_>) -> Incoming {
    match line {
        Line::Whole(line) => read(line),
        Line::TooLong { head, tail } => too_long(head, tail),
    }
}

fn read(line: &[u8]) -> Incoming {
    match Message::read(line) {
        Ok(Message { method, params, id }) => dispatch(&method, params, id),
        Err(refusal) => Incoming::Refused(refusal),
    }
}

/// A message to a server, before its parameters are looked at.
pub(crate) struct Message<'a> {
    pub(crate) method: String,
    pub(crate) params: Option<&'a RawValue>,
    pub(crate) id: Option<RequestId>,
}

impl<'a> Message<'a> {
    pub(crate) fn read(line: &'a [u8]) -> Result<Self, Refusal> {
        let envelope = envelope(line).map_err(|error| Refusal { id: None, error })?;
        let id = match envelope.id.map(|id| serde_json::from_str::<Option<RequestId>>(id.get())) {
            None => None,
            Some(Ok(id)) => id,
            Some(Err(_)) => {
                let error = invalid_request("the id must be a whole number or a string");
                return Err(Refusal { id: None, error });
            }
        };
        if text(envelope.jsonrpc).as_deref() != Some("2.0") {
            return Err(Refusal { id, error: invalid_request("jsonrpc must be \"2.0\"") });
        }
        match text(envelope.method) {
            Some(method) => Ok(Self { method, params: envelope.params, id }),
            None => Err(Refusal { id, error: invalid_request("method must be a string") }),
        }
    }
}

fn dispatch(method: &str, params: Option<&RawValue>, id: Option<RequestId>) -> Incoming {
    if let Some(input) = Input::read(method, params) {
        return match input {
            Ok((input, _)) => Incoming::Input(input),
            Err(error) => Incoming::Dropped(error.into()),
        };
    }
    let wrong = match call(method, params) {
        Ok((call, _)) if call.needs_id() && id.is_none() => {
            let error = invalid_request(format!("{method} requires request id"));
            return Incoming::Refused(Refusal { id, error });
        }
        Ok((call, ignored)) => return Incoming::Call { request: Request { id, call }, ignored },
        Err(error) => error,
    };
    match id {
        // JSON-RPC 2.0, section 4.1: a notification is not answered, not with an error either.
        None => Incoming::Dropped(wrong),
        id => Incoming::Refused(Refusal { id, error: wrong }),
    }
}

/// A call by its name, wherever it came from.
///
/// # Errors
/// −32601 for a method that is not there, −32602 for parameters that are wrong.
pub fn call(method: &str, params: Option<&RawValue>) -> Result<(Call, Ignored), RpcError> {
    let Some(read) = Call::read(method, params) else {
        let names: Vec<_> = Call::ALL.iter().map(|info| info.name).collect();
        let text = "Method not found";
        let error = RpcError::new(ErrorCode::MethodNotFound, ErrorKind::NotFound, text);
        return Err(error.of_field("method").hinted(format!("methods are {}", names.join(", "))));
    };
    read.map_err(InvalidParams::into)
}

fn too_long(head: &[u8], tail: &[u8]) -> Incoming {
    let (method, id) = overlong::whose(head, tail);
    let error = invalid_request(format!("the line is longer than {MAX_LINE} bytes"))
        .hinted("write a large file in parts, or put it into the image");
    match method {
        Some(method) if is_input(&method) => Incoming::Dropped(error),
        _ => Incoming::Refused(Refusal { id, error }),
    }
}

fn is_input(method: &str) -> bool {
    Input::ALL.iter().any(|info| info.name == method)
}

fn envelope(line: &[u8]) -> Result<Envelope<'_>, RpcError> {
    let line = line.trim_ascii();
    // A list would be read as an object without names.
    if line.first() == Some(&b'{')
        && let Ok(envelope) = serde_json::from_slice(line)
    {
        return Ok(envelope);
    }
    Err(match serde_json::from_slice::<&RawValue>(line) {
        Err(_) => RpcError::new(ErrorCode::Parse, ErrorKind::InvalidArgument, "Parse error"),
        Ok(_) if line.first() == Some(&b'[') => {
            invalid_request("batches are not supported").hinted("send one request on each line")
        }
        Ok(_) if line.first() == Some(&b'{') => {
            invalid_request("a key of the request is there twice")
        }
        Ok(_) => invalid_request("a request is an object"),
    })
}

pub(crate) fn invalid_request(message: impl Into<String>) -> RpcError {
    RpcError::new(ErrorCode::InvalidRequest, ErrorKind::InvalidArgument, message)
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

/// What all messages begin with.
#[derive(Serialize)]
struct Written<'a, P, R> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RpcError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
}

impl<P: Serialize, R: Serialize> Written<'_, P, R> {
    const EMPTY: Self =
        Self { jsonrpc: "2.0", method: None, params: None, result: None, error: None, id: None };

    fn json(&self) -> Vec<u8> {
        // Infallible for these types: their maps have strings for keys, and a Vec takes all bytes.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn line(&self) -> Vec<u8> {
        let mut line = self.json();
        line.push(b'\n');
        line
    }
}

impl Request {
    /// A client's request as a line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let (method, id) = (Some(self.call.name()), self.id.as_ref());
        Written::<_, ()> { method, params: Some(&self.call), id, ..Written::EMPTY }.line()
    }
}

/// A client's call as a message of a control socket.
#[cfg(feature = "client")]
pub(crate) fn call_message<M: Method>(id: &RequestId, params: M::Params) -> Vec<u8> {
    let params = Some(M::call(params));
    Written::<_, ()> { method: Some(M::NAME), params, id: Some(id), ..Written::EMPTY }.json()
}

impl Input {
    /// A client's input as a line, without an id.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let method = Some(self.name());
        Written::<_, ()> { method, params: Some(self), ..Written::EMPTY }.line()
    }
}

impl Notification {
    /// A server's notification as a line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let method = Some(self.name());
        Written::<_, ()> { method, params: Some(self), ..Written::EMPTY }.line()
    }
}

/// The answer to a call that succeeded, as a line.
#[must_use]
pub fn result_line<M: Method>(id: &RequestId, result: &M::Result) -> Vec<u8> {
    Written::<(), _> { result: Some(result), id: Some(id), ..Written::EMPTY }.line()
}

/// The answer to a call that succeeded, as a message of a control socket.
#[must_use]
pub fn result_message<M: Method>(id: &RequestId, result: &M::Result) -> Vec<u8> {
    Written::<(), _> { result: Some(result), id: Some(id), ..Written::EMPTY }.json()
}

impl Refusal {
    /// The answer to a call that failed, as a line. Without an id it has none, not `null`: clients take
    /// a message without an id as a notification.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        self.written().line()
    }

    /// The same as a message of a control socket.
    #[must_use]
    pub fn to_message(&self) -> Vec<u8> {
        self.written().json()
    }

    fn written(&self) -> Written<'_, (), ()> {
        let (error, id) = (Some(&self.error), self.id.as_ref());
        Written::<(), ()> { error, id, ..Written::EMPTY }
    }
}

#[cfg(test)]
mod tests;
