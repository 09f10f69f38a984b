//! The host's end of an execution: three byte streams with credit, control, and the status.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use matchlock_net::AuditLost;
use matchlock_proto::{
    AgentFrame, ExecFailure, ExecRequest, ExitStatus, Flood, HostFrame, Request, StreamId,
    WindowSize, WireError,
};
use matchlock_wire::io::{
    Credits, FrameReader, Granted, ReadError, Receiver, Sender, Sink, receiving, sending,
    write_frames,
};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::audit::ExecSpan;
use crate::classified::{Classified, ErrorKind};
use crate::log::{Log, LogSource};

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

impl From<ReadError> for ExecError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Closed => Self::Lost(None),
            ReadError::Io(error) => Self::Lost(Some(error)),
            ReadError::Protocol(error) => Self::Protocol(error),
        }
    }
}

impl From<Flood> for ExecError {
    fn from(_: Flood) -> Self {
        Self::Flood
    }
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

/// What an execution is beside its request.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// It takes input.
    pub(crate) has_stdin: bool,
    /// What it writes goes into this log, too.
    pub(crate) log: Option<Arc<Log>>,
}

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
pub type StdinSender = Sender<HostFrame>;

/// One output stream. What is taken from it is granted to the guest again. Dropping it lets the
/// program go on: what it writes there is thrown away.
pub type Output = Receiver;

/// The agent's frames on one connection.
pub(crate) type AgentFrames = FrameReader<AgentFrame, OwnedReadHalf>;

impl Execution {
    /// Starts a program over a fresh connection to the agent.
    pub(crate) async fn start(
        stream: UnixStream,
        request: ExecRequest,
        span: ExecSpan,
        log: Option<Arc<Log>>,
        deadline: Instant,
    ) -> Result<(Self, Streams), ExecError> {
        let has_stdin = request.tty.is_some() || request.stdin == matchlock_proto::Stdin::Pipe;
        let request = Request::Exec(request);
        Self::open(stream, request, Options { has_stdin, log }, span, deadline).await
    }

    /// Starts whatever is answered as an execution is.
    pub(crate) async fn open(
        stream: UnixStream,
        request: Request,
        Options { has_stdin, log }: Options,
        span: ExecSpan,
        deadline: Instant,
    ) -> Result<(Self, Streams), ExecError> {
        let (reader, writer) = stream.into_split();
        let (frames, outgoing) = unbounded_channel();
        drop(frames.send(HostFrame::Open(Box::new(request))));
        let credits = Arc::new(Credits::default());
        let writing = write_frames(writer, outgoing, Arc::clone(&credits), HostFrame::Credit);
        // A connection that does not take frames is one that ends for the reader, too.
        let writing = tokio::spawn(async move { drop(writing.await) });
        let mut incoming = FrameReader::new(reader);
        match timeout_at(deadline.into(), incoming.next()).await {
            Ok(Ok(AgentFrame::Started)) => {}
            Ok(Ok(AgentFrame::Refused(failure))) => return Err(span.failed(failure.into())),
            Ok(Ok(_)) => return Err(span.failed(ExecError::Unexpected)),
            Ok(Err(error)) => return Err(span.failed(error.into())),
            Err(_) => return Err(span.failed(ExecError::Slow)),
        }
        let span = Arc::new(span);
        let end_of_input: fn() -> HostFrame = || HostFrame::StdinEof;
        let (stdin, granted) =
            sending(frames.clone(), HostFrame::Stdin, has_stdin.then_some(end_of_input));
        let (stdout_sink, stdout) = receiving(StreamId::Stdout, &credits);
        let (stderr_sink, stderr) = receiving(StreamId::Stderr, &credits);
        let (report, status) = oneshot::channel();
        let sinks = Incoming { stdout: stdout_sink, stderr: stderr_sink, stdin: granted, log };
        let ending = Arc::clone(&span);
        let (end, ended) = watch::channel(None);
        let reading = tokio::spawn(async move {
            let result = sinks.run(incoming).await;
            ending.end(&result);
            end.send_replace(Some(result.as_ref().ok().copied()));
            drop(sinks);
            drop(report.send(result));
        });
        let stdin = has_stdin.then_some(stdin);
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

/// Hands received frames to their streams.
struct Incoming {
    stdout: Sink,
    stderr: Sink,
    stdin: Granted,
    log: Option<Arc<Log>>,
}

impl Incoming {
    fn note(&self, source: LogSource, data: &[u8]) {
        if let Some(log) = &self.log {
            log.append(source, data);
        }
    }

    async fn run(&self, mut frames: AgentFrames) -> Result<ExitStatus, ExecError> {
        loop {
            match frames.next().await? {
                AgentFrame::Stdout(data) => {
                    self.note(LogSource::Stdout, &data);
                    self.stdout.accept(data)?;
                }
                AgentFrame::Stderr(data) => {
                    self.note(LogSource::Stderr, &data);
                    self.stderr.accept(data)?;
                }
                AgentFrame::Credit(StreamId::Stdin, bytes) => self.stdin.add(bytes),
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
