//! `matchlock cp`: files into a sandbox that runs, and out of it.

use std::ffi::OsStr;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use matchlock_core::control::{
    Copied, CopyError, Limits, PackParams, Streams, UnpackParams, copy_in, copy_out, finish_copy,
};
use matchlock_core::text::escape;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;

use super::enter::{Running, describe};
use super::pump::{self, Abandoned};
use crate::cli::CpArgs;
use crate::environment::Environment;
use crate::error::{CliError, Kind, OUTPUT_CLOSED};
use crate::event_loop::block_on;
use crate::printer::Printer;
use crate::signals::Interrupts;

/// The most files, directories and links that are taken out of a sandbox at one time.
const MAX_ENTRIES: u64 = 1_000_000;

/// One of the two arguments.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// `-`: an archive on standard input or output.
    Stream,
    /// A path of this machine.
    Here(Vec<u8>),
    /// A path of a sandbox.
    There(String, Vec<u8>),
}

/// The JSON object: docs/json.md.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    /// Absent for an archive of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    bytes: u64,
    notes: Vec<String>,
}

pub(crate) fn run(
    args: &CpArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<u8, CliError> {
    let [from, to] = args.positionals.as_slice() else {
        let given = args.positionals.len();
        let text = format!("accepts 2 arg(s), received {given}");
        return Err(
            CliError::new(text).hinted("matchlock cp ID:/path . or matchlock cp . ID:/path")
        );
    };
    let ends = (end(from)?, end(to)?);
    block_on(async {
        let mut interrupts = Interrupts::listen()?;
        let copied = tokio::select! {
            copied = copy(ends, args, environment, printer) => copied?,
            // The connection goes, and what it does in the sandbox with it.
            signal = interrupts.next() => return Err(CliError::interrupted(signal)),
        };
        let Some(report) = copied else { return Ok(OUTPUT_CLOSED) };
        tell(&report, args.quiet, printer)?;
        Ok(0)
    })
}

async fn copy(
    ends: (End, End),
    args: &CpArgs,
    environment: &Environment,
    printer: Printer,
) -> Result<Option<Report>, CliError> {
    let find = |wanted: String| async move { Running::find(&wanted, environment).await };
    match ends {
        (End::There(..), End::There(..)) => {
            let error = CliError::new("files cannot be copied from one sandbox to another");
            Err(error.hinted("matchlock cp A:/path - | matchlock cp - B:/path"))
        }
        (End::There(sandbox, path), to) => {
            let sandbox = &find(sandbox).await?;
            Copy { args, printer, sandbox }.take_out(path, to.here()).await
        }
        (from, End::There(sandbox, path)) => {
            let sandbox = &find(sandbox).await?;
            Copy { args, printer, sandbox }.put_in(from.here(), path).await.map(Some)
        }
        _ => Err(CliError::new("one of the two paths must be of a sandbox")
            .hinted("ID:/path names a path of a sandbox")),
    }
}

impl End {
    /// A path of this machine; `None` for a stream.
    fn here(self) -> Option<Vec<u8>> {
        match self {
            Self::Here(path) => Some(path),
            Self::Stream | Self::There(..) => None,
        }
    }
}

/// `ID:PATH`, unless it begins as a path of this machine does.
fn end(word: &OsStr) -> Result<End, CliError> {
    let bytes = word.as_bytes();
    if bytes == b"-" {
        return Ok(End::Stream);
    }
    let colon = bytes.iter().position(|&byte| byte == b':');
    let Some((sandbox, path)) = colon.and_then(|at| bytes.split_at_checked(at)) else {
        return Ok(End::Here(bytes.to_vec()));
    };
    if matches!(bytes.first(), Some(b'/' | b'.' | b':')) {
        return Ok(End::Here(bytes.to_vec()));
    }
    let path = path.get(1..).unwrap_or_default();
    let sandbox = String::from_utf8_lossy(sandbox).into_owned();
    match path {
        [] => Err(CliError::new(format!("{sandbox}: names no path in the sandbox"))
            .hinted(format!("{sandbox}:/ is its root, ./{sandbox}: a file of this machine"))),
        path => Ok(End::There(sandbox, path.to_vec())),
    }
}

/// What both directions need.
struct Copy<'a> {
    args: &'a CpArgs,
    printer: Printer,
    sandbox: &'a Running,
}

