//! A client of a sandbox's control socket ([`crate::control`]).
//!
//! ```text
//!   Connection::over ─► call ─► result
//!                    ─► dial ─► the bytes of a TCP connection
//!                    ─► run, pack, unpack ─► Program (status, resize) + Streams
//! ```
//! Dropping what any of them returned, or its future, closes the connection, and that cancels the call.

use std::io;
use std::sync::Arc;

use matchlock_wire::io::{
    Credits, FrameReader, Granted, ReadError, Receiver, Sender, Sink, read_one, receiving, sending,
    write_frames,
};
use matchlock_wire::{Flood, StreamId, WireError, WireMessage};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::control::{
    ClientFrame, DialParams, PackParams, RunParams, ServerFrame, TtySize, UnpackParams,
};
use crate::error::RpcError;
use crate::exec::ExitResult;
use crate::id::RequestId;
use crate::message::{Method, control_method};
use crate::rpc::{InvalidAnswer, ServerMessage, call_message};

/// There is one call for each connection.
const ID: RequestId = RequestId::Number(1);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The sandbox answered with an error.
    #[error(transparent)]
    Refused(RpcError),
    /// The connection ended first, usually because the sandbox did.
    #[error("the connection to the sandbox was lost")]
    Lost(#[source] Option<io::Error>),
    /// What came is not the protocol of a control socket.
    #[error("the sandbox sent what its control socket does not have")]
    Protocol(#[source] Option<WireError>),
    /// The answer is none.
    #[error(transparent)]
    Answer(InvalidAnswer),
}

impl From<ReadError> for ClientError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Lost(None),
            ReadError::Io(error) => Self::Lost(Some(error)),
            ReadError::Protocol(error) => Self::Protocol(Some(error)),
        }
    }
}

impl From<Flood> for ClientError {
    fn from(_: Flood) -> Self {
        Self::Protocol(None)
    }
}

/// A connection on which nothing was asked yet.
#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    /// Over a stream that was just connected to the socket.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Calls a method without streams.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call<M: Method>(self, params: M::Params) -> Result<M::Result, ClientError> {
        self.ask::<M>(params).await.map(|(result, _)| result)
    }

    /// Connects to a TCP port of the guest.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] if nothing listens there.
    pub async fn dial(self, port: u16) -> Result<UnixStream, ClientError> {
        let answered = self.ask::<control_method::Dial>(DialParams { port }).await;
        answered.map(|(_, stream)| stream)
    }

    /// Runs a program.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Refused`] if it cannot be started.
    pub async fn run(self, params: RunParams) -> Result<(Program, Streams), ClientError> {
        let has_stdin = params.stdin || params.tty.is_some();
        self.start::<control_method::Run>(params, has_stdin).await
    }

    /// Copies files of the guest: an archive comes as standard output.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pack(self, params: PackParams) -> Result<(Program, Streams), ClientError> {
        self.start::<control_method::Pack>(params, false).await
    }

    /// Copies files into the guest, of an archive on standard input.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unpack(self, params: UnpackParams) -> Result<(Program, Streams), ClientError> {
        self.start::<control_method::Unpack>(params, true).await
    }

    async fn start<M: Method<Result = ExitResult>>(
        mut self,
        params: M::Params,
        has_stdin: bool,
    ) -> Result<(Program, Streams), ClientError> {
        send::<M>(&mut self.0, params).await?;
        match read_one(&mut self.0).await? {
            ServerFrame::Ready => Ok(Program::attend(self.0, has_stdin)),
            ServerFrame::Message(json) => match answer::<M>(&json) {
                Err(error) => Err(error),
                Ok(_) => Err(ClientError::Protocol(None)),
            },
            _ => Err(ClientError::Protocol(None)),
        }
    }

    async fn ask<M: Method>(
        mut self,
        params: M::Params,
    ) -> Result<(M::Result, UnixStream), ClientError> {
        send::<M>(&mut self.0, params).await?;
        match read_one(&mut self.0).await? {
            ServerFrame::Message(json) => Ok((answer::<M>(&json)?, self.0)),
            _ => Err(ClientError::Protocol(None)),
        }
    }
}

