//! The control socket of a running sandbox: one connection for each call.
//!
//! A client connects, sends one call as a [`ClientFrame::Message`], and gets its answer as a
//! [`ServerFrame::Message`]. Both are JSON-RPC, as on the lines of [`crate::rpc`], but without line ends.
//! The bytes of streams are frames of their own, under credit ([`matchlock_wire::Window`]), and not Base64:
//!
//! | call | frames beside the answer |
//! |---|---|
//! | `run` | [`ServerFrame::Ready`] when it runs; then input and [`ClientFrame::Resize`] from the client, output to it |
//! | `pack` | [`ServerFrame::Ready`]; then an archive to the client, as standard output |
//! | `unpack` | [`ServerFrame::Ready`]; then an archive from the client, up to [`ClientFrame::StdinEnd`] |
//! | `write_file` | the content from the client, up to [`ClientFrame::StdinEnd`] |
//! | `read_file`, `log`, `log_stream` | the content to the client, as standard output |
//! | `dial` | none: after its answer the connection carries the plain bytes of a TCP connection |
//!
//! `pack` and `unpack` end as programs do: status 0, or the number of an error (errno(3)). Standard error has its
//! text, or with status 0 a line for each file that is not copied as it was.
//!
//! Closing the connection cancels the call. The answer is the last frame, and all output is before it.
//! What `rpc` has for programs whose streams are JSON (`exec` and so on) is not here.

mod params;

use crate::id::RequestId;
use crate::message::{Call, ControlCall};
use crate::params::InvalidParams;
use crate::rpc::{Message, Refusal, call, invalid_request};
use matchlock_wire::{MAX_DATA, StreamId, WireError, WireMessage, put};

pub use params::{
    AllowListResult, Arg, DialParams, PackParams, Process, RunParams, SecretInfo, SecretListResult,
    SecretNameParams, SecretSetParams, StatsResult, TopResult, TtySize, UnpackParams,
};

/// The largest message in bytes: the arguments and the environment of a program are in one.
pub const MAX_MESSAGE: usize = 4 << 20;

/// The socket's name in the directory of its sandbox.
pub const SOCKET: &str = "control.sock";

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// The call as JSON; once, first.
    Message(Vec<u8>),
    /// Bytes for the command's input, within the credit.
    Stdin(Vec<u8>),
    /// The end of that input.
    StdinEnd,
    /// The program's terminal has another size.
    Resize(TtySize),
    /// The client has used this many more bytes of an output stream.
    Credit(StreamId, u32),
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame {
    /// The program runs, and takes input.
    Ready,
    /// The answer as JSON.
    Message(Vec<u8>),
    /// Bytes of standard output, within the credit.
    Stdout(Vec<u8>),
    /// Bytes of standard error, within the credit.
    Stderr(Vec<u8>),
    /// The server has used this many more bytes of the input.
    Credit(StreamId, u32),
}

const STDIN: u8 = 0x01;
const STDOUT: u8 = 0x02;
const STDERR: u8 = 0x03;
const STDIN_END: u8 = 0x04;
const RESIZE: u8 = 0x05;
const CREDIT: u8 = 0x07;
const READY: u8 = 0x21;
const MESSAGE: u8 = 0x40;

/// A stream's number and the bytes, big-endian.
const CREDIT_LEN: usize = 5;

/// Rows and columns, big-endian.
const RESIZE_LEN: usize = 4;

