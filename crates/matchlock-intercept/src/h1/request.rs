//! Requests, one after another.

use bytes::{Bytes, BytesMut};

use super::body::{Body, Part};
use super::lines::HeadReader;
use super::{Framing, H1Error, InvalidHead, Method, RequestHead, Target, Version};
use crate::headers::Headers;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestEvent {
    /// A request begins; its [`authority`](RequestHead::authority) is known to be sound.
    Head(RequestHead, Framing),
    /// Some of the body, never empty.
    Data(Bytes),
    /// Fields after a chunked body, if there are any.
    Trailers(Headers),
    /// The request is complete; the next one may follow.
    End,
}

/// Reads the requests of a connection. Once a request asks for an upgrade or is a CONNECT, whether
/// more HTTP follows is for the response to say: do not decode on before.
#[derive(Debug)]
pub struct RequestDecoder {
    state: State,
}

#[derive(Debug)]
enum State {
    Head(HeadReader<StartLine>),
    Body(Body),
    End,
    Failed(H1Error),
}

type StartLine = (Method, Target, Version);

impl RequestDecoder {
    /// For a connection, before its first byte.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::between() }
    }

    /// Takes the next event off the buffer; `None` asks for more bytes. An error is for ever.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<RequestEvent>, H1Error> {
        let result = self.step(input);
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// The client sends no more, and `decode` has returned `None`: fails if a request is incomplete.
    pub fn eof(&mut self) -> Result<Option<RequestEvent>, H1Error> {
        match &self.state {
            State::Head(head) if !head.in_head() => Ok(None),
            State::Failed(error) => Err(error.clone()),
            State::Head(_) | State::Body(_) | State::End => Err(H1Error::CutOff),
        }
    }

    /// Whether no request has begun that has not ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, State::Head(head) if !head.in_head())
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Option<RequestEvent>, H1Error> {
        match &mut self.state {
            State::Head(reader) => {
                let Some((start, headers)) = reader.read(input, parse)? else { return Ok(None) };
                let (head, framing) = check(start, headers)?;
                self.state = State::Body(Body::new(framing));
                Ok(Some(RequestEvent::Head(head, framing)))
            }
            State::Body(body) => Ok(match body.decode(input)? {
                None => None,
                Some(Part::Data(data)) => Some(RequestEvent::Data(data)),
                Some(Part::End(trailers)) if trailers.is_empty() => {
                    self.state = State::between();
                    Some(RequestEvent::End)
                }
                Some(Part::End(trailers)) => {
                    self.state = State::End;
                    Some(RequestEvent::Trailers(trailers))
                }
            }),
            State::End => {
                self.state = State::between();
                Ok(Some(RequestEvent::End))
            }
            State::Failed(error) => Err(error.clone()),
        }
    }
}

impl Default for RequestDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn between() -> Self {
        Self::Head(HeadReader::new(true))
    }
}

fn check(
    (method, target, version): StartLine,
    headers: Headers,
) -> Result<(RequestHead, Framing), H1Error> {
    let framing = Framing::of_request(&method, version, &headers)?;
    let head = RequestHead { method, target, version, headers };
    head.authority().map_err(H1Error::Authority)?;
    Ok((head, framing))
}

/// RFC 9112, section 3, with exactly one space between the parts.
fn parse(line: &Bytes) -> Result<StartLine, H1Error> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(H1Error::RequestLine);
    };
    let method = Method::new(line.slice_ref(method)).map_err(H1Error::Start)?;
    // These two decide where the response ends: a lenient server must not know them by another case.
    if ["HEAD", "CONNECT"].iter().any(|name| method.is_but_for_case(name)) {
        return Err(H1Error::Start(InvalidHead::Method));
    }
    let version = Version::parse(version).ok_or(H1Error::Version)?;
    let target = Target::parse(&method, &line.slice_ref(target)).map_err(H1Error::Target)?;
    Ok((method, target, version))
}
