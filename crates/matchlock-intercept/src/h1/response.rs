//! The response to one request.

use bytes::{Bytes, BytesMut};

use super::body::{Body, Part};
use super::lines::HeadReader;
use super::{
    Framing, H1Error, Reason, RequestHead, ResponseHead, Status, Version, asks_for_upgrade,
};
use crate::headers::Headers;

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseEvent {
    /// A response before the response: 1xx but 101.
    Informational(ResponseHead),
    /// The response begins.
    Head(ResponseHead, Framing),
    /// Some of the body, never empty.
    Data(Bytes),
    /// Fields after a chunked body, if there are any.
    Trailers(Headers),
    /// The response is complete. What is left in the buffer was not asked for.
    End,
    /// HTTP ends here, after 101 or a successful CONNECT: what follows is of another protocol.
    Switched,
}

/// Reads the response to a request; there is a new decoder for each.
#[derive(Debug)]
pub struct ResponseDecoder {
    asked: Asked,
    state: State,
}

/// What the request was, as far as it decides where the response ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Plain,
    Head,
    Connect,
    Upgrade,
}

#[derive(Debug)]
enum State {
    Head(HeadReader<StartLine>),
    Body(Body),
    Trailers,
    Switching,
    Done,
    Failed(H1Error),
}

type StartLine = (Version, Status, Reason);

impl ResponseDecoder {
    /// For the response to this request, as it was sent to the server.
    #[must_use]
    pub fn new(request: &RequestHead) -> Self {
        let asked = if request.method.is("HEAD") {
            Asked::Head
        } else if request.method.is("CONNECT") {
            Asked::Connect
        } else if asks_for_upgrade(request) {
            Asked::Upgrade
        } else {
            Asked::Plain
        };
        Self { asked, state: State::Head(HeadReader::new(false)) }
    }

    /// Takes the next event off the buffer; `None` asks for more bytes, or, after
    /// [`End`](ResponseEvent::End) and [`Switched`](ResponseEvent::Switched), for nothing. An error
    /// is for ever.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<ResponseEvent>, H1Error> {
        let result = self.step(input);
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
        }
        result
    }

    /// The server sends no more, and `decode` has returned `None`: the end of a body that lasts until
    /// then, and an error within any other.
    pub fn eof(&mut self) -> Result<Option<ResponseEvent>, H1Error> {
        match &self.state {
            State::Body(Body::UntilClose) => {
                self.state = State::Done;
                Ok(Some(ResponseEvent::End))
            }
            State::Done => Ok(None),
            State::Failed(error) => Err(error.clone()),
            State::Head(_) | State::Body(_) | State::Trailers | State::Switching => {
                Err(H1Error::CutOff)
            }
        }
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Option<ResponseEvent>, H1Error> {
        match &mut self.state {
            State::Head(reader) => {
                let Some((start, headers)) = reader.read(input, parse)? else { return Ok(None) };
                self.begin(start, headers).map(Some)
            }
            State::Body(body) => Ok(match body.decode(input)? {
                None => None,
                Some(Part::Data(data)) => Some(ResponseEvent::Data(data)),
                Some(Part::End(trailers)) if trailers.is_empty() => {
                    self.state = State::Done;
                    Some(ResponseEvent::End)
                }
                Some(Part::End(trailers)) => {
                    self.state = State::Trailers;
                    Some(ResponseEvent::Trailers(trailers))
                }
            }),
            State::Trailers => {
                self.state = State::Done;
                Ok(Some(ResponseEvent::End))
            }
            State::Switching => {
                self.state = State::Done;
                Ok(Some(ResponseEvent::Switched))
            }
            State::Done => Ok(None),
            State::Failed(error) => Err(error.clone()),
        }
    }

    fn begin(
        &mut self,
        (version, status, reason): StartLine,
        headers: Headers,
    ) -> Result<ResponseEvent, H1Error> {
        if status == Status::SWITCHING_PROTOCOLS && self.asked != Asked::Upgrade {
            return Err(H1Error::UnaskedUpgrade);
        }
        let to_connect = self.asked == Asked::Connect && status.is_success();
        let framing = if to_connect {
            // RFC 9110, section 9.3.6: lengths are ignored here.
            Framing::None
        } else {
            Framing::of_response(self.asked == Asked::Head, version, status, &headers)?
        };
        let head = ResponseHead { version, status, reason, headers };
        if status.is_interim() {
            self.state = State::Head(HeadReader::new(false));
            return Ok(ResponseEvent::Informational(head));
        }
        self.state = if to_connect || status == Status::SWITCHING_PROTOCOLS {
            State::Switching
        } else {
            State::Body(Body::new(framing))
        };
        Ok(ResponseEvent::Head(head, framing))
    }
}

/// RFC 9112, section 4; the reason may be missing along with the space before it.
fn parse(line: &Bytes) -> Result<StartLine, H1Error> {
    let (version, rest) = line.split_at_checked(8).ok_or(H1Error::StatusLine)?;
    let [b' ', a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(H1Error::StatusLine);
    };
    let version = Version::parse(version).ok_or(H1Error::Version)?;
    let code = [a, b, c].iter().fold(0, |code, &&digit| code * 10 + u16::from(digit - b'0'));
    let reason = match reason {
        [] => Reason::default(),
        [b' ', reason @ ..] => Reason::new(line.slice_ref(reason)).map_err(H1Error::Start)?,
        _ => return Err(H1Error::StatusLine),
    };
    Ok((version, Status::new(code).map_err(H1Error::Start)?, reason))
}