/// A program that runs. Dropping it cancels the program.
#[derive(Debug)]
pub struct Program {
    frames: UnboundedSender<ClientFrame>,
    status: oneshot::Receiver<Result<ExitResult, ClientError>>,
    tasks: [JoinHandle<()>; 2],
}

/// The byte streams of a program that runs.
#[derive(Debug)]
pub struct Streams {
    /// Its input, if it has any. Dropping it is the end of the input.
    pub stdin: Option<Sender<ClientFrame>>,
    /// Standard output, or all output of a terminal.
    pub stdout: Receiver,
    /// Standard error.
    pub stderr: Receiver,
}

impl Program {
    fn attend(stream: UnixStream, has_stdin: bool) -> (Self, Streams) {
        let (reader, writer) = stream.into_split();
        let (frames, outgoing) = unbounded_channel();
        let credits = Arc::new(Credits::default());
        let end: fn() -> ClientFrame = || ClientFrame::StdinEnd;
        let end = has_stdin.then_some(end);
        let (stdin, granted) = sending(frames.clone(), ClientFrame::Stdin, end);
        let (stdout_sink, stdout) = receiving(StreamId::Stdout, &credits);
        let (stderr_sink, stderr) = receiving(StreamId::Stderr, &credits);
        let writing = write_frames(writer, outgoing, credits, ClientFrame::Credit);
        let incoming = Incoming { stdin: granted, stdout: stdout_sink, stderr: stderr_sink };
        let (report, status) = oneshot::channel();
        let tasks = [
            // A connection that does not take frames is one that ends for the reader, too.
            tokio::spawn(async move { drop(writing.await) }),
            tokio::spawn(async move {
                let ended = incoming.run(FrameReader::new(reader)).await;
                drop(incoming);
                drop(report.send(ended));
            }),
        ];
        let stdin = has_stdin.then_some(stdin);
        (Self { frames, status, tasks }, Streams { stdin, stdout, stderr })
    }

    /// Tells its terminal another size.
    pub fn resize(&self, size: TtySize) {
        drop(self.frames.send(ClientFrame::Resize(size)));
    }

    /// Waits for its end. All of its output is in its [`Streams`] by then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait(&mut self) -> Result<ExitResult, ClientError> {
        (&mut self.status).await.unwrap_or(Err(ClientError::Lost(None)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Hands received frames to their streams.
struct Incoming {
    stdin: Granted,
    stdout: Sink,
    stderr: Sink,
}

impl Incoming {
    async fn run(
        &self,
        mut frames: FrameReader<ServerFrame, OwnedReadHalf>,
    ) -> Result<ExitResult, ClientError> {
        loop {
            match frames.next().await? {
                ServerFrame::Stdout(data) => self.stdout.accept(data)?,
                ServerFrame::Stderr(data) => self.stderr.accept(data)?,
                ServerFrame::Credit(_, bytes) => self.stdin.add(bytes),
                ServerFrame::Message(json) => return answer::<control_method::Run>(&json),
                ServerFrame::Ready => return Err(ClientError::Protocol(None)),
            }
        }
    }
}

async fn send<M: Method>(stream: &mut UnixStream, params: M::Params) -> Result<(), ClientError> {
    let mut bytes = Vec::new();
    ClientFrame::Message(call_message::<M>(&ID, params)).encode(&mut bytes);
    match stream.write_all(&bytes).await {
        Ok(()) => Ok(()),
        Err(error) => Err(ClientError::Lost(Some(error))),
    }
}

fn answer<M: Method>(json: &[u8]) -> Result<M::Result, ClientError> {
    match ServerMessage::parse(json).map_err(ClientError::Answer)? {
        ServerMessage::Result { result, .. } => {
            ServerMessage::result::<M>(&result).map_err(ClientError::Answer)
        }
        ServerMessage::Error { error, .. } => Err(ClientError::Refused(error)),
        ServerMessage::Notification(_) | ServerMessage::Unknown { .. } => {
            Err(ClientError::Protocol(None))
        }
    }
}

#[cfg(test)]
mod tests;
