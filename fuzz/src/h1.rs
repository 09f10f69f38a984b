//! HTTP/1.1 from the guest and from servers.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use matchlock_intercept::h1::{
    Framing, H1Error, Method, PathAndQuery, RequestDecoder, RequestEncoder, RequestEvent,
    RequestHead, ResponseDecoder, ResponseEncoder, ResponseEvent, Target, Version,
};
use matchlock_intercept::headers::{HeaderName, HeaderValue, Headers};

/// The requests of a connection. The first three bytes choose how the rest is cut. What is written
/// from what was read means the same.
pub fn h1_request(input: &[u8]) {
    let Some((cuts, stream)) = input.split_first_chunk::<3>() else { return };
    let read = |stream: &[u8], cuts: &[u8]| {
        let mut decoder = RequestDecoder::new();
        read(stream, cuts, |input| match input {
            Some(input) => decoder.decode(input),
            None => decoder.eof(),
        })
    };
    let at_once = read(stream, &[]);
    assert_eq!(at_once, read(stream, cuts), "how the bytes arrive changes what they mean");

    let mut events = at_once.0;
    let complete = events.iter().rposition(|event| *event == RequestEvent::End);
    events.truncate(complete.map_or(0, |end| end + 1));
    let forwarded = write_requests(&events);
    let (again, error) = read(&forwarded, cuts);
    assert_eq!(error, None, "what is forwarded is refused");
    assert_eq!(without_framing(&again), without_framing(&events), "forwarding changes a request");
    assert_eq!(write_requests(&again), forwarded, "what is forwarded is not canonical");
}

/// The response to a request that the first byte chooses; the next three say how the rest is cut.
pub fn h1_response(input: &[u8]) {
    let Some((&[choice, ref cuts @ ..], stream)) = input.split_first_chunk::<4>() else { return };
    let request = request(choice);
    let read = |stream: &[u8], cuts: &[u8]| {
        let mut decoder = ResponseDecoder::new(&request);
        read(stream, cuts, |input| match input {
            Some(input) => decoder.decode(input),
            None => decoder.eof(),
        })
    };
    let at_once = read(stream, &[]);
    assert_eq!(at_once, read(stream, cuts), "how the bytes arrive changes what they mean");
    let (events, error) = at_once;
    if error.is_none() {
        let (again, error) = read(&write_response(&events), cuts);
        assert_eq!(error, None, "what is forwarded is refused");
        let parts = |events: &[ResponseEvent]| events.iter().map(part).collect::<Vec<_>>();
        assert_eq!(parts(&again), parts(&events), "forwarding changes a response");
    }
}

/// Events with adjacent data as one, and the error that ended them. Without cuts all comes at once.
fn read<E: Event>(
    mut stream: &[u8],
    cuts: &[u8],
    mut next: impl FnMut(Option<&mut BytesMut>) -> Result<Option<E>, H1Error>,
) -> (Vec<E>, Option<H1Error>) {
    let mut events: Vec<E> = Vec::new();
    let mut add = |event: E| match (events.last().and_then(E::data), event.data()) {
        (Some(before), Some(data)) => {
            let joined = [&before[..], data].concat();
            *events.last_mut().expect("there was data") = E::of(joined.into());
        }
        _ => events.push(event),
    };
    let mut cuts = cuts.iter().map(|&cut| usize::from(cut) + 1).cycle();
    let mut input = BytesMut::new();
    let error = loop {
        match next(Some(&mut input)) {
            Ok(Some(event)) => add(event),
            Err(error) => break Some(error),
            Ok(None) if stream.is_empty() => match next(None) {
                Ok(Some(event)) => add(event),
                Ok(None) => break None,
                Err(error) => break Some(error),
            },
            Ok(None) => {
                let cut = cuts.next().map_or(stream.len(), |cut| cut.min(stream.len()));
                let (piece, rest) = stream.split_at(cut);
                input.extend_from_slice(piece);
                stream = rest;
            }
        }
    };
    (events, error)
}

trait Event: Debug {
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

fn request(choice: u8) -> RequestHead {
    let method = Method::try_from(["GET", "HEAD", "CONNECT", "GET"][usize::from(choice % 4)]);
    let mut headers = Headers::new();
    if choice % 4 == 3 {
        let mut add = |name, value| {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        };
        add("Connection", "Upgrade");
        add("Upgrade", "websocket");
    }
    RequestHead {
        method: method.expect("a token"),
        target: Target::Origin(PathAndQuery::new("/").expect("a path")),
        version: Version::Http11,
        headers,
    }
}

fn write_requests(events: &[RequestEvent]) -> BytesMut {
    let mut out = BytesMut::new();
    let mut encoder = RequestEncoder::new();
    let mut trailers = None;
    for event in events {
        match event {
            RequestEvent::Head(head, framing) => encoder.head(head, *framing, &mut out),
            RequestEvent::Data(data) => encoder.data(data, &mut out).expect("as long as it says"),
            RequestEvent::Trailers(fields) => trailers = Some(fields),
            RequestEvent::End => {
                encoder.end(trailers.take(), &mut out).expect("as long as it says");
            }
        }
    }
    out
}

fn write_response(events: &[ResponseEvent]) -> BytesMut {
    let mut out = BytesMut::new();
    let mut encoder = ResponseEncoder::new();
    let mut trailers = None;
    for event in events {
        match event {
            ResponseEvent::Informational(head) => encoder.head(head, Framing::None, &mut out),
            ResponseEvent::Head(head, framing) => encoder.head(head, *framing, &mut out),
            ResponseEvent::Data(data) => encoder.data(data, &mut out).expect("as long as it says"),
            ResponseEvent::Trailers(fields) => trailers = Some(fields),
            ResponseEvent::End | ResponseEvent::Switched => {
                encoder.end(trailers.take(), &mut out).expect("as long as it says");
            }
        }
    }
    out
}

/// Requests with nothing in their heads that the encoder makes anew.
fn without_framing(events: &[RequestEvent]) -> Vec<RequestEvent> {
    let change = |event: &RequestEvent| match event.clone() {
        RequestEvent::Head(mut head, framing) => {
            head.version = Version::Http11;
            head.headers = bare(&head.headers);
            RequestEvent::Head(head, framing)
        }
        event => event,
    };
    events.iter().map(change).collect()
}

/// What must be the same in a response that was forwarded.
fn part(event: &ResponseEvent) -> String {
    match event {
        ResponseEvent::Informational(head) | ResponseEvent::Head(head, _) => {
            let headers = bare(&head.headers);
            let fields: Vec<_> = headers.iter().map(|(n, v)| (n, v.as_bytes())).collect();
            format!("{:?} {:?} {fields:?}", head.status, head.reason)
        }
        other => format!("{other:?}"),
    }
}

fn bare(headers: &Headers) -> Headers {
    let mut headers = headers.clone();
    headers.remove("content-length");
    headers.remove("transfer-encoding");
    headers
}
