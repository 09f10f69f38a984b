//! Copies between files of this machine and a sandbox of another process.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use matchlock_api::client::{ClientError, Connection, Program, Streams};
use matchlock_api::control::{Arg, PackParams, UnpackParams};
use matchlock_tar::tree::{Limits, Root, Top, TreeError, own_name, pack, unpack};
use matchlock_text::escape;
use matchlock_wire::io::Receiver;
use tokio::task::{JoinError, spawn_blocking};

use crate::classified::{Classified, ErrorKind};

/// The most that a guest has to say of a copy, in bytes.
const MAX_SAID: usize = 16 * 1024;

/// Why a copy is not whole.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The sandbox was not asked, or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The guest could not read or write its files. The text is the guest's, made harmless.
    #[error("{said}")]
    Guest {
        /// The text.
        said: String,
        /// The error that it stands for.
        kind: ErrorKind,
    },
    /// The files of this machine could not be read or written, or the guest sent what is not unpacked.
    #[error(transparent)]
    Here(#[from] TreeError),
    /// A part of this program failed.
    #[error("the copy broke off")]
    Broken(#[source] JoinError),
}

impl Classified for CopyError {
    fn kind(&self) -> ErrorKind {
        let of_number = |number: Option<i32>| {
            let of_io = |number| ErrorKind::of_io(&io::Error::from_raw_os_error(number));
            number.map_or(ErrorKind::Guest, of_io)
        };
        match self {
            Self::Client(ClientError::Refused(error)) => error.kind().unwrap_or(ErrorKind::Guest),
            Self::Client(_) => ErrorKind::Guest,
            Self::Guest { kind, .. } => *kind,
            Self::Here(error) => of_number(error.raw_os_error()),
            Self::Broken(_) => ErrorKind::Internal,
        }
    }
}

/// A copy that is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files, directories and links.
    pub entries: u64,
    /// A line for each file that is not copied as it was.
    pub notes: Vec<String>,
}

/// Copies `from`, of the guest, to `to`, of this machine. `done` counts the bytes as they come. The guest is
/// not trusted: no more is taken of it than `limits` has, and nothing is written but at `to`.
///
/// # Errors
/// [`CopyError`].
pub async fn copy_out(
    connection: Connection,
    from: Vec<u8>,
    follow: bool,
    to: Vec<u8>,
    limits: Limits,
    done: Arc<AtomicU64>,
) -> Result<Copied, CopyError> {
    let path = Arg::from(from.clone());
    let (program, streams) = connection.pack(PackParams { path, follow }).await?;
    let Streams { stdout, stderr, .. } = streams;
    let archive = Counted { stream: stdout.blocking(), done };
    let saying = tokio::spawn(said(stderr));
    let unpacked = spawn_blocking(move || {
        unpack(&Root::own(), &to, Top::Copy(own_name(&from)), archive, limits)
    });
    match unpacked.await.map_err(CopyError::Broken)? {
        Ok(unpacked) => {
            let notes = finish_with(program, saying.await.unwrap_or_default()).await?;
            Ok(Copied { entries: unpacked.entries, notes })
        }
        Err(error) if error.is_end() => {
            // The guest says why there is no more.
            finish_with(program, saying.await.unwrap_or_default()).await?;
            Err(error.into())
        }
        // It may have much more to send: the connection goes with the program.
        Err(error) => Err(error.into()),
    }
}

/// Copies `from`, of this machine, to `to`, of the guest.
///
/// # Errors
/// [`CopyError`].
pub async fn copy_in(
    connection: Connection,
    from: Vec<u8>,
    follow: bool,
    to: Vec<u8>,
    done: Arc<AtomicU64>,
) -> Result<Copied, CopyError> {
    let name = own_name(&from).map(|name| Arg::from(name.to_vec()));
    let params = UnpackParams { path: to.into(), name, archive: false };
    let (program, Streams { stdin, stderr, .. }) = connection.unpack(params).await?;
    // Every connection of an unpacking has one.
    let stdin = stdin.ok_or(ClientError::Protocol(None))?;
    let archive = Counted { stream: stdin.blocking(), done };
    let packed = spawn_blocking(move || pack(&Root::own(), &from, follow, archive));
    let saying = tokio::spawn(said(stderr));
    let packed = match packed.await.map_err(CopyError::Broken)? {
        // The guest takes no more, and says why.
        Err(TreeError::Write(error)) => Err(TreeError::Write(error)),
        packed => Ok(packed?),
    };
    let mut notes = finish_with(program, saying.await.unwrap_or_default()).await?;
    let packed = packed?;
    notes.extend(packed.notes);
    Ok(Copied { entries: packed.entries, notes })
}

/// Waits for the end of a `pack` or an `unpack` whose archive the caller carries. Returns a line for each
/// file that is not copied as it was.
///
/// # Errors
/// [`CopyError`].
pub async fn finish_copy(program: Program, stderr: Receiver) -> Result<Vec<String>, CopyError> {
    let text = said(stderr).await;
    finish_with(program, text).await
}

async fn finish_with(mut program: Program, said: Vec<u8>) -> Result<Vec<String>, CopyError> {
    let ended = program.wait().await?;
    let said = String::from_utf8_lossy(&said);
    let mut lines = said.lines().map(escape::one_line).filter(|line| !line.is_empty());
    if ended.exit_code == 0 {
        return Ok(lines.collect());
    }
    let number = i32::try_from(ended.exit_code).unwrap_or(0);
    let error = io::Error::from_raw_os_error(number);
    let said = lines.next_back().unwrap_or_else(|| error.to_string());
    let kind = match ErrorKind::of_io(&error) {
        ErrorKind::Io => ErrorKind::Guest,
        kind => kind,
    };
    Err(CopyError::Guest { said, kind })
}

/// The first of what the guest says; the rest is thrown away.
async fn said(mut stderr: Receiver) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(chunk) = stderr.next().await {
        let room = MAX_SAID - text.len();
        text.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
    }
    text
}

/// A stream whose bytes are counted.
struct Counted<S> {
    stream: S,
    done: Arc<AtomicU64>,
}

impl<S> Counted<S> {
    fn count(&self, bytes: usize) {
        self.done.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl<S: BufRead> BufRead for Counted<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.count(amount);
        self.stream.consume(amount);
    }
}

impl<S: BufRead> Read for Counted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.count(n);
        Ok(n)
    }
}

impl<S: Write> Write for Counted<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.stream.write(bytes)?;
        self.count(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
