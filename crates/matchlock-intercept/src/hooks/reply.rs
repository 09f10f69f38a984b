//! What callbacks answer.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::apply::{header, replace_headers, retarget};
use super::body::{BodyEdit, MAX_BODY, Replacement};
use super::rule::OnError;
use super::wire::{WireReplacement, nullable};
use crate::h1::{InvalidTarget, RequestHead, ResponseHead};
use crate::headers::{HeaderName, HeaderValue, InvalidHeader};

/// The longest line that a callback may answer, in bytes: the largest body, in Base64, and headers.
pub const MAX_REPLY: usize = MAX_BODY / 3 * 4 + (1 << 20);

/// An answer that cannot be followed: the rule's `on_error` decides then.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// Not the JSON that was asked for.
    #[error("the reply of the callback is not of its form")]
    Form(#[source] serde_json::Error),
    /// Too much of it.
    #[error("the reply of the callback is longer than {MAX_REPLY} bytes")]
    TooLong,
    /// The callback itself failed.
    #[error("the callback failed: {0}")]
    Failed(String),
    /// A field that cannot be written.
    #[error("the callback set the header {name:?}, which cannot be sent")]
    Header {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: InvalidHeader,
    },
    /// A path that cannot be written.
    #[error("the callback set a path that cannot be sent")]
    Target(#[source] InvalidTarget),
    /// The new body.
    #[error("the callback set a body that is not Base64")]
    Body(#[source] base64::DecodeError),
}

/// An answer, checked as far as it can be without the message that it is about.
#[derive(Default)]
pub struct CallbackReply {
    block: bool,
    request_headers: Option<Vec<(HeaderName, HeaderValue)>>,
    query: Option<BTreeMap<String, String>>,
    path: Option<String>,
    response_headers: Option<Vec<(HeaderName, HeaderValue)>>,
    replacements: Vec<Replacement>,
    set_body: Option<Vec<u8>>,
}

impl CallbackReply {
    /// Reads one answer, with or without the end of its line.
    ///
    /// # Errors
    ///
    /// If it is no answer, or says that the callback failed.
    pub fn parse(line: &[u8]) -> Result<Self, CallbackError> {
        if line.len() > MAX_REPLY {
            return Err(CallbackError::TooLong);
        }
        let wire: WireReply = serde_json::from_slice(line).map_err(CallbackError::Form)?;
        if !wire.error.is_empty() {
            return Err(CallbackError::Failed(wire.error));
        }
        let WireReply { action, request, response, .. } = wire;
        let body = Some(response.set_body_base64).filter(|body| !body.is_empty());
        let body = body.map(|body| STANDARD.decode(body)).transpose();
        Ok(Self {
            block: action.trim().eq_ignore_ascii_case("block"),
            request_headers: fields(request.headers)?,
            query: request.query.map(|query| {
                query.into_iter().map(|(name, value)| (name, value.first())).collect()
            }),
            path: Some(request.path).filter(|path| !path.is_empty()),
            response_headers: fields(response.headers)?,
            replacements: Replacement::list(response.body_replacements),
            set_body: body.map_err(CallbackError::Body)?,
        })
    }

    /// Whether the message is blocked.
    #[must_use]
    pub fn block(&self) -> bool {
        self.block
    }

    /// Changes the head of a request.
    ///
    /// # Errors
    ///
    /// If the path cannot be sent; the head is as it was then.
    pub fn apply_request(&self, head: &mut RequestHead) -> Result<(), CallbackError> {
        if let Some(target) = head.target.path_and_query_mut() {
            let new = retarget(target, self.path.as_deref(), self.query.as_ref());
            *target = new.map_err(CallbackError::Target)?;
        }
        if let Some(fields) = &self.request_headers {
            replace_headers(&mut head.headers, fields);
        }
        Ok(())
    }

    /// Changes the head of a response, and adds to what is to be done to its body.
    pub fn apply_response(self, head: &mut ResponseHead, body: &mut BodyEdit, on_error: OnError) {
        if let Some(fields) = &self.response_headers {
            replace_headers(&mut head.headers, fields);
        }
        body.add(&self.replacements, self.set_body, on_error);
    }
}

impl std::fmt::Debug for CallbackReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallbackReply").field("block", &self.block).finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireReply {
    #[serde(deserialize_with = "nullable")]
    action: String,
    #[serde(deserialize_with = "nullable")]
    request: WireRequest,
    #[serde(deserialize_with = "nullable")]
    response: WireResponse,
    #[serde(deserialize_with = "nullable")]
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRequest {
    headers: Option<BTreeMap<String, Values>>,
    query: Option<BTreeMap<String, Values>>,
    #[serde(deserialize_with = "nullable")]
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireResponse {
    headers: Option<BTreeMap<String, Values>>,
    #[serde(deserialize_with = "nullable")]
    body_replacements: Vec<WireReplacement>,
    #[serde(deserialize_with = "nullable")]
    set_body_base64: String,
}

/// A value, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    None,
    One(String),
    Many(Vec<String>),
}

impl Values {
    fn list(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }

    fn first(self) -> String {
        self.list().into_iter().next().unwrap_or_default()
    }
}

type Fields = Vec<(HeaderName, HeaderValue)>;

fn fields(map: Option<BTreeMap<String, Values>>) -> Result<Option<Fields>, CallbackError> {
    let Some(map) = map else { return Ok(None) };
    let mut fields = Vec::new();
    for (name, values) in map {
        for value in values.list() {
            let field = header(&name, &value);
            fields.push(
                field.map_err(|source| CallbackError::Header { name: name.clone(), source })?,
            );
        }
    }
    Ok(Some(fields))
}
