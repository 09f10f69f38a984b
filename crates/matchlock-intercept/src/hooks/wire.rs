//! Rules and callbacks as they are written in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::query::Query;
use super::rule::{Phase, RequestView, Rule};
use super::sse::is_event_stream;
use crate::h1::{RequestHead, ResponseHead};
use crate::headers::Headers;
use crate::rewrite::percent;

/// A rule as clients send it. Everything is optional, `null` is as good as nothing, and keys that
/// are not known are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WireRule {
    /// For messages.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// `after`; anything else is before.
    #[serde(deserialize_with = "nullable")]
    pub phase: String,
    /// `block`; anything else is as much as the other fields say.
    #[serde(deserialize_with = "nullable")]
    pub action: String,
    /// Patterns of hosts; none are all.
    #[serde(deserialize_with = "nullable")]
    pub hosts: Vec<String>,
    /// Methods; none are all.
    #[serde(deserialize_with = "nullable")]
    pub methods: Vec<String>,
    /// A pattern of the decoded path; empty is all.
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// Whom to ask over the callback socket.
    #[serde(deserialize_with = "nullable")]
    pub callback_id: String,
    /// How long that may take, in milliseconds; 0 is for ever.
    #[serde(deserialize_with = "nullable")]
    pub timeout_ms: i64,
    /// `allow` or `block`: what happens to the message if the callback fails or the body cannot be
    /// edited. Without it, `block` for rules that block and `allow` for others.
    #[serde(deserialize_with = "nullable")]
    pub on_error: String,
    /// Fields of the request.
    #[serde(deserialize_with = "nullable")]
    pub set_headers: BTreeMap<String, String>,
    /// Fields of the request.
    #[serde(deserialize_with = "nullable")]
    pub delete_headers: Vec<String>,
    /// Parameters of the query.
    #[serde(deserialize_with = "nullable")]
    pub set_query: BTreeMap<String, String>,
    /// Parameters of the query.
    #[serde(deserialize_with = "nullable")]
    pub delete_query: Vec<String>,
    /// Another path, not encoded.
    #[serde(deserialize_with = "nullable")]
    pub rewrite_path: String,
    /// Fields of the response.
    #[serde(deserialize_with = "nullable")]
    pub set_response_headers: BTreeMap<String, String>,
    /// Fields of the response.
    #[serde(deserialize_with = "nullable")]
    pub delete_response_headers: Vec<String>,
    /// In the body of the response.
    #[serde(deserialize_with = "nullable")]
    pub body_replacements: Vec<WireReplacement>,
}

/// What is replaced in a body, byte by byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WireReplacement {
    /// Nothing is replaced if it is empty.
    #[serde(deserialize_with = "nullable")]
    pub find: String,
    /// By what.
    #[serde(deserialize_with = "nullable")]
    pub replace: String,
}

pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a callback is asked. Headers may hold secrets: it has no `Debug`, and its JSON is wiped.
#[derive(Serialize)]
pub struct CallbackRequest<'a> {
    callback_id: &'a str,
    phase: &'static str,
    host: String,
    method: &'a str,
    path: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query: BTreeMap<String, String>,
    request_headers: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_sse: bool,
}

impl<'a> CallbackRequest<'a> {
    /// What the callback of a before-rule is asked; `None` if the rule has none.
    #[must_use]
    pub fn before(
        rule: &'a Rule,
        view: &'a RequestView<'_>,
        head: &'a RequestHead,
    ) -> Option<Self> {
        let target = head.target.path_and_query();
        let query = target.and_then(|target| target.query()).unwrap_or_default();
        Some(Self {
            callback_id: rule.callback_id()?,
            phase: Phase::Before.as_str(),
            host: view.host.to_string(),
            method: head.method.as_str(),
            path: target.map(|target| decoded(target.path())).unwrap_or_default(),
            query: Query::parse(query).first_values(),
            request_headers: map(&head.headers),
            status_code: None,
            response_headers: None,
            is_sse: false,
        })
    }

    /// What the callback of an after-rule is asked; `None` if the rule has none.
    #[must_use]
    pub fn after(
        rule: &'a Rule,
        view: &'a RequestView<'_>,
        request: &'a RequestHead,
        response: &ResponseHead,
    ) -> Option<Self> {
        let mut told = Self::before(rule, view, request)?;
        told.phase = Phase::After.as_str();
        told.status_code = Some(response.status.code());
        told.response_headers = Some(map(&response.headers));
        told.is_sse = is_event_stream(&response.headers);
        Some(told)
    }

    /// The request in one line, with its end.
    #[must_use]
    pub fn to_line(&self) -> Zeroizing<Vec<u8>> {
        let headers = |map: &BTreeMap<String, Vec<String>>| -> usize {
            map.iter().map(|(k, v)| k.len() + v.iter().map(|v| v.len() + 8).sum::<usize>()).sum()
        };
        let size = headers(&self.request_headers)
            + self.response_headers.as_ref().map_or(0, headers)
            + self.query.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
            + self.path.len();
        // With room enough, so that it does not move and leave a copy behind.
        let mut line = Zeroizing::new(Vec::with_capacity(2 * size + 1024));
        serde_json::to_writer(&mut *line, self).expect("text and numbers into memory");
        line.push(b'\n');
        line
    }
}

impl Drop for CallbackRequest<'_> {
    fn drop(&mut self) {
        let headers = self.response_headers.iter_mut().chain([&mut self.request_headers]);
        headers.flat_map(BTreeMap::values_mut).for_each(Zeroize::zeroize);
        self.query.values_mut().for_each(Zeroize::zeroize);
    }
}

fn decoded(path: &[u8]) -> String {
    String::from_utf8_lossy(&percent::decode(path)).into_owned()
}

/// Without what a callback cannot change anyway and no Go program would see.
fn map(headers: &Headers) -> BTreeMap<String, Vec<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers.iter() {
        if !name.is("host") && !name.is("transfer-encoding") {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            map.entry(canonical(name.as_str())).or_default().push(value);
        }
    }
    map
}

/// In the case in which Go writes it, and in which callbacks look for it: `X-Request-Id`.
fn canonical(name: &str) -> String {
    let mut start = true;
    let letter = |letter: char| {
        let new = if start { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        start = letter == '-';
        new
    };
    name.chars().map(letter).collect()
}