impl WireMessage for ClientFrame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message(json) => put(out, MESSAGE, json),
            Self::Stdin(data) => put(out, STDIN, data),
            Self::StdinEnd => put(out, STDIN_END, &[]),
            Self::Resize(TtySize { rows, cols }) => {
                let ([a, b], [c, d]) = (rows.to_be_bytes(), cols.to_be_bytes());
                put(out, RESIZE, &[a, b, c, d]);
            }
            Self::Credit(stream, bytes) => put_credit(out, *stream, *bytes),
        }
    }

    fn max_payload(kind: u8) -> Result<usize, WireError> {
        match kind {
            MESSAGE => Ok(MAX_MESSAGE),
            STDIN => Ok(MAX_DATA),
            STDIN_END => Ok(0),
            RESIZE => Ok(RESIZE_LEN),
            CREDIT => Ok(CREDIT_LEN),
            _ => Err(WireError::UnknownType(kind)),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        match kind {
            MESSAGE => Ok(Self::Message(payload.to_vec())),
            STDIN => Ok(Self::Stdin(payload.to_vec())),
            STDIN_END if payload.is_empty() => Ok(Self::StdinEnd),
            RESIZE => {
                let &[a, b, c, d] = payload else { return Err(WireError::Malformed(kind)) };
                let (rows, cols) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Ok(Self::Resize(TtySize { rows, cols }))
            }
            CREDIT => match credit(payload)? {
                (StreamId::Stdin, _) => Err(WireError::Malformed(CREDIT)),
                (stream, bytes) => Ok(Self::Credit(stream, bytes)),
            },
            _ => Err(WireError::UnknownType(kind)),
        }
    }
}

