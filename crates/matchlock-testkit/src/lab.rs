//! A home directory of its own for each test, and the binary under test.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::leaks::leaks;
use crate::process::{Finished, Running};
use crate::wait::wait_until;
use crate::{PATIENCE, Pty};

/// How long what a sandbox used may take to be gone after its end.
const LEAK_LIMIT: Duration = Duration::from_secs(10);

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The binary under test: `MATCHLOCK_BIN`, or the one that `cargo xtask build` makes.
///
/// # Panics
/// When there is none: a missing binary is a failed test, not a skipped one.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("MATCHLOCK_BIN")
        .map_or_else(|| repository().join("target/dist/matchlock"), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`", path.display());
    path
}

/// A hermetic place for one test. When it is dropped, nothing of its sandboxes may be left.
#[derive(Debug)]
pub struct Lab {
    home: TempDir,
}

/// One call of the binary.
#[derive(Debug)]
pub struct Invocation {
    command: Command,
}

impl Lab {
    /// A fresh home.
    ///
    /// # Panics
    /// When no directory can be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        Self { home: tempfile::Builder::new().prefix("mlab").tempdir().expect("tempdir") }
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `matchlock ARGS` with nothing of this process's environment but `PATH`.
    #[must_use]
    pub fn matchlock(&self, args: &[&str]) -> Invocation {
        let mut command = Command::new(binary());
        command.args(args).env_clear().env("HOME", self.home.path());
        // Emulation always: this machine's KVM, if any, must not decide what a test sees.
        command.env("MATCHLOCK_ACCEL", "tcg");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.stdin(Stdio::null());
        Invocation { command }
    }

    /// `matchlock run --image host FLAGS -- ARGV`.
    #[must_use]
    pub fn run(&self, flags: &[&str], argv: &[&str]) -> Invocation {
        let args: Vec<&str> = ["run", "--image", "host"]
            .iter()
            .chain(flags)
            .chain(&["--"])
            .chain(argv)
            .copied()
            .collect();
        self.matchlock(&args)
    }

    /// What is left now.
    #[must_use]
    pub fn leaks(&self) -> Vec<String> {
        leaks(self.home.path())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let mut last = Vec::new();
            wait_until("nothing is left of the sandboxes", LEAK_LIMIT, || {
                let now = self.leaks();
                if now.is_empty() {
                    return Some(());
                }
                if now != last {
                    last = now;
                }
                None
            });
        }
    }
}

impl Invocation {
    /// Sets a variable in the environment of `matchlock`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Gives it a pipe as standard input.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.command.stdin(Stdio::piped());
        self
    }

    /// Gives it a file or another descriptor as standard input.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(self.command.spawn().expect("spawn matchlock"))
    }

    /// Starts it on a terminal of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn_on(mut self, pty: &Pty) -> Running {
        let end = || pty.user_end();
        self.command.stdin(end()).stdout(end()).stderr(end());
        Running::new(self.command.spawn().expect("spawn matchlock"))
    }

    /// Runs it to its end.
    #[track_caller]
    #[must_use]
    pub fn finish(self) -> Finished {
        self.spawn().finish(PATIENCE)
    }

    /// Runs it with this input to its end.
    ///
    /// # Panics
    /// When it runs too long.
    #[track_caller]
    #[must_use]
    pub fn finish_with(self, input: Vec<u8>) -> Finished {
        let mut running = self.piped().spawn();
        let mut stdin = running.take_input();
        // A thread of its own: the program may write before it has read everything.
        let feeding = std::thread::spawn(move || {
            drop(std::io::Write::write_all(&mut stdin, &input));
        });
        let finished = running.finish(PATIENCE);
        feeding.join().expect("feeder");
        finished
    }

    /// Its arguments, for messages.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        self.command.get_args().map(OsStr::to_owned).collect()
    }
}
