//! `exec`, `exec_stream`, `exec_pipe` and `exec_tty`.

use std::time::Instant;

use matchlock_api::{
    Base64, Chunk, ErrorCode, ErrorKind, ExecParams, ExecResult, ExecTtyParams, ExitResult,
    Notification, RequestId, RpcError, Running,
};
use matchlock_proto::{ExecRequest, Stdin, WindowSize};

use super::input::{MAX_QUEUED, Overrun, Queue};
use super::output::Pieces;
use super::session::Sink;
use super::{Service, Up, fault};
use crate::exec::{ExecControl, Execution, Output, StdinSender, Streams};

/// The most output that `exec` collects, in bytes, of both streams together.
const MAX_OUTPUT: usize = 64 << 20;

/// How a stream is called on the wire.
type Tell = fn(Chunk) -> Notification;

/// The names of the notifications of one method.
struct Names {
    ready: Option<fn(Running) -> Notification>,
    stdout: Tell,
    stderr: Tell,
}

const STREAM: Names = Names {
    ready: None,
    stdout: Notification::ExecStreamStdout,
    stderr: Notification::ExecStreamStderr,
};
const PIPE: Names = Names {
    ready: Some(Notification::ExecPipeReady),
    stdout: Notification::ExecPipeStdout,
    stderr: Notification::ExecPipeStderr,
};
const TTY: Names = Names {
    ready: Some(Notification::ExecTtyReady),
    stdout: Notification::ExecTtyStdout,
    // A terminal has one output: the guest sends nothing here.
    stderr: Notification::ExecTtyStdout,
};

impl Service {
    pub(super) async fn exec(&self, params: ExecParams) -> Result<ExecResult, RpcError> {
        let (mut execution, streams, since) = self.start(params, Stdin::Null, None).await?;
        let Streams { mut stdout, mut stderr, .. } = streams;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (mut more_out, mut more_err) = (true, true);
        while more_out || more_err {
            tokio::select! {
                chunk = stdout.next(), if more_out => more_out = add(&mut out, chunk),
                chunk = stderr.next(), if more_err => more_err = add(&mut err, chunk),
            }
            if out.len() + err.len() > MAX_OUTPUT {
                let text = format!("the command wrote more than {MAX_OUTPUT} bytes");
                let error = RpcError::new(ErrorCode::Exec, ErrorKind::InvalidArgument, text);
                return Err(error.hinted("use exec_stream, which collects nothing"));
            }
        }
        let ExitResult { exit_code, duration_ms } = finish(&mut execution, since).await?;
        let (stdout, stderr) = (Base64(out), Base64(err));
        Ok(ExecResult { exit_code, stdout, stderr, duration_ms })
    }

    pub(super) async fn exec_stream(
        &self,
        id: &RequestId,
        params: ExecParams,
        sink: &impl Sink,
    ) -> Result<ExitResult, RpcError> {
        let (execution, streams, since) = self.start(params, Stdin::Null, None).await?;
        run(id, execution, streams, since, &STREAM, None, sink).await
    }

    pub(super) async fn exec_pipe(
        &self,
        id: &RequestId,
        params: ExecParams,
        input: &Queue,
        sink: &impl Sink,
    ) -> Result<ExitResult, RpcError> {
        let (execution, streams, since) = self.start(params, Stdin::Pipe, None).await?;
        run(id, execution, streams, since, &PIPE, Some(input), sink).await
    }

    pub(super) async fn exec_tty(
        &self,
        id: &RequestId,
        params: ExecTtyParams,
        input: &Queue,
        sink: &impl Sink,
    ) -> Result<ExitResult, RpcError> {
        let (rows, cols) = params.size();
        let ExecTtyParams { command, working_dir, user, env, .. } = params;
        let params = ExecParams { command, working_dir, user, env };
        let size = Some(WindowSize { rows, cols });
        let (execution, streams, since) = self.start(params, Stdin::Pipe, size).await?;
        run(id, execution, streams, since, &TTY, Some(input), sink).await
    }

