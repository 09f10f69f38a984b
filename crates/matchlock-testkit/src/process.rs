//! A running `matchlock`, watched with a limit.

use std::io::{Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// A process that has ended, with all that it wrote.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A process that may still run. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    seen: mpsc::Receiver<Vec<u8>>,
    heard: Vec<u8>,
}

impl Finished {
    /// Exit status; −1 for a signal.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text, without the notice that the guest is emulated.
    #[must_use]
    pub fn err(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr).into_owned();
        let lines = text.lines().filter(|line| !line.contains("using software emulation"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Checks the exit status, showing all output when it is another.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "stdout: {}\nstderr: {}", self.out(), self.err());
        self
    }
}

impl Running {
    /// Takes over a child whose standard output and error are pipes.
    pub(crate) fn new(mut child: Child) -> Self {
        let (report, seen) = mpsc::channel();
        let stdout = child.stdout.take().map(|pipe| collect(pipe, Some(report)));
        let stderr = child.stderr.take().map(|pipe| collect(pipe, None));
        Self { child, stdout, stderr, seen, heard: Vec::new() }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input without closing it.
    ///
    /// # Panics
    /// When the input is no pipe or is closed.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(bytes).expect("write");
    }

    /// Takes its standard input.
    ///
    /// # Panics
    /// When the input is no pipe or is closed.
    #[must_use]
    pub fn take_input(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("a pipe")
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Waits until its standard output contains `text`.
    ///
    /// # Panics
    /// When it does not within `limit`.
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let (seen, heard) = (&self.seen, &mut self.heard);
        wait_until(&format!("{text:?} on standard output"), limit, || {
            while let Ok(chunk) = seen.try_recv() {
                heard.extend(chunk);
            }
            String::from_utf8_lossy(heard).contains(text).then_some(())
        });
    }

    /// Waits for the next whole line on its standard output; returns it without its end.
    ///
    /// # Panics
    /// When there is none within `limit`.
    pub fn line(&mut self, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.heard.extend(self.seen.recv_timeout(left).expect("a line on standard output"));
        }
    }

    /// Sends a signal to the process itself, not to its group.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it runs longer than `limit`; it is killed then.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Finished {
        let child = &mut self.child;
        let status = wait_until("the end of matchlock", limit, || child.try_wait().expect("wait"));
        let gather = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.map(|thread| thread.join().expect("reader")).unwrap_or_default()
        };
        let stdout = gather(self.stdout.take());
        let stderr = gather(self.stderr.take());
        Finished { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn collect(
    mut pipe: impl Read + Send + 'static,
    report: Option<mpsc::Sender<Vec<u8>>>,
) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = pipe.read(&mut chunk) {
            let bytes = chunk.get(..n).unwrap_or_default();
            all.extend_from_slice(bytes);
            if let Some(report) = &report {
                drop(report.send(bytes.to_vec()));
            }
        }
        all
    })
}