impl Copy<'_> {
    /// Out of the sandbox; `None` when nobody reads our output.
    async fn take_out(
        &self,
        path: Vec<u8>,
        to: Option<Vec<u8>>,
    ) -> Result<Option<Report>, CliError> {
        let follow = self.args.follow_link;
        let done = Arc::new(AtomicU64::new(0));
        let Some(to) = to else {
            return self.archive_out(path, &done).await;
        };
        let bytes = self.args.max_size.0.saturating_mul(1 << 20);
        let limits = Limits { entries: MAX_ENTRIES, bytes };
        let connection = self.sandbox.connect().await?;
        let copying = copy_out(connection, path, follow, to, limits, Arc::clone(&done));
        let copied = self.shown(copying, &done).await?;
        Ok(Some(self.report(Some(copied.entries), &done, copied.notes)))
    }

    async fn archive_out(
        &self,
        path: Vec<u8>,
        done: &AtomicU64,
    ) -> Result<Option<Report>, CliError> {
        if std::io::stdout().is_terminal() {
            return Err(CliError::new("cannot write an archive to a terminal")
                .hinted("give standard output to a file or a program"));
        }
        if self.printer.json_has_stdout() {
            let error = CliError::new("standard output is for the archive");
            return Err(error.hinted("--json=FILE writes the JSON to a file"));
        }
        let params = PackParams { path: path.into(), follow: self.args.follow_link };
        let packed = self.sandbox.connect().await?.pack(params).await;
        let (program, streams) = packed.map_err(|error| describe(&error))?;
        let Streams { mut stdout, stderr, .. } = streams;
        let mut output = tokio::io::stdout();
        while let Some(chunk) = stdout.next().await {
            let written = async {
                output.write_all(&chunk).await?;
                output.flush().await
            };
            match written.await {
                Ok(()) => drop(done.fetch_add(chunk.len() as u64, Ordering::Relaxed)),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(None),
                Err(error) => return Err(CliError::of_io("cannot write the archive", &error)),
            }
        }
        let notes = finish_copy(program, stderr).await.map_err(failed)?;
        Ok(Some(self.report(None, done, notes)))
    }

    /// Into the sandbox.
    async fn put_in(&self, from: Option<Vec<u8>>, path: Vec<u8>) -> Result<Report, CliError> {
        let done = Arc::new(AtomicU64::new(0));
        let Some(from) = from else {
            return self.archive_in(path, &done).await;
        };
        let connection = self.sandbox.connect().await?;
        let copying = copy_in(connection, from, self.args.follow_link, path, Arc::clone(&done));
        let copied = self.shown(copying, &done).await?;
        Ok(self.report(Some(copied.entries), &done, copied.notes))
    }

    async fn archive_in(&self, path: Vec<u8>, done: &Arc<AtomicU64>) -> Result<Report, CliError> {
        if std::io::stdin().is_terminal() {
            return Err(CliError::new("cannot read an archive from a terminal")
                .hinted("tar c DIRECTORY | matchlock cp - ID:/path"));
        }
        let params = UnpackParams { path: path.into(), name: None, archive: true };
        let unpacking = self.sandbox.connect().await?.unpack(params).await;
        let (program, streams) = unpacking.map_err(|error| describe(&error))?;
        let Streams { stdin, stderr, .. } = streams;
        let counted = Arc::clone(done);
        // A task of its own: a read of standard input cannot be cancelled, only abandoned.
        let feeding = Abandoned(stdin.map(|to| {
            tokio::spawn(pump::input_counted(tokio::io::stdin(), to, move |bytes| {
                counted.fetch_add(bytes as u64, Ordering::Relaxed);
            }))
        }));
        let notes = finish_copy(program, stderr).await.map_err(failed)?;
        drop(feeding);
        Ok(self.report(None, done, notes))
    }

    /// Waits for a copy, with its progress on a terminal.
    async fn shown(
        &self,
        copying: impl Future<Output = Result<Copied, CopyError>>,
        done: &AtomicU64,
    ) -> Result<Copied, CliError> {
        let progress =
            (!self.args.quiet).then(|| self.printer.byte_progress(self.sandbox.id.as_str()));
        let following = async {
            match &progress {
                Some(progress) => progress.follow(done).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            copied = copying => copied.map_err(failed),
            () = following => Err(CliError::new("the copy was lost").of_kind(Kind::Internal)),
        }
    }

    fn report(&self, entries: Option<u64>, done: &AtomicU64, notes: Vec<String>) -> Report {
        let bytes = done.load(Ordering::Relaxed);
        Report { id: self.sandbox.id.to_string(), entries, bytes, notes }
    }
}

fn failed(error: CopyError) -> CliError {
    match error {
        CopyError::Client(error) => describe(&error),
        error => CliError::from(error),
    }
    .context("copying")
}

fn tell(report: &Report, quiet: bool, printer: Printer) -> Result<(), CliError> {
    for note in &report.notes {
        printer.note(&escape::one_line(note));
    }
    if !quiet {
        let what = match report.entries {
            Some(1) => "1 entry, ".to_owned(),
            Some(entries) => format!("{entries} entries, "),
            None => String::new(),
        };
        printer.step(&format!("Copied {what}{}", super::stats::bytes(report.bytes)));
    }
    printer.json(report)
}

#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let report =
        Report { id: String::new(), entries: Some(1), bytes: 1, notes: vec![String::new()] };
    serde_json::to_value(report).expect("JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_sandbox_has_its_id_before_a_colon() {
        let there = |id: &str, path: &str| End::There(id.into(), path.into());
        for (word, wanted) in [
            ("-", End::Stream),
            ("file", End::Here(b"file".to_vec())),
            ("./a:b", End::Here(b"./a:b".to_vec())),
            ("/a:b", End::Here(b"/a:b".to_vec())),
            (":b", End::Here(b":b".to_vec())),
            ("web:/etc", there("web", "/etc")),
            ("vm-1:a:b", there("vm-1", "a:b")),
            ("web:-", there("web", "-")),
        ] {
            assert_eq!(end(OsStr::new(word)).expect(word), wanted, "{word}");
        }
        end(OsStr::new("web:")).expect_err("no path");
    }
}
