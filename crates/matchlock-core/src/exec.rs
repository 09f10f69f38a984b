//! The host's end of an execution: three byte streams with credit, control, and the status.

mod credit;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use matchlock_net::AuditLost;
use matchlock_proto::{
    AgentFrame, Decoder, ExecFailure, ExecRequest, ExitStatus, HostFrame, INITIAL_WINDOW, MAX_DATA,
    Request, StreamId, WindowSize, WireError, WireMessage,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::credit::{Credits, Flood};
use crate::audit::ExecSpan;
use crate::classified::{Classified, ErrorKind};

/// Why an execution has no exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The agent could not start the program.
    #[error(transparent)]
    Refused(#[from] ExecFailure),
    /// The connection to the agent ended first, usually because the whole guest did.
    #[error("the connection to the guest was lost")]
    Lost(#[source] Option<io::Error>),
    /// The guest broke the protocol.
    #[error("the guest violated the agent protocol")]
    Protocol(#[source] WireError),
    /// The guest sent a message that has no meaning at this point.
    #[error("the guest sent a message out of turn")]
    Unexpected,
    /// The guest sent more than it was granted.
    #[error("the guest sent more output than it was granted")]
    Flood,
    /// The guest did not start the program within its time.
    #[error("the guest did not start the program in time")]
    Slow,
    /// The sandbox is not up, or not up any more.
    #[error("the sandbox is not running")]
    NotRunning,
    /// The audit trail does not take records, so nothing is started any more.
    #[error("cannot start the program: the audit trail is not writable")]
    Audit(#[source] AuditLost),
}

impl Classified for ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(ExecFailure::NotFound(_)) => ErrorKind::NotFound,
            Self::Refused(_) | Self::Lost(_) => ErrorKind::Guest,
            Self::Protocol(_) | Self::Unexpected | Self::Flood => ErrorKind::Guest,
            Self::Slow => ErrorKind::Timeout,
            Self::NotRunning => ErrorKind::Unavailable,
            Self::Audit(_) => ErrorKind::Io,
        }
    }
}

/// A running program. Dropping it cancels the program: everything that it started is ended.
#[derive(Debug)]
pub struct Execution {
    control: ExecControl,
    status: oneshot::Receiver<Result<ExitStatus, ExecError>>,
    ended: watch::Receiver<End>,
    tasks: [JoinHandle<()>; 2],
    span: Arc<ExecSpan>,
}

/// Nothing while the program runs, then its status, if it is known.
type End = Option<Option<ExitStatus>>;

/// What a supervisor needs of an execution.
#[derive(Debug)]
pub(crate) struct Attended {
    pub(crate) control: ExecControl,
    ended: watch::Receiver<End>,
}

impl Attended {
    /// How the program ended; `None` when the connection broke first.
    pub(crate) async fn ended(&mut self) -> Option<ExitStatus> {
        self.ended.wait_for(Option::is_some).await.ok().and_then(|end| end.flatten())
    }
}

/// The byte streams of a running program.
#[derive(Debug)]
pub struct Streams {
    /// Standard input; `None` when the request has none.
    pub stdin: Option<StdinSender>,
    /// Standard output, or all output of a terminal.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
}

/// Signals and resizes a running program.
#[derive(Debug, Clone)]
pub struct ExecControl {
    frames: UnboundedSender<HostFrame>,
}

/// Feeds standard input. Dropping it is the end of the input.
#[derive(Debug)]
pub struct StdinSender {
    frames: UnboundedSender<HostFrame>,
    credit: Arc<Semaphore>,
}

/// One output stream. What is taken from it is granted to the guest again. Dropping it lets the
/// program go on: what it writes there is thrown away.
#[derive(Debug)]
pub struct Output {
    stream: StreamId,
    chunks: UnboundedReceiver<Vec<u8>>,
    credits: Arc<Credits>,
}

impl Execution {
    /// Starts a program over a fresh connection to the agent.
    pub(crate) async fn start(
        stream: UnixStream,
        request: ExecRequest,
        span: ExecSpan,
        deadline: Instant,
    ) -> Result<(Self, Streams), ExecError> {
        let has_stdin = request.tty.is_some() || request.stdin == matchlock_proto::Stdin::Pipe;
        Self::open(stream, Request::Exec(request), has_stdin, span, deadline).await
    }

    /// Starts whatever is answered as an execution is.
    pub(crate) async fn open(
        stream: UnixStream,
        request: Request,
        has_stdin: bool,
        span: ExecSpan,
        deadline: Instant,
    ) -> Result<(Self, Streams), ExecError> {
        let (reader, writer) = stream.into_split();
        let (frames, outgoing) = unbounded_channel();
        drop(frames.send(HostFrame::Open(Box::new(request))));
        let credits = Arc::new(Credits::new());
        let writing = tokio::spawn(write_frames(writer, outgoing, Arc::clone(&credits)));
        let mut incoming = FrameReader::new(reader);
        let first = timeout_at(deadline.into(), incoming.next()).await;
        match first.unwrap_or(Err(ExecError::Slow)) {
            Ok(AgentFrame::Started) => {}
            Ok(AgentFrame::Refused(failure)) => return Err(span.failed(failure.into())),
            Ok(_) => return Err(span.failed(ExecError::Unexpected)),
            Err(error) => return Err(span.failed(error)),
        }
        let span = Arc::new(span);
        let credit = Arc::new(Semaphore::new(INITIAL_WINDOW as usize));
        let (stdout_sink, stdout) = output(StreamId::Stdout, &credits);
        let (stderr_sink, stderr) = output(StreamId::Stderr, &credits);
        let (report, status) = oneshot::channel();
        let sinks = Incoming {
            stdout: stdout_sink,
            stderr: stderr_sink,
            stdin_credit: Arc::clone(&credit),
        };
        let ending = Arc::clone(&span);
        let (end, ended) = watch::channel(None);
        let reading = tokio::spawn(async move {
            let result = sinks.run(incoming).await;
            ending.end(&result);
            end.send_replace(Some(result.as_ref().ok().copied()));
            sinks.stdin_credit.close();
            drop(report.send(result));
        });
        let stdin = has_stdin.then(|| StdinSender { frames: frames.clone(), credit });
        let control = ExecControl { frames };
        let this = Self { control, status, ended, tasks: [writing, reading], span };
        Ok((this, Streams { stdin, stdout, stderr }))
    }

    /// A handle for signals and resizes.
    #[must_use]
    pub fn control(&self) -> ExecControl {
        self.control.clone()
    }

    /// The same, with the program's end.
    pub(crate) fn attended(&self) -> Attended {
        Attended { control: self.control(), ended: self.ended.clone() }
    }

    /// Waits for the end of the program. All of its output is in its [`Streams`] by then.
    ///
    /// # Errors
    /// [`ExecError`] when the guest ended or misbehaved before the program's status was known.
    pub async fn wait(&mut self) -> Result<ExitStatus, ExecError> {
        match (&mut self.status).await {
            Ok(result) => result,
            Err(_) => Err(ExecError::Lost(None)),
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        // Both halves of the connection go with the tasks: the agent sees the end and cancels.
        for task in &self.tasks {
            task.abort();
        }
        self.span.cancel();
    }
}

impl ExecControl {
    /// Sends a signal to the program's process group.
    pub fn signal(&self, number: u8) {
        drop(self.frames.send(HostFrame::Signal(number)));
    }

    /// Tells the terminal its new size.
    pub fn resize(&self, size: WindowSize) {
        drop(self.frames.send(HostFrame::Resize(size)));
    }
}

impl StdinSender {
    /// Sends bytes, waiting until the program has read enough of the earlier ones.
    ///
    /// # Errors
    /// `BrokenPipe` when the program has ended.
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        for chunk in data.chunks(MAX_DATA) {
            let wanted = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let permit = self.credit.acquire_many(wanted).await;
            permit.map_err(|_| io::ErrorKind::BrokenPipe)?.forget();
            let frame = HostFrame::Stdin(chunk.to_vec());
            self.frames.send(frame).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

impl Drop for StdinSender {
    fn drop(&mut self) {
        drop(self.frames.send(HostFrame::StdinEof));
    }
}

impl Output {
    /// The next bytes, or `None` after the last.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunks.recv().await?;
        self.credits.consume(self.stream, chunk.len());
        Some(chunk)
    }

    /// Everything up to the end of the stream.
    pub async fn collect(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk);
        }
        all
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.chunks.close();
        while let Ok(chunk) = self.chunks.try_recv() {
            self.credits.consume(self.stream, chunk.len());
        }
    }
}

fn output(stream: StreamId, credits: &Arc<Credits>) -> (Sink, Output) {
    // Unbounded in type, bounded by the credit that `Sink` enforces.
    let (sender, chunks) = unbounded_channel();
    let sink = Sink { stream, chunks: sender, credits: Arc::clone(credits) };
    (sink, Output { stream, chunks, credits: Arc::clone(credits) })
}

/// Hands received frames to their streams.
struct Incoming {
    stdout: Sink,
    stderr: Sink,
    stdin_credit: Arc<Semaphore>,
}

impl Incoming {
    async fn run(&self, mut frames: FrameReader) -> Result<ExitStatus, ExecError> {
        loop {
            match frames.next().await? {
                AgentFrame::Stdout(data) => self.stdout.accept(data)?,
                AgentFrame::Stderr(data) => self.stderr.accept(data)?,
                AgentFrame::Credit(StreamId::Stdin, bytes) => {
                    // More than a window can never have been consumed: the excess is a lie.
                    let room = (INITIAL_WINDOW as usize)
                        .saturating_sub(self.stdin_credit.available_permits());
                    self.stdin_credit.add_permits(room.min(bytes as usize));
                }
                AgentFrame::Exited(status) => return Ok(status),
                AgentFrame::Refused(failure) => return Err(failure.into()),
                AgentFrame::Credit(..)
                | AgentFrame::Booted(_)
                | AgentFrame::Started
                | AgentFrame::Done => return Err(ExecError::Unexpected),
            }
        }
    }
}

/// The receiving side of one output stream.
struct Sink {
    stream: StreamId,
    chunks: UnboundedSender<Vec<u8>>,
    credits: Arc<Credits>,
}

impl Sink {
    fn accept(&self, data: Vec<u8>) -> Result<(), ExecError> {
        // Empty frames cost the guest nothing, so they must cost us nothing.
        if data.is_empty() {
            return Ok(());
        }
        self.credits.receive(self.stream, data.len()).map_err(|Flood| ExecError::Flood)?;
        if let Err(SendError(data)) = self.chunks.send(data) {
            // Nobody listens any more: the program must not be blocked by that.
            self.credits.consume(self.stream, data.len());
        }
        Ok(())
    }
}

/// Reads frames from the agent.
pub(crate) struct FrameReader {
    reader: OwnedReadHalf,
    decoder: Decoder<AgentFrame>,
    buffer: Box<[u8]>,
}

impl FrameReader {
    pub(crate) fn new(reader: OwnedReadHalf) -> Self {
        Self { reader, decoder: Decoder::new(), buffer: vec![0; MAX_DATA].into() }
    }

    pub(crate) async fn next(&mut self) -> Result<AgentFrame, ExecError> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(ExecError::Protocol)? {
                return Ok(frame);
            }
            match self.reader.read(&mut self.buffer).await {
                Ok(0) => return Err(ExecError::Lost(None)),
                Ok(n) => self.decoder.push(self.buffer.get(..n).unwrap_or_default()),
                Err(error) => return Err(ExecError::Lost(Some(error))),
            }
        }
    }
}

/// Sends frames until nobody can make any more, and credit between them.
async fn write_frames(
    mut writer: OwnedWriteHalf,
    mut frames: UnboundedReceiver<HostFrame>,
    credits: Arc<Credits>,
) {
    let mut buffer = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return,
            },
            grant = credits.next() => grant,
        };
        buffer.clear();
        frame.encode(&mut buffer);
        if writer.write_all(&buffer).await.is_err() {
            return;
        }
    }
}