impl WireMessage for ServerFrame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ready => put(out, READY, &[]),
            Self::Message(json) => put(out, MESSAGE, json),
            Self::Stdout(data) => put(out, STDOUT, data),
            Self::Stderr(data) => put(out, STDERR, data),
            Self::Credit(stream, bytes) => put_credit(out, *stream, *bytes),
        }
    }

    fn max_payload(kind: u8) -> Result<usize, WireError> {
        match kind {
            MESSAGE => Ok(MAX_MESSAGE),
            STDOUT | STDERR => Ok(MAX_DATA),
            READY => Ok(0),
            CREDIT => Ok(CREDIT_LEN),
            _ => Err(WireError::UnknownType(kind)),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, WireError> {
        match kind {
            MESSAGE => Ok(Self::Message(payload.to_vec())),
            READY => Ok(Self::Ready),
            STDOUT => Ok(Self::Stdout(payload.to_vec())),
            STDERR => Ok(Self::Stderr(payload.to_vec())),
            CREDIT => match credit(payload)? {
                (StreamId::Stdin, bytes) => Ok(Self::Credit(StreamId::Stdin, bytes)),
                _ => Err(WireError::Malformed(CREDIT)),
            },
            _ => Err(WireError::UnknownType(kind)),
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// What only the control socket has.
    Control(ControlCall),
    /// A method of `rpc`.
    Rpc(Call),
}

/// Reads the message that a connection begins with.
///
/// # Errors
/// The answer to a message that asks for nothing that is here.
pub fn receive(json: &[u8]) -> Result<(RequestId, Asked), Refusal> {
    let Message { method, params, id } = Message::read(json)?;
    let Some(id) = id else {
        let error = invalid_request(format!("{method} requires request id"));
        return Err(Refusal { id, error });
    };
    let read = match ControlCall::read(&method, params) {
        Some(call) => call.map(|(call, _)| Asked::Control(call)).map_err(InvalidParams::into),
        None => call(&method, params).map(|(call, _)| Asked::Rpc(call)),
    };
    read.map(|asked| (id.clone(), asked)).map_err(|error| Refusal { id: Some(id), error })
}

fn put_credit(out: &mut Vec<u8>, stream: StreamId, bytes: u32) {
    let stream = match stream {
        StreamId::Stdin => STDIN,
        StreamId::Stdout => STDOUT,
        StreamId::Stderr => STDERR,
    };
    let [a, b, c, d] = bytes.to_be_bytes();
    put(out, CREDIT, &[stream, a, b, c, d]);
}

fn credit(payload: &[u8]) -> Result<(StreamId, u32), WireError> {
    let &[stream, a, b, c, d] = payload else { return Err(WireError::Malformed(CREDIT)) };
    let stream = match stream {
        STDIN => StreamId::Stdin,
        STDOUT => StreamId::Stdout,
        STDERR => StreamId::Stderr,
        _ => return Err(WireError::Malformed(CREDIT)),
    };
    Ok((stream, u32::from_be_bytes([a, b, c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matchlock_wire::Decoder;
    use proptest::prelude::*;

    fn data() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..300)
    }

    fn client_frame() -> impl Strategy<Value = ClientFrame> {
        let outputs = prop_oneof![Just(StreamId::Stdout), Just(StreamId::Stderr)];
        prop_oneof![
            data().prop_map(ClientFrame::Message),
            data().prop_map(ClientFrame::Stdin),
            Just(ClientFrame::StdinEnd),
            any::<(u16, u16)>()
                .prop_map(|(rows, cols)| ClientFrame::Resize(TtySize { rows, cols })),
            (outputs, any::<u32>()).prop_map(|(stream, n)| ClientFrame::Credit(stream, n)),
        ]
    }

    fn server_frame() -> impl Strategy<Value = ServerFrame> {
        prop_oneof![
            Just(ServerFrame::Ready),
            data().prop_map(ServerFrame::Message),
            data().prop_map(ServerFrame::Stdout),
            data().prop_map(ServerFrame::Stderr),
            any::<u32>().prop_map(|n| ServerFrame::Credit(StreamId::Stdin, n)),
        ]
    }

    fn round_trip<M: WireMessage + PartialEq + std::fmt::Debug>(
        frames: &[M],
        size: usize,
    ) -> Result<(), TestCaseError> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        let mut decoder = Decoder::<M>::new();
        let mut seen = Vec::new();
        for piece in bytes.chunks(size) {
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
        fn frames_survive_any_chunking(
            client in proptest::collection::vec(client_frame(), 0..8),
            server in proptest::collection::vec(server_frame(), 0..8),
            size in 1usize..700,
        ) {
            round_trip(&client, size)?;
            round_trip(&server, size)?;
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::<ClientFrame>::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
            let mut decoder = Decoder::<ServerFrame>::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }

    #[test]
    fn a_call_is_one_of_the_socket_or_of_rpc() {
        let json = br#"{"jsonrpc":"2.0","id":1,"method":"dial","params":{"port":80}}"#;
        let dial = Asked::Control(ControlCall::Dial(DialParams { port: 80 }));
        assert_eq!(receive(json), Ok((RequestId::Number(1), dial)));
        let json = br#"{"jsonrpc":"2.0","id":1,"method":"log"}"#;
        assert!(matches!(receive(json), Ok((_, Asked::Rpc(Call::Log(_))))));
        for (refused, code) in [
            ("{", -32700),
            (r#"{"jsonrpc":"2.0","method":"log"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":"nothing"}"#, -32601),
            (r#"{"jsonrpc":"2.0","id":1,"method":"dial","params":{"port":0}}"#, -32602),
        ] {
            let refusal = receive(refused.as_bytes()).expect_err(refused);
            assert_eq!(refusal.error.code.number(), code, "{refused}");
        }
    }

    #[test]
    fn an_end_takes_no_frame_that_is_the_other_s() {
        for frame in [ServerFrame::Stdout(vec![1]), ServerFrame::Credit(StreamId::Stdin, 1)] {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            let mut decoder = Decoder::<ClientFrame>::new();
            decoder.push(&bytes);
            assert!(decoder.next().is_err(), "{frame:?}");
        }
    }

    #[test]
    fn a_message_beyond_the_bound_is_refused_before_it_arrives() {
        let mut bytes = vec![MESSAGE];
        bytes.extend_from_slice(&(MAX_MESSAGE as u32 + 1).to_be_bytes());
        let mut decoder = Decoder::<ClientFrame>::new();
        decoder.push(&bytes);
        assert!(matches!(decoder.next(), Err(WireError::TooLong { .. })));
    }
}