    /// Starts the shell of the image with the command: contract, section 5.5.
    async fn start(
        &self,
        params: ExecParams,
        stdin: Stdin,
        tty: Option<WindowSize>,
    ) -> Result<(Execution, Streams, Instant), RpcError> {
        let up = self.up()?;
        let since = Instant::now();
        let request = up.request(params, stdin, tty);
        let started = up.sandbox.exec(request).await;
        let (execution, streams) = started.map_err(|error| fault::of_exec(&error))?;
        Ok((execution, streams, since))
    }
}

impl Up {
    fn request(&self, params: ExecParams, stdin: Stdin, tty: Option<WindowSize>) -> ExecRequest {
        let ExecParams { command, working_dir, user, env } = params;
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let argv = ["sh", "-c", command.as_str()];
        let env = env.unwrap_or_default();
        let working_dir = given(working_dir).or_else(|| self.working_dir.clone());
        ExecRequest {
            argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
            env: env.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect(),
            working_dir: working_dir.map(String::into_bytes),
            user: given(user).or_else(|| self.user.clone()),
            stdin,
            tty,
        }
    }
}

/// Adds to what is collected; false at the end.
fn add(to: &mut Vec<u8>, chunk: Option<Vec<u8>>) -> bool {
    let more = chunk.is_some();
    to.extend(chunk.unwrap_or_default());
    more
}

/// Copies the streams of a command, and returns how it ended after all of its output.
async fn run(
    id: &RequestId,
    mut execution: Execution,
    streams: Streams,
    since: Instant,
    names: &Names,
    input: Option<&Queue>,
    sink: &impl Sink,
) -> Result<ExitResult, RpcError> {
    if let Some(ready) = names.ready {
        sink.notify(ready(Running { id: id.clone() })).await;
    }
    let Streams { stdin, stdout, stderr } = streams;
    let copying = async {
        tokio::join!(
            forward(stdout, id, names.stdout, sink),
            forward(stderr, id, names.stderr, sink),
        )
    };
    let control = execution.control();
    let feeding = async {
        match (input, stdin) {
            (Some(queue), Some(stdin)) => feed(queue, stdin, &control).await,
            _ => std::future::pending().await,
        }
    };
    let copied = tokio::select! {
        _ = copying => Ok(()),
        Overrun = feeding => Err(Overrun),
    };
    if let Some(queue) = input {
        queue.close();
    }
    match copied {
        Ok(()) => finish(&mut execution, since).await,
        Err(Overrun) => {
            let text = format!(
                "the command does not read its input, of which {MAX_QUEUED} bytes wait; it was ended"
            );
            Err(RpcError::new(ErrorCode::Exec, ErrorKind::Conflict, text))
        }
    }
}

async fn finish(execution: &mut Execution, since: Instant) -> Result<ExitResult, RpcError> {
    let status = execution.wait().await.map_err(|error| fault::of_exec(&error))?;
    let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(ExitResult { exit_code: i64::from(status.shell_code()), duration_ms })
}

async fn forward(from: Output, id: &RequestId, tell: Tell, sink: &impl Sink) {
    let mut pieces = Pieces::of(from);
    while let Some(piece) = pieces.next().await {
        sink.notify(tell(Chunk { id: id.clone(), data: Base64(piece) })).await;
    }
}

/// Gives a command its input; returns only if it was overrun.
async fn feed(queue: &Queue, stdin: StdinSender, control: &ExecControl) -> Overrun {
    let bytes = async {
        loop {
            match queue.next().await {
                Ok(Some(piece)) => {
                    if stdin.send(&piece).await.is_err() {
                        // It reads no more, which is its right.
                        queue.close();
                        break;
                    }
                }
                Ok(None) => break,
                Err(Overrun) => return Overrun,
            }
        }
        // The end of the input, after all of it.
        drop(stdin);
        std::future::pending().await
    };
    let sizes = async {
        loop {
            control.resize(queue.size().await);
        }
    };
    tokio::select! {
        overrun = bytes => overrun,
        overrun = queue.overrun() => overrun,
        () = sizes => Overrun,
    }
}
