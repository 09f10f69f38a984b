//! The frames of both directions.

use matchlock_wire::{MAX_DATA, StreamId, WireError, WireMessage, put};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exec::{AgentFrame, HostFrame};

/// Largest payload of a control frame in bytes: a boot configuration or an exec request with a long
/// environment.
pub const MAX_CONTROL: usize = 4 * 1024 * 1024;

const STDIN: u8 = 0x01;
const STDOUT: u8 = 0x02;
const STDERR: u8 = 0x03;
const STDIN_EOF: u8 = 0x04;
const RESIZE: u8 = 0x05;
const SIGNAL: u8 = 0x06;
const CREDIT: u8 = 0x07;
const OPEN: u8 = 0x10;
const BOOTED: u8 = 0x20;
const STARTED: u8 = 0x21;
const EXITED: u8 = 0x22;
const REFUSED: u8 = 0x23;
const DONE: u8 = 0x24;

impl WireMessage for HostFrame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open(request) => control(out, OPEN, request.as_ref()),
            Self::Stdin(data) => put(out, STDIN, data),
            Self::StdinEof => put(out, STDIN_EOF, &[]),
            Self::Resize(size) => control(out, RESIZE, size),
            Self::Signal(number) => control(out, SIGNAL, number),
            Self::Credit(stream, bytes) => control(out, CREDIT, &(*stream, *bytes)),
        }
    }

    fn max_payload(kind: u8) -> Result<usize, WireError> {
        match kind {
            STDIN => Ok(MAX_DATA),
            STDIN_EOF => Ok(0),
            RESIZE | SIGNAL | CREDIT => Ok(16),
            OPEN => Ok(MAX_CONTROL),
            _ => Err(WireError::UnknownType(kind)),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        match kind {
            STDIN => Ok(Self::Stdin(payload.to_vec())),
            STDIN_EOF => Ok(Self::StdinEof),
            RESIZE => parse(kind, payload).map(Self::Resize),
            SIGNAL => parse(kind, payload).map(Self::Signal),
            CREDIT => parse::<(StreamId, u32)>(kind, payload).map(|(s, n)| Self::Credit(s, n)),
            OPEN => parse(kind, payload).map(|request| Self::Open(Box::new(request))),
            _ => Err(WireError::UnknownType(kind)),
        }
    }
}

impl WireMessage for AgentFrame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Booted(report) => control(out, BOOTED, report),
            Self::Started => put(out, STARTED, &[]),
            Self::Stdout(data) => put(out, STDOUT, data),
            Self::Stderr(data) => put(out, STDERR, data),
            Self::Credit(stream, bytes) => control(out, CREDIT, &(*stream, *bytes)),
            Self::Exited(status) => control(out, EXITED, status),
            Self::Refused(failure) => control(out, REFUSED, failure),
            Self::Done => put(out, DONE, &[]),
        }
    }

    fn max_payload(kind: u8) -> Result<usize, WireError> {
        match kind {
            STDOUT | STDERR => Ok(MAX_DATA),
            STARTED | DONE => Ok(0),
            EXITED | CREDIT => Ok(16),
            BOOTED | REFUSED => Ok(MAX_DATA),
            _ => Err(WireError::UnknownType(kind)),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        match kind {
            BOOTED => parse(kind, payload).map(Self::Booted),
            STARTED => Ok(Self::Started),
            STDOUT => Ok(Self::Stdout(payload.to_vec())),
            STDERR => Ok(Self::Stderr(payload.to_vec())),
            CREDIT => parse::<(StreamId, u32)>(kind, payload).map(|(s, n)| Self::Credit(s, n)),
            EXITED => parse(kind, payload).map(Self::Exited),
            REFUSED => parse(kind, payload).map(Self::Refused),
            DONE => Ok(Self::Done),
            _ => Err(WireError::UnknownType(kind)),
        }
    }
}

impl AgentFrame {
    /// Appends [`AgentFrame::Stdout`] or [`AgentFrame::Stderr`] as one frame to `out`, without owning
    /// the data. There is no such frame of [`StreamId::Stdin`], for which nothing is appended.
    pub fn encode_output(stream: StreamId, data: &[u8], out: &mut Vec<u8>) {
        match stream {
            StreamId::Stdin => {}
            StreamId::Stdout => put(out, STDOUT, data),
            StreamId::Stderr => put(out, STDERR, data),
        }
    }
}

