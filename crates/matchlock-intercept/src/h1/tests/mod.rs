//! The codec as its callers use it.

mod messages;
mod properties;
mod smuggling;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::headers::{HeaderName, HeaderValue, Headers};

/// Events with adjacent data as one, and how it ended.
type Outcome<E> = (Vec<E>, Result<(), H1Error>);

/// What a connection of requests in these pieces is, up to its end or the first error.
fn requests<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome<RequestEvent> {
    let mut decoder = RequestDecoder::new();
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    let mut outcome = Ok(());
    for piece in pieces {
        input.extend_from_slice(piece);
        outcome = drain(&mut events, || decoder.decode(&mut input));
    }
    let end = outcome.and_then(|()| drain(&mut events, || decoder.eof()));
    (merge(events), end)
}

/// What the response to this request in these pieces is.
fn response<'a>(
    request: &RequestHead,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome<ResponseEvent> {
    let mut decoder = ResponseDecoder::new(request);
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    let mut outcome = Ok(());
    for piece in pieces {
        input.extend_from_slice(piece);
        outcome = drain(&mut events, || decoder.decode(&mut input));
    }
    let end = outcome.and_then(|()| drain(&mut events, || decoder.eof()));
    (merge(events), end)
}

fn drain<E>(
    events: &mut Vec<E>,
    mut next: impl FnMut() -> Result<Option<E>, H1Error>,
) -> Result<(), H1Error> {
    while let Some(event) = next()? {
        events.push(event);
    }
    Ok(())
}

/// What lets adjacent data be told apart from the rest.
trait Event: Sized {
    fn data(&self) -> Option<&Bytes>;
    fn of(data: Bytes) -> Self;
}

impl Event for RequestEvent {
    fn data(&self) -> Option<&Bytes> {
        if let Self::Data(data) = self { Some(data) } else { None }
    }

    fn of(data: Bytes) -> Self {
        Self::Data(data)
    }
}

impl Event for ResponseEvent {
    fn data(&self) -> Option<&Bytes> {
        if let Self::Data(data) = self { Some(data) } else { None }
    }

    fn of(data: Bytes) -> Self {
        Self::Data(data)
    }
}

fn merge<E: Event>(events: Vec<E>) -> Vec<E> {
    let mut merged: Vec<E> = Vec::new();
    for event in events {
        let joined = match (merged.last().and_then(E::data), event.data()) {
            (Some(before), Some(data)) => Some([&before[..], data].concat()),
            _ => None,
        };
        match joined {
            Some(joined) => *merged.last_mut().expect("there was data") = E::of(joined.into()),
            None => merged.push(event),
        }
    }
    merged
}

/// A head without body fields.
fn request_head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let target = if method == "CONNECT" { "example.com:443" } else { "/" };
    let method = Method::try_from(method).unwrap();
    let target = Target::parse(&method, &Bytes::from_static(target.as_bytes())).unwrap();
    let headers = headers(&[&[("Host", "example.com")], fields].concat());
    RequestHead { method, target, version: Version::Http11, headers }
}

fn headers(fields: &[(&str, &str)]) -> Headers {
    let field = |&(name, value): &(&str, &str)| {
        (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap())
    };
    fields.iter().map(field).collect()
}

fn lines(headers: &Headers) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
}
