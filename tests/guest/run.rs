//! Programs in a guest.

use matchlock_core::{
    ExecControl, ExecError, ExecFailure, ExecRequest, Execution, ExitStatus, Output, SandboxHandle,
    Stdin, StdinSender, Streams, WindowSize,
};

/// A program to be run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Program {
    request: ExecRequest,
    input: Option<Vec<u8>>,
}

/// A program that runs. Dropping it cancels it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) execution: Execution,
    pub(crate) control: ExecControl,
    pub(crate) stdin: Option<StdinSender>,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    seen: Vec<u8>,
}

/// A program that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// These arguments.
pub(crate) fn argv<A: AsRef<[u8]>>(arguments: impl IntoIterator<Item = A>) -> Program {
    let argv = arguments.into_iter().map(|argument| argument.as_ref().to_vec()).collect();
    Program { request: ExecRequest { argv, ..ExecRequest::default() }, input: None }
}

/// A script for the guest's shell.
pub(crate) fn sh(script: &str) -> Program {
    argv(["sh", "-c", script])
}

/// A script for the guest's Python, which does not read its site packages.
pub(crate) fn python(script: &str) -> Program {
    argv(["python3", "-ISc", script])
}

impl Program {
    pub(crate) fn user(mut self, user: &str) -> Self {
        self.request.user = Some(user.to_owned());
        self
    }

    pub(crate) fn dir(mut self, dir: impl AsRef<[u8]>) -> Self {
        self.request.working_dir = Some(dir.as_ref().to_vec());
        self
    }

    pub(crate) fn var(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.request.env.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn tty(mut self, rows: u16, cols: u16) -> Self {
        self.request.tty = Some(WindowSize { rows, cols });
        self
    }

    /// Standard input is a pipe that the case feeds.
    pub(crate) fn piped(mut self) -> Self {
        self.request.stdin = Stdin::Pipe;
        self
    }

    /// Standard input is these bytes and then ends.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self.piped()
    }

    /// Starts it, which must succeed.
    pub(crate) async fn start(self, sandbox: &SandboxHandle) -> Running {
        let what = self.describe();
        let started = sandbox.exec(self.request).await;
        let (execution, streams) = started.unwrap_or_else(|error| panic!("{what}: {error}"));
        let Streams { stdin, stdout, stderr } = streams;
        let control = execution.control();
        Running { execution, control, stdin, stdout, stderr, seen: Vec::new() }
    }

    /// Runs it to its end.
    pub(crate) async fn on(mut self, sandbox: &SandboxHandle) -> Ended {
        let input = self.input.take();
        let mut running = self.start(sandbox).await;
        let input = input.and_then(|input| Some((running.stdin.take()?, input)));
        let feeding = async {
            if let Some((stdin, input)) = input {
                // A program need not read all of it.
                drop(stdin.send(&input).await);
            }
        };
        tokio::join!(running.ended(), feeding).0
    }

    /// Runs it to its end, which must be a success without a word on standard error; returns what
    /// it wrote, without the white space around.
    pub(crate) async fn text(self, sandbox: &SandboxHandle) -> String {
        let what = self.describe();
        let ended = self.on(sandbox).await;
        assert_eq!((ended.status, ended.err()), (ExitStatus::Code(0), String::new()), "{what}");
        ended.out().trim().to_owned()
    }

    /// How it ends.
    pub(crate) async fn status(self, sandbox: &SandboxHandle) -> ExitStatus {
        self.on(sandbox).await.status
    }

    /// Why it cannot be started.
    pub(crate) async fn refusal(self, sandbox: &SandboxHandle) -> ExecFailure {
        let what = self.describe();
        match sandbox.exec(self.request).await {
            Err(ExecError::Refused(failure)) => failure,
            other => panic!("{what}: not refused but {other:?}"),
        }
    }

    /// For messages.
    fn describe(&self) -> String {
        let ExecRequest { argv, working_dir, user, .. } = &self.request;
        let words: Vec<_> = argv.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let directory = working_dir.as_deref().map(String::from_utf8_lossy);
        format!("{words:?} as {user:?} in {directory:?}")
    }
}

impl Running {
    /// Waits until its standard output contains `text`; returns all of it up to now.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.seen);
            if seen.contains(text) {
                return seen.into_owned();
            }
            match self.stdout.next().await {
                Some(chunk) => self.seen.extend(chunk),
                None => panic!("{text:?} was not written, but {seen:?}"),
            }
        }
    }

    /// Sends bytes to its standard input.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_ref().expect("an open standard input");
        stdin.send(bytes.as_ref()).await.expect("the program runs");
    }

    /// Ends its standard input.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Runs it to its end.
    pub(crate) async fn ended(mut self) -> Ended {
        let (stdout, stderr, status) =
            tokio::join!(self.stdout.collect(), self.stderr.collect(), self.execution.wait());
        let status = status.unwrap_or_else(|error| panic!("no status: {error}"));
        let stdout = [self.seen, stdout].concat();
        Ended { status, stdout, stderr }
    }
}

impl Ended {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// A lock that all processes of a program hold: it is free when the last of them is gone, which no
/// namespace hides.
#[derive(Debug)]
pub(crate) struct Lock(String);

impl Lock {
    /// A lock of this name in the guest.
    pub(crate) fn new(name: &str) -> Self {
        Self(format!("/tmp/{name}.lock"))
    }

    /// A program that takes the lock, writes `held` and goes on with `script`.
    pub(crate) fn held_by(&self, script: &str) -> Program {
        self.held_after(":", script)
    }

    /// The same with something to do before `held`: a trap is in place when that was seen.
    pub(crate) fn held_after(&self, before: &str, script: &str) -> Program {
        sh(&format!("exec 9>{}; flock 9; {before}; echo held; {script}", self.0))
    }

    /// Whether some process holds it.
    pub(crate) async fn is_held(&self, sandbox: &SandboxHandle) -> bool {
        argv(["flock", "-n", &self.0, "true"]).status(sandbox).await == ExitStatus::Code(1)
    }

    /// The words with which a shell waits until no process holds it.
    pub(crate) fn wait_in_shell(&self) -> String {
        format!("flock {} true", self.0)
    }

    /// Waits until no process holds it.
    pub(crate) async fn free(&self, sandbox: &SandboxHandle) {
        let status = argv(["flock", &self.0, "true"]).status(sandbox).await;
        assert_eq!(status, ExitStatus::Code(0));
    }
}
