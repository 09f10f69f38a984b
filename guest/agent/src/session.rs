//! A connection and the execution that it is for, either of which can outlive the other.

use std::io;
use std::time::Instant;

use matchlock_proto::{AgentFrame, ExecFailure, HostFrame, Request, StreamId};

use crate::connection::{Connection, Received};
use crate::console;
use crate::exec::{Execution, Tokens};
use crate::forward::{Forward, Progress};
use crate::poller::{EventFlags, Poller, Watched};

/// Which descriptor of a session an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Socket,
    Init,
    Report,
    Stdin,
    Stdout,
    Stderr,
    /// The TCP socket of a forward.
    Tcp,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Socket,
        Self::Init,
        Self::Report,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Tcp,
    ];

    /// The token of this part of session `id`.
    pub(crate) fn token(self, id: u32) -> u64 {
        u64::from(id) << 3 | self as u64
    }

    /// The reverse of [`Self::token`].
    pub(crate) fn from_token(token: u64) -> Option<(u32, Self)> {
        let part = Self::ALL.into_iter().find(|&part| part as u64 == token & 7)?;
        Some((u32::try_from(token >> 3).ok()?, part))
    }

    /// The tokens of the execution of session `id`.
    pub(crate) fn tokens(id: u32) -> Tokens {
        Tokens {
            init: Self::Init.token(id),
            report: Self::Report.token(id),
            stdin: Self::Stdin.token(id),
            stdout: Self::Stdout.token(id),
            stderr: Self::Stderr.token(id),
        }
    }
}

/// A forwarded connection, and the host's socket once that carries its bytes.
#[derive(Debug)]
struct Forwarding {
    forward: Forward,
    host: Option<Watched>,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Option<Connection>,
    execution: Option<Execution>,
    forward: Option<Forwarding>,
    /// The host has sent its request.
    opened: bool,
    announced: bool,
}

