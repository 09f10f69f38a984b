//! Changes of heads.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::query::Query;
use super::rule::RuleProblem;
use super::wire::WireRule;
use crate::h1::{InvalidTarget, PathAndQuery, RequestHead, ResponseHead};
use crate::headers::{HeaderName, HeaderValue, Headers, InvalidHeader, trim};
use crate::rewrite::percent;

/// Fields that say where a message goes and where it ends: no rule changes them.
const KEPT: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Sets before deletes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderEdit {
    set: Vec<(HeaderName, HeaderValue)>,
    delete: Vec<String>,
}

/// What a rule does to a request by itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RequestEdit {
    headers: HeaderEdit,
    set_query: BTreeMap<String, String>,
    delete_query: Vec<String>,
    path: Option<PathAndQuery>,
}

/// What a rule does to a response by itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseEdit {
    headers: HeaderEdit,
}

impl HeaderEdit {
    fn new(set: &BTreeMap<String, String>, delete: &[String]) -> Result<Self, RuleProblem> {
        let field = |(name, value): (&String, &String)| {
            header(name, value).map_err(|source| RuleProblem::Header { name: name.clone(), source })
        };
        let set = set.iter().map(field).collect::<Result<Vec<_>, _>>()?;
        let set = set.into_iter().filter(|(name, _)| !is_kept(name)).collect();
        let delete = delete.iter().map(|name| name.trim().to_owned());
        let delete = delete.filter(|name| !KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name)));
        Ok(Self { set, delete: delete.collect() })
    }

    fn apply(&self, headers: &mut Headers) {
        for (name, value) in &self.set {
            headers.set(name.clone(), value.clone());
        }
        for name in &self.delete {
            headers.remove(name);
        }
    }
}

impl RequestEdit {
    pub(super) fn new(wire: &WireRule) -> Result<Self, RuleProblem> {
        let path = Some(&wire.rewrite_path).filter(|path| !path.is_empty());
        let path = path.map(|path| {
            let encoded = PathAndQuery::new(encoded_path(path));
            encoded.map_err(|source| RuleProblem::Rewrite { path: path.clone(), source })
        });
        Ok(Self {
            headers: HeaderEdit::new(&wire.set_headers, &wire.delete_headers)?,
            set_query: wire.set_query.clone(),
            delete_query: wire.delete_query.clone(),
            path: path.transpose()?,
        })
    }

    pub(super) fn apply(&self, head: &mut RequestHead) {
        self.headers.apply(&mut head.headers);
        let Some(target) = head.target.path_and_query_mut() else { return };
        if let Some(path) = &self.path {
            *target = target.with_path(path.path()).expect("it was checked");
        }
        if self.set_query.is_empty() && self.delete_query.is_empty() {
            return;
        }
        let mut query = Query::parse(target.query().unwrap_or_default());
        for (name, value) in &self.set_query {
            query.set(name, value);
        }
        for name in &self.delete_query {
            query.remove(name);
        }
        let query = query.encode();
        *target = target.with_query(query.as_deref()).expect("an encoded query is one");
    }
}

impl ResponseEdit {
    pub(super) fn new(wire: &WireRule) -> Result<Self, RuleProblem> {
        let headers = HeaderEdit::new(&wire.set_response_headers, &wire.delete_response_headers)?;
        Ok(Self { headers })
    }

    pub(super) fn apply(&self, head: &mut ResponseHead) {
        self.headers.apply(&mut head.headers);
    }
}

/// A field with a value from JSON. Space at its ends means nothing.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidHeader> {
    let value = Bytes::copy_from_slice(trim(value.as_bytes()));
    Ok((HeaderName::try_from(name.trim())?, HeaderValue::new(value)?))
}

/// Makes these the fields, but for those that are kept. Fields that were there stay where they
/// were.
pub(super) fn replace_headers(headers: &mut Headers, fields: &[(HeaderName, HeaderValue)]) {
    let mut new = Headers::new();
    let mut done: Vec<&HeaderName> = Vec::new();
    for (name, value) in headers.iter() {
        if is_kept(name) {
            new.append(name.clone(), value.clone());
        } else if !done.contains(&name) {
            let lines = fields.iter().filter(|(other, _)| other == name);
            lines.for_each(|(_, value)| new.append(name.clone(), value.clone()));
            done.push(name);
        }
    }
    for (name, value) in fields {
        if !is_kept(name) && !done.contains(&name) {
            new.append(name.clone(), value.clone());
        }
    }
    *headers = new;
}

/// The target with another path, given as text, and with another query.
pub(super) fn retarget(
    target: &PathAndQuery,
    path: Option<&str>,
    query: Option<&BTreeMap<String, String>>,
) -> Result<PathAndQuery, InvalidTarget> {
    // What the callback gives back as it was told keeps its encoding.
    let told = String::from_utf8_lossy(&percent::decode(target.path())).into_owned();
    let target = match path.filter(|path| !path.is_empty() && *path != told) {
        Some(path) => target.with_path(&encoded_path(path))?,
        None => target.clone(),
    };
    let Some(pairs) = query else { return Ok(target) };
    let mut query = Query::default();
    for (name, value) in pairs {
        query.append(name, value);
    }
    target.with_query(query.encode().as_deref())
}

/// RFC 3986, section 3.3: everything that a segment may hold stays as it is.
fn encoded_path(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        out.push(b'/');
    }
    percent::encode_into(path.as_bytes(), b"/!$&'()*+,;=:@", &mut out);
    out
}

fn is_kept(name: &HeaderName) -> bool {
    KEPT.iter().any(|kept| name.is(kept))
}
