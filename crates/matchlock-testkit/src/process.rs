//! A running `matchlock`, watched with a limit.

use std::io::{Read, Write};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::poll_until;

/// How often it is looked whether the process lives while its output is silent.
const LOOK: Duration = Duration::from_millis(100);

/// How long what a process has written may take to be read after its end: another process may hold its
/// output open.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
    stdout: Output,
    stderr: Output,
}

/// What a process writes to a pipe. A thread reads it, so the process never waits for us.
#[derive(Debug)]
struct Output {
    chunks: mpsc::Receiver<Vec<u8>>,
    all: Vec<u8>,
    /// Where the next line begins.
    unread: usize,
    ended: bool,
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
        let stdout = Output::of(child.stdout.take());
        let stderr = Output::of(child.stderr.take());
        Self { child, stdout, stderr }
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

    /// Waits until what was not yet taken by [`Running::line`] of its standard output contains `text`.
    ///
    /// # Panics
    /// When it does not within `limit`, or the process has ended without it: the message has its exit
    /// status and all output.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        self.hear(&format!("{text:?} on standard output"), limit, |output| {
            String::from_utf8_lossy(output.rest()).contains(text).then_some(())
        });
    }

    /// Waits for the next whole line on its standard output; returns it without its end.
    ///
    /// # Panics
    /// As [`Running::wait_for`].
    #[track_caller]
    pub fn line(&mut self, limit: Duration) -> String {
        self.hear("a line on standard output", limit, |output| {
            let end = output.rest().iter().position(|&byte| byte == b'\n')?;
            let line = output.rest().get(..end).unwrap_or_default();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            output.unread += end + 1;
            Some(line)
        })
    }

    /// Looks every few milliseconds until `condition`, which needs this process, gives a value.
    ///
    /// # Panics
    /// When it gives none within `limit`, or the process has ended before: as [`Running::wait_for`].
    #[track_caller]
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> T {
        let child = &mut self.child;
        let found = poll_until(limit, || match condition() {
            Some(value) => Some(Some(value)),
            None => child.try_wait().expect("wait").map(|_| None),
        });
        found.flatten().unwrap_or_else(|| self.give_up(what, limit))
    }

    #[track_caller]
    fn hear<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut find: impl FnMut(&mut Output) -> Option<T>,
    ) -> T {
        let mut deadline = Instant::now() + limit;
        let mut runs = true;
        loop {
            if let Some(found) = find(&mut self.stdout) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.stdout.ended || left.is_zero() {
                self.give_up(what, limit);
            }
            self.stdout.hear(left.min(LOOK));
            if runs && self.child.try_wait().expect("wait").is_some() {
                runs = false;
                deadline = deadline.min(Instant::now() + LAST_WORDS);
            }
        }
    }

    /// Panics with all that is known of the process.
    #[track_caller]
    fn give_up(&mut self, what: &str, limit: Duration) -> ! {
        let child = &mut self.child;
        // The output of a process ends a moment before the process.
        let end = if self.stdout.ended { LAST_WORDS } else { Duration::ZERO };
        let status = poll_until(end, || child.try_wait().expect("wait"));
        let until = Instant::now() + if status.is_some() { LAST_WORDS } else { LOOK };
        self.stdout.hear_all(until);
        self.stderr.hear_all(until);
        let stdout = String::from_utf8_lossy(&self.stdout.all);
        let stderr = String::from_utf8_lossy(&self.stderr.all);
        match status {
            Some(status) => {
                panic!("it has ended ({status}) before: {what}\nstdout: {stdout}\nstderr: {stderr}")
            }
            None => panic!("not within {limit:?}: {what}\nstdout: {stdout}\nstderr: {stderr}"),
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

    /// Whether it ends by itself within this time; else it goes on.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        poll_until(time, || self.child.try_wait().expect("wait")).is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it, or another process that has its output, runs longer than `limit`; it is killed then.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Finished {
        let child = &mut self.child;
        let deadline = Instant::now() + limit;
        let status = poll_until(limit, || child.try_wait().expect("wait"));
        let Some(status) = status else { self.give_up("the end of matchlock", limit) };
        let until = deadline.max(Instant::now() + LAST_WORDS);
        if !self.stdout.hear_all(until) || !self.stderr.hear_all(until) {
            self.give_up("the end of its output", limit);
        }
        let take = |output: &mut Output| std::mem::take(&mut output.all);
        Finished { status, stdout: take(&mut self.stdout), stderr: take(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Output {
    /// Of a pipe. What is no pipe has ended.
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let (report, chunks) = mpsc::channel();
        if let Some(mut pipe) = pipe {
            std::thread::spawn(move || {
                let mut chunk = vec![0; 64 * 1024];
                while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                    drop(report.send(chunk.get(..n).unwrap_or_default().to_vec()));
                }
            });
        }
        Self { chunks, all: Vec::new(), unread: 0, ended: false }
    }

    fn rest(&self) -> &[u8] {
        self.all.get(self.unread..).unwrap_or_default()
    }

    /// Takes the next that comes within `limit`. Returns whether something came.
    fn hear(&mut self, limit: Duration) -> bool {
        let chunk = self.chunks.recv_timeout(limit);
        self.ended |= matches!(chunk, Err(RecvTimeoutError::Disconnected));
        chunk.is_ok_and(|chunk| {
            self.all.extend(chunk);
            true
        })
    }

    /// Takes all that comes before `deadline`. Returns whether that is all there is.
    fn hear_all(&mut self, deadline: Instant) -> bool {
        while self.hear(deadline.saturating_duration_since(Instant::now())) {}
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::PATIENCE;

    fn sh(script: &str) -> Running {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped());
        Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn"))
    }

    /// A limit that the harness would not survive shows that a wait ends before it.
    const NEVER: Duration = Duration::from_secs(1_000_000);

    fn failure(wait: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(wait)).expect_err("it fails");
        *payload.downcast::<String>().expect("a message")
    }

    #[test]
    fn a_wait_ends_with_the_process_and_says_how_that_ended() {
        let waits: [fn(&mut Running); 3] = [
            |running| running.wait_for("up", NEVER),
            |running| drop(running.line(NEVER)),
            |running| running.wait_until("a thing", NEVER, || None),
        ];
        for wait in waits {
            let mut running = sh("printf half; echo reason >&2; exit 7");
            let message = failure(|| wait(&mut running));
            for part in ["exit status: 7", "stdout: half", "stderr: reason"] {
                assert!(message.contains(part), "{part}: {message}");
            }
        }
    }

    #[test]
    fn a_wait_ends_with_the_process_while_another_has_its_output() {
        let mut running = sh("sleep 600 & echo $!; echo reason >&2; exit 7");
        let sleeper = running.line(PATIENCE);
        let message = failure(|| running.wait_for("up", NEVER));
        let pid = sleeper.parse().ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::KILL).expect("kill");
        assert!(message.contains("exit status: 7"), "{message}");
        assert!(message.contains("stderr: reason"), "{message}");
    }

    #[test]
    fn what_was_written_before_the_end_is_found() {
        let mut running = sh("echo one; echo two; echo three");
        assert_eq!(running.line(PATIENCE), "one");
        running.wait_for("three", PATIENCE);
        assert_eq!(running.line(PATIENCE), "two");
        let finished = running.finish(PATIENCE).expect(0);
        assert_eq!(finished.out(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_process_that_goes_on_is_shown_with_what_it_said() {
        let mut running = sh("echo warned >&2; echo up; read line");
        running.wait_for("up", PATIENCE);
        assert!(running.stderr.hear(PATIENCE), "the warning");
        let message = failure(|| running.wait_for("down", Duration::ZERO));
        assert!(message.contains("not within 0ns"), "{message}");
        assert!(message.contains("stdout: up"), "{message}");
        assert!(message.contains("stderr: warned"), "{message}");
        running.close_input();
        running.finish(PATIENCE).expect(1);
    }
}