impl Session {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection: Some(connection),
            execution: None,
            forward: None,
            opened: false,
            announced: false,
        }
    }

    /// Nothing is left of it.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none() && self.execution.is_none() && self.forward.is_none()
    }

    /// The execution, while its processes may live.
    pub(crate) fn execution(&self) -> Option<&Execution> {
        self.execution.as_ref()
    }

    /// Ties an execution to the connection.
    pub(crate) fn run(&mut self, execution: Execution) {
        self.execution = Some(execution);
    }

    /// Ties a forward to the connection.
    pub(crate) fn forward(&mut self, forward: Forward) {
        self.forward = Some(Forwarding { forward, host: None });
    }

    /// Sends the last frame of the connection.
    pub(crate) fn finish(&mut self, frame: &AgentFrame) {
        if let Some(connection) = &mut self.connection {
            connection.finish(frame);
        }
    }

    /// Handles an event. Frames are fetched with [`Self::next_request`] afterwards.
    pub(crate) fn on_event(
        &mut self,
        part: Part,
        flags: EventFlags,
        scratch: &mut [u8],
        now: Instant,
    ) {
        if self.is_forwarding() {
            return self.pump(scratch);
        }
        match part {
            // Writing is what `settle` does anyway.
            Part::Socket if flags == EventFlags::OUT => {}
            Part::Socket => {
                let received = self.connection.as_mut().map(|c| c.receive(scratch));
                if received == Some(Received::Closed) {
                    self.close(now);
                }
            }
            Part::Init => {
                if let Some(execution) = &mut self.execution {
                    execution.on_end(now);
                }
            }
            Part::Report => {
                if let Some(execution) = &mut self.execution {
                    execution.on_report(now);
                }
            }
            Part::Stdin | Part::Tcp => {}
            Part::Stdout | Part::Stderr => self.on_output(part == Part::Stderr, scratch, now),
        }
    }

    /// The connection carries the bytes of a forward.
    fn is_forwarding(&self) -> bool {
        self.forward.as_ref().is_some_and(|forwarding| forwarding.host.is_some())
    }

    /// An event on the TCP socket of a forward that is not connected yet.
    pub(crate) fn on_connect(&mut self, poller: &Poller, token: u64, scratch: &mut [u8]) {
        let Some(forwarding) = &mut self.forward else {
            return;
        };
        match forwarding.forward.on_connect(poller, token) {
            Progress::Going => {}
            Progress::Connected => {
                let host = self.connection.take().map(|c| c.into_raw(&AgentFrame::Started));
                match host {
                    Some(Ok(host)) => forwarding.host = Some(host),
                    // The host has gone meanwhile.
                    _ => self.forward = None,
                }
                self.pump(scratch);
            }
            Progress::Refused(why) => {
                self.forward = None;
                self.finish(&AgentFrame::Refused(ExecFailure::Port(why)));
            }
        }
    }

    fn pump(&mut self, scratch: &mut [u8]) {
        let Some(Forwarding { forward, host: Some(host) }) = &mut self.forward else {
            return;
        };
        if forward.pump(host, scratch).is_err() || forward.is_over() {
            self.forward = None;
        }
    }

    /// A forward of it waits for its connection.
    pub(crate) fn is_connecting(&self) -> bool {
        self.forward.as_ref().is_some_and(|forwarding| !forwarding.forward.is_open())
    }

    fn on_output(&mut self, is_stderr: bool, scratch: &mut [u8], now: Instant) {
        let Some(execution) = &mut self.execution else {
            return;
        };
        let stream = if is_stderr { StreamId::Stderr } else { StreamId::Stdout };
        let room = self.connection.as_ref().map_or(0, Connection::room);
        let connection = &mut self.connection;
        execution.on_output(is_stderr, room, scratch, now, |data| {
            if let Some(connection) = connection {
                connection.send_output(stream, data);
            }
        });
    }

    /// Handles frames up to the request, which only the server can carry out.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<Request> {
        loop {
            let frame = match self.connection.as_mut()?.next() {
                Ok(frame) => frame?,
                Err(error) => return self.violation(&error.to_string(), now),
            };
            match (frame, self.opened) {
                (HostFrame::Open(request), false) => {
                    self.opened = true;
                    return Some(*request);
                }
                (HostFrame::Open(_), true) => return self.violation("a second request", now),
                (_, false) => return self.violation("a frame before the request", now),
                (frame, true) => {
                    if let Err(what) = self.on_frame(frame) {
                        return self.violation(what, now);
                    }
                }
            }
        }
    }

    fn on_frame(&mut self, frame: HostFrame) -> Result<(), &'static str> {
        // Frames of a request without an execution, or that crossed its end.
        let Some(execution) = &mut self.execution else {
            return Ok(());
        };
        match frame {
            HostFrame::Open(_) => return Err("a second request"),
            HostFrame::Stdin(data) => {
                return execution.push_stdin(&data).map_err(|_| "input beyond the credit");
            }
            HostFrame::StdinEof => execution.push_stdin_eof(),
            HostFrame::Resize(size) => execution.resize(size),
            HostFrame::Signal(number) if (1..=64).contains(&number) => execution.signal(number),
            HostFrame::Signal(_) => return Err("no such signal"),
            HostFrame::Credit(StreamId::Stdout, bytes) => execution.grant(false, bytes),
            HostFrame::Credit(StreamId::Stderr, bytes) => execution.grant(true, bytes),
            HostFrame::Credit(StreamId::Stdin, _) => return Err("credit for standard input"),
        }
        Ok(())
    }

    fn violation<T>(&mut self, what: &str, now: Instant) -> Option<T> {
        console::line(format_args!("connection dropped: {what}"));
        self.close(now);
        None
    }

    /// The connection has gone: without its end on the way, the execution is cancelled.
    fn close(&mut self, now: Instant) {
        let ended = self.connection.take().is_none_or(|connection| connection.is_finished());
        self.forward = None;
        if let Some(execution) = &mut self.execution
            && !ended
        {
            execution.cancel(now);
        }
    }

    /// Does what follows from everything that happened: tells the host, sends, watches.
    pub(crate) fn settle(&mut self, now: Instant) {
        if let Err(error) = self.try_settle(now) {
            let broken = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            if !broken.contains(&error.kind()) {
                console::line(format_args!("connection dropped: {error}"));
            }
            self.close(now);
        }
    }

    fn try_settle(&mut self, now: Instant) -> io::Result<()> {
        if let Some(execution) = &mut self.execution {
            execution.write_stdin();
            if let Some(connection) = &mut self.connection {
                inform(connection, execution, &mut self.announced);
            }
            let is_told = self.connection.as_ref().is_none_or(Connection::is_finished);
            if is_told && !execution.is_alive() {
                self.execution = None;
            }
        }
        if let Some(connection) = &mut self.connection {
            connection.flush(now)?;
            connection.arm()?;
        }
        let room = self.connection.as_ref().map_or(0, Connection::room);
        self.execution.as_mut().map_or(Ok(()), |execution| execution.arm(room))
    }

    /// When [`Self::on_time`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let lingering = self.connection.as_ref().and_then(Connection::deadline);
        let execution = self.execution.as_ref().and_then(Execution::deadline);
        [lingering, execution].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn on_time(&mut self, now: Instant) {
        let connection = self.connection.as_ref();
        if connection.and_then(Connection::deadline).is_some_and(|at| at <= now) {
            self.connection = None;
        }
        let room = self.connection.as_ref().map_or(0, Connection::room);
        if let Some(execution) = &mut self.execution {
            execution.on_time(room, now);
        }
    }
}

/// Queues the news of an execution in their order.
fn inform(connection: &mut Connection, execution: &mut Execution, announced: &mut bool) {
    if connection.is_finished() {
        return;
    }
    if execution.is_started() && !*announced {
        *announced = true;
        connection.send(&AgentFrame::Started);
    }
    if let Some(bytes) = execution.take_grant() {
        connection.send(&AgentFrame::Credit(StreamId::Stdin, bytes));
    }
    if let Some(outcome) = execution.outcome() {
        connection.finish(&match outcome {
            Ok(status) => AgentFrame::Exited(status),
            Err(failure) => AgentFrame::Refused(failure),
        });
        execution.detach();
    }
}