fn control<T: Serialize + ?Sized>(out: &mut Vec<u8>, kind: u8, value: &T) {
    // Infallible for these types: they hold no maps of unknown length and no unserialisable values.
    let payload = postcard::to_allocvec(value).unwrap_or_default();
    put(out, kind, &payload);
}

fn parse<T: DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(WireError::Malformed(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{ExecRequest, ExitStatus, Request};
    use matchlock_wire::Decoder;
    use proptest::prelude::*;

    fn host_frame() -> impl Strategy<Value = HostFrame> {
        let data = || proptest::collection::vec(any::<u8>(), 0..300);
        let stream =
            prop_oneof![Just(StreamId::Stdin), Just(StreamId::Stdout), Just(StreamId::Stderr)];
        prop_oneof![
            data().prop_map(HostFrame::Stdin),
            Just(HostFrame::StdinEof),
            any::<u8>().prop_map(HostFrame::Signal),
            (stream, any::<u32>()).prop_map(|(s, n)| HostFrame::Credit(s, n)),
            (proptest::collection::vec(data(), 0..5), proptest::option::of(data())).prop_map(
                |(argv, working_dir)| {
                    HostFrame::Open(Box::new(Request::Exec(ExecRequest {
                        argv,
                        working_dir,
                        ..ExecRequest::default()
                    })))
                }
            ),
        ]
    }

    fn agent_frame() -> impl Strategy<Value = AgentFrame> {
        let data = || proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            data().prop_map(AgentFrame::Stdout),
            data().prop_map(AgentFrame::Stderr),
            Just(AgentFrame::Started),
            Just(AgentFrame::Done),
            any::<u8>().prop_map(|code| AgentFrame::Exited(ExitStatus::Code(code))),
            any::<u8>().prop_map(|signal| AgentFrame::Exited(ExitStatus::Signal(signal))),
        ]
    }

    fn round_trip<M: WireMessage + PartialEq + std::fmt::Debug>(
        frames: &[M],
        chunk: usize,
    ) -> Result<(), TestCaseError> {
        let mut bytes = Vec::new();
        for frame in frames {
            frame.encode(&mut bytes);
        }
        let mut decoder = Decoder::<M>::new();
        let mut seen = Vec::new();
        for piece in bytes.chunks(chunk) {
            decoder.push(piece);
            while let Some(frame) = decoder.next().expect("own frames decode") {
                seen.push(frame);
            }
        }
        prop_assert!(!decoder.is_mid_frame());
        prop_assert_eq!(seen.as_slice(), frames);
        Ok(())
    }

    proptest! {
        #[test]
        fn host_frames_survive_any_chunking(
            frames in proptest::collection::vec(host_frame(), 0..8), chunk in 1usize..700,
        ) {
            round_trip(&frames, chunk)?;
        }

        #[test]
        fn agent_frames_survive_any_chunking(
            frames in proptest::collection::vec(agent_frame(), 0..8), chunk in 1usize..700,
        ) {
            round_trip(&frames, chunk)?;
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_errors_are_final(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let mut decoder = Decoder::<HostFrame>::new();
            decoder.push(&bytes);
            let error = loop {
                match decoder.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                }
            };
            let mut valid = Vec::new();
            HostFrame::StdinEof.encode(&mut valid);
            decoder.push(&valid);
            prop_assert_eq!(decoder.next(), Err(error));
        }
    }

    #[test]
    fn a_length_beyond_its_bound_is_refused_before_the_payload_arrives() {
        let mut decoder = Decoder::<AgentFrame>::new();
        decoder.push(&[STDOUT, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(decoder.next(), Err(WireError::TooLong { kind: STDOUT, .. })));
    }

    #[test]
    fn trailing_bytes_in_a_control_payload_are_refused() {
        let mut decoder = Decoder::<HostFrame>::new();
        decoder.push(&[SIGNAL, 0, 0, 0, 2, 15, 15]);
        assert_eq!(decoder.next(), Err(WireError::Malformed(SIGNAL)));
    }
}
