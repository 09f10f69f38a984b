//! Who writes the log.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use matchlock_api::Base64;
use matchlock_text::rfc3339;
use tokio::sync::watch;

use super::{CURRENT, FILE_BYTES, LogReader, LogRecord, LogSource, OLDER};

/// Bytes that wait to be written. What comes while there are more is dropped.
const MAX_WAITING: usize = 4 << 20;

/// Most bytes of one record.
const MAX_PIECE: usize = 64 * 1024;

/// How long the end of a sandbox waits for its last words to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The log of one sandbox of this process. Nothing of it waits for the disk but [`Log::close`] and
/// [`Log::settle`], and they not for long.
#[derive(Debug)]
pub(crate) struct Log {
    directory: PathBuf,
    shared: Arc<Shared>,
    /// For who reads it after its end: its files may have no names then.
    last: Mutex<Option<LogReader>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Changes when something was written.
    written: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    /// Bytes in them.
    waiting: usize,
    /// Bytes that were dropped since the last record of that.
    dropped: u64,
    closed: bool,
    /// The thread is at rest: nothing waits, and nothing is being written.
    idle: bool,
    /// The thread has ended, or never began.
    over: bool,
}

#[derive(Debug)]
struct Piece {
    at: SystemTime,
    source: LogSource,
    bytes: Vec<u8>,
}

impl Log {
    /// The log in the directory of a sandbox, behind what is there already. One that cannot be written drops
    /// what it is given.
    pub(crate) fn open(directory: &Path) -> Arc<Self> {
        Self::within(directory, FILE_BYTES)
    }

    pub(super) fn within(directory: &Path, limit: u64) -> Arc<Self> {
        let queue = Mutex::new(Queue { idle: true, ..Queue::default() });
        let (changed, written) = (Condvar::new(), watch::Sender::new(()));
        let shared = Arc::new(Shared { queue, changed, written });
        let files = Files { directory: directory.to_owned(), limit, current: None };
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("log".into());
        if thread.spawn(move || writer.run(files)).is_err() {
            shared.lock().over = true;
        }
        Arc::new(Self { directory: directory.to_owned(), shared, last: Mutex::default() })
    }

    /// Adds something. It is dropped if too much waits already.
    pub(crate) fn append(&self, source: LogSource, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let at = SystemTime::now();
        let mut queue = self.shared.lock();
        for piece in bytes.chunks(MAX_PIECE) {
            if queue.closed || queue.over || queue.waiting + piece.len() > MAX_WAITING {
                queue.dropped += piece.len() as u64;
                continue;
            }
            queue.waiting += piece.len();
            queue.idle = false;
            queue.pieces.push_back(Piece { at, source, bytes: piece.to_vec() });
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// What was written so far, and what comes.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub(crate) fn reader(&self) -> io::Result<LogReader> {
        match &*self.last.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(last) => last.again(),
            None => LogReader::open(&self.directory),
        }
    }

    /// Tells when more was written.
    pub(crate) fn written(&self) -> watch::Receiver<()> {
        self.shared.written.subscribe()
    }

    /// Waits until all that was added is written, or dropped.
    pub(crate) fn settle(&self) {
        self.wait(|queue| !queue.idle);
    }

    /// Writes the rest. What is added later is dropped.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.wait(|queue| !queue.over);
        let last = LogReader::open(&self.directory).ok();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    fn wait(&self, goes_on: impl Fn(&Queue) -> bool) {
        let going = |queue: &mut Queue| !queue.over && goes_on(queue);
        let queue = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(queue, LAST_WORDS, going);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The thread ends by itself.
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn run(&self, mut files: Files) {
        while let Some((pieces, dropped)) = self.take() {
            let dropped = files.write(&pieces, dropped);
            let mut queue = self.lock();
            queue.dropped += dropped;
            queue.idle = queue.pieces.is_empty();
            drop(queue);
            self.changed.notify_all();
            self.written.send_replace(());
        }
        self.lock().over = true;
        self.changed.notify_all();
    }

    /// Waits for something to write. `None` when there will be nothing any more.
    fn take(&self) -> Option<(VecDeque<Piece>, u64)> {
        let waits = |queue: &mut Queue| queue.pieces.is_empty() && !queue.closed;
        let waited = self.changed.wait_while(self.lock(), waits);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        if queue.pieces.is_empty() {
            return None;
        }
        queue.waiting = 0;
        Some((std::mem::take(&mut queue.pieces), std::mem::take(&mut queue.dropped)))
    }
}

/// The two files.
struct Files {
    directory: PathBuf,
    limit: u64,
    current: Option<(File, u64)>,
}

impl Files {
    /// Writes records. Returns how many bytes are to be told as dropped.
    fn write(&mut self, pieces: &VecDeque<Piece>, mut dropped: u64) -> u64 {
        for piece in pieces {
            if dropped > 0 {
                let loss = record(piece.at, LogSource::Log, None, None, Some(dropped));
                if self.line(&loss).is_ok() {
                    dropped = 0;
                }
            }
            dropped += self.piece(piece);
        }
        dropped
    }

    /// Writes one piece, as text as far as it is. Returns how many bytes could not be written.
    fn piece(&mut self, piece: &Piece) -> u64 {
        let Piece { at, source, bytes } = piece;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            // Only the last character is not whole: the text before it is.
            Err(error) if error.error_len().is_none() => {
                let whole = bytes.get(..error.valid_up_to()).unwrap_or_default();
                std::str::from_utf8(whole).unwrap_or_default()
            }
            Err(_) => "",
        };
        let rest = bytes.get(text.len()..).unwrap_or_default();
        let mut failed = 0;
        if !text.is_empty()
            && self.line(&record(*at, *source, Some(text.to_owned()), None, None)).is_err()
        {
            failed += text.len() as u64;
        }
        if !rest.is_empty()
            && self.line(&record(*at, *source, None, Some(Base64(rest.to_vec())), None)).is_err()
        {
            failed += rest.len() as u64;
        }
        failed
    }

    /// Writes a line, all of it or nothing.
    fn line(&mut self, record: &LogRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let bytes = line.len() as u64;
        let full = |(_, length): &(File, u64)| *length > 0 && length + bytes > self.limit;
        if self.current.as_ref().is_some_and(full) {
            self.current = None;
            let path = |name| self.directory.join(name);
            std::fs::rename(path(CURRENT), path(OLDER))?;
        }
        let (file, length) = match &mut self.current {
            Some(open) => open,
            none => {
                let opened = open(&self.directory.join(CURRENT))?;
                // One that an earlier life has filled.
                if opened.1 > 0 && opened.1 + bytes > self.limit {
                    let path = |name| self.directory.join(name);
                    std::fs::rename(path(CURRENT), path(OLDER))?;
                    none.insert(open(&self.directory.join(CURRENT))?)
                } else {
                    none.insert(opened)
                }
            }
        };
        match file.write_all(&line) {
            Ok(()) => {
                *length += bytes;
                Ok(())
            }
            Err(error) => {
                // What has come of the line goes again: the next one must not be glued to it.
                if file.set_len(*length).is_err() {
                    self.current = None;
                }
                Err(error)
            }
        }
    }
}

/// Opens the file to go on writing it, and says how long it is. A line that was torn is ended.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut length = file.metadata()?.len();
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
    }
    Ok((file, length))
}

fn record(
    at: SystemTime,
    source: LogSource,
    text: Option<String>,
    base64: Option<Base64>,
    dropped: Option<u64>,
) -> LogRecord {
    LogRecord { at: rfc3339(at), source, text, base64, dropped }
}
