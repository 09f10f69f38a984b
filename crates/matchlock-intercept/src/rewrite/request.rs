//! Placeholders to secrets in the heads of requests.

use bytes::Bytes;
use matchlock_policy::{Bound, Revealed, SecretName};
use zeroize::Zeroizing;

use super::basic::Basic;
use super::leak::{Leak, check_head};
use super::stream::Matcher;
use super::{forms, percent};
use crate::h1::{PathAndQuery, RequestHead};
use crate::headers::{HeaderName, HeaderValue, trim};

/// Replaces placeholders by the values that the request may use: in the values of its fields but
/// `Host`, within Basic credentials too, and in its query. Not in its path. Says whose were replaced.
///
/// In the query the value is percent-encoded, since that is what its reader undoes.
///
/// # Errors
///
/// If the placeholder of another secret is anywhere in the head; the head is as it was then.
pub fn request(head: &mut RequestHead, bound: &Bound<'_>) -> Result<Vec<SecretName>, Leak> {
    check_head(head, bound)?;
    let secrets: Vec<Revealed<'_>> = bound.permitted().collect();
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    let mut used = vec![false; secrets.len()];
    fields(head, &secrets, &mut used);
    if let Some(path_and_query) = head.target.path_and_query_mut() {
        query(path_and_query, &secrets, &mut used);
    }
    let names = secrets.iter().zip(used).filter(|(_, used)| *used);
    Ok(names.map(|(secret, _)| secret.name.clone()).collect())
}

fn fields(head: &mut RequestHead, secrets: &[Revealed<'_>], used: &mut [bool]) {
    let literal = |(tag, secret): (usize, &Revealed<'_>)| {
        forms::literal(secret.placeholder.as_str().as_bytes(), tag)
    };
    let matcher = Matcher::new(secrets.iter().enumerate().flat_map(literal).collect());
    let replace = |bytes: &[u8], hits: &mut Vec<usize>| {
        matcher.replace(bytes, |tag| secrets[tag].value, |tag| hits.push(tag))
    };
    for (name, value) in head.headers.iter_mut().filter(|(name, _)| !name.is("host")) {
        let mut hits = Vec::new();
        let replaced = match Basic::parse(value.as_bytes()).filter(|_| has_credentials(name)) {
            Some(basic) => {
                replace(&basic.credentials, &mut hits).map(|credentials| basic.with(&credentials))
            }
            None => replace(value.as_bytes(), &mut hits),
        };
        let Some(replaced) = replaced else { continue };
        // A value that no field can have leaves the placeholder: the server will refuse that.
        if let Ok(new) = HeaderValue::new(Bytes::copy_from_slice(trim(&replaced))) {
            *value = new;
            for hit in hits {
                used[hit] = true;
            }
        }
    }
}

fn has_credentials(name: &HeaderName) -> bool {
    name.is("authorization") || name.is("proxy-authorization")
}

fn query(path_and_query: &mut PathAndQuery, secrets: &[Revealed<'_>], used: &mut [bool]) {
    let Some(query) = path_and_query.query() else { return };
    let pattern = |(tag, secret): (usize, &Revealed<'_>)| {
        forms::query(secret.placeholder.as_str().as_bytes(), tag)
    };
    let matcher = Matcher::new(secrets.iter().enumerate().flat_map(pattern).collect());
    if matcher.first(query).is_none() {
        return;
    }
    let encoded: Vec<_> = secrets.iter().map(|secret| encoded(secret.value)).collect();
    let replaced = matcher.replace(query, |tag| &encoded[tag], |tag| used[tag] = true);
    if let Some(new) = replaced.and_then(|query| path_and_query.with_query(Some(&query)).ok()) {
        *path_and_query = new;
    }
}

fn encoded(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    percent::encode_into(value, b"", &mut out);
    out
}
