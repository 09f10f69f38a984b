//! `run`, `pack` and `unpack`: a program of the guest, or what ends as one, with its streams as frames.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use matchlock_api::control::{Arg, ClientFrame, RunParams, ServerFrame, TtySize};
use matchlock_api::rpc::Refusal;
use matchlock_api::{ErrorCode, ErrorKind, ExitResult, RequestId, RpcError, control_method};
use matchlock_proto::{ExecRequest, Stdin, StreamId, WindowSize};
use matchlock_wire::io::{
    Credits, FrameReader, Granted, ReadError, Receiver, Sender, Sink, receiving, sending,
    write_frames,
};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc::unbounded_channel;

use super::call::{done, refuse};
use crate::exec::{ExecControl, ExecError, Execution, StdinSender, Streams};
use crate::service::fault::of_exec;

/// What the guest is to run.
pub(super) fn request(params: RunParams) -> Result<ExecRequest, RpcError> {
    let RunParams { argv, working_dir, user, env, stdin, tty } = params;
    let argv: Vec<_> = argv.into_iter().map(Arg::into_bytes).collect();
    let env: Vec<_> =
        env.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
    let working_dir = working_dir.map(Arg::into_bytes);
    let nul = |field: &str| {
        let text = format!("{field} must not contain NUL");
        let error = RpcError::new(ErrorCode::InvalidParams, ErrorKind::InvalidArgument, text);
        Err(error.of_field(field))
    };
    // The guest's kernel ends a word at its first NUL: it would not run what was asked for.
    if argv.iter().any(|word| word.contains(&0)) {
        return nul("argv");
    }
    if env.iter().any(|(name, value)| name.contains(&0) || value.contains(&0)) {
        return nul("env");
    }
    if working_dir.as_ref().is_some_and(|word| word.contains(&0)) {
        return nul("working_dir");
    }
    let stdin = if stdin { Stdin::Pipe } else { Stdin::Null };
    let tty = tty.map(size);
    Ok(ExecRequest { argv, env, working_dir, user, stdin, tty })
}

fn size(TtySize { rows, cols }: TtySize) -> WindowSize {
    WindowSize { rows, cols }
}

/// Carries the streams of what is started, and answers with how it ended. A client that goes away cancels it.
pub(super) async fn run(
    stream: UnixStream,
    id: &RequestId,
    starting: impl Future<Output = Result<(Execution, Streams), ExecError>>,
) -> io::Result<()> {
    let since = Instant::now();
    let (reader, writer) = stream.into_split();
    let (frames, outgoing) = unbounded_channel();
    let credits = Arc::new(Credits::default());
    let writing = write_frames(writer, outgoing, Arc::clone(&credits), ServerFrame::Credit);
    let refused = |error| refuse(&Refusal { id: Some(id.clone()), error });
    let (mut execution, Streams { stdin, stdout, stderr }) = match starting.await {
        Ok(started) => started,
        Err(error) => {
            drop(frames.send(refused(of_exec(&error))));
            drop(frames);
            return writing.await;
        }
    };
    drop(frames.send(ServerFrame::Ready));
    let (out, out_granted) = sending(frames.clone(), ServerFrame::Stdout, None);
    let (err, err_granted) = sending(frames.clone(), ServerFrame::Stderr, None);
    let (input, fed) = receiving(StreamId::Stdin, &credits);
    let control = execution.control();
    let incoming =
        Incoming { control, input: Some(input), stdout: out_granted, stderr: err_granted };
    let working = async {
        tokio::join!(copy(stdout, out), copy(stderr, err));
        let last = match execution.wait().await {
            Ok(status) => {
                let duration_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                let exit_code = i64::from(status.shell_code());
                done::<control_method::Run>(id, &ExitResult { exit_code, duration_ms })
            }
            Err(error) => refused(of_exec(&error)),
        };
        drop(frames.send(last));
        // It was the last one who could make frames: what is left is written, and that ends it.
        drop(frames);
    };
    let answering = async { tokio::join!(working, writing).1 };
    tokio::select! {
        answered = answering => answered,
        _hung_up = incoming.run(FrameReader::new(reader)) => Ok(()),
        () = feed(fed, stdin) => Ok(()),
    }
}

/// Copies an output of the program to its client, to its end.
async fn copy(mut from: Receiver, to: Sender<ServerFrame>) {
    while let Some(chunk) = from.next().await {
        if to.send(&chunk).await.is_err() {
            return;
        }
    }
}

/// Copies the client's input to the program. It never returns: the program's end is another's to see.
async fn feed(mut from: Receiver, to: Option<StdinSender>) {
    if let Some(to) = to {
        while let Some(chunk) = from.next().await {
            if to.send(&chunk).await.is_err() {
                break;
            }
        }
    }
    // What comes now is thrown away.
    drop(from);
    std::future::pending::<()>().await;
}

/// What a client sends to a program that runs.
struct Incoming {
    control: ExecControl,
    /// `None` after the end of the input.
    input: Option<Sink>,
    stdout: Granted,
    stderr: Granted,
}

impl Incoming {
    /// Until the client hangs up, or breaks the protocol.
    async fn run(mut self, mut frames: FrameReader<ClientFrame, OwnedReadHalf>) -> ReadError {
        loop {
            let frame = match frames.next().await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            match frame {
                ClientFrame::Stdin(data) => {
                    if self.input.as_ref().is_some_and(|input| input.accept(data).is_err()) {
                        return ReadError::Closed;
                    }
                }
                ClientFrame::StdinEnd => self.input = None,
                ClientFrame::Resize(to) => self.control.resize(size(to)),
                ClientFrame::Credit(StreamId::Stdout, bytes) => self.stdout.add(bytes),
                ClientFrame::Credit(_, bytes) => self.stderr.add(bytes),
                // There is one call for each connection.
                ClientFrame::Message(_) => return ReadError::Closed,
            }
        }
    }
}
