//! Who reads the log, while it is written and after that.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{CURRENT, LogRecord, OLDER};

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;

/// Two files change places this often at most while they are opened.
const ATTEMPTS: u32 = 16;

/// Reads records, the oldest first, and goes on with those that come later.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    /// What is read now, and what is to be read after it.
    file: Option<File>,
    next: Option<File>,
    /// What was read and not given yet; `at` is where it begins.
    buffer: Vec<u8>,
    at: usize,
}

impl LogReader {
    /// Of the sandbox that has this directory. Without a log there is nothing in it, for now.
    ///
    /// # Errors
    /// When the log cannot be opened.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let directory = directory.to_owned();
        let mut this = Self { directory, file: None, next: None, buffer: Vec::new(), at: 0 };
        this.begin()?;
        Ok(this)
    }

    /// The same from the begin, even if the files have no names any more. Nothing may have been read yet.
    pub(super) fn again(&self) -> io::Result<Self> {
        let again = |file: &File| File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let (file, next) = (self.file.as_ref(), self.next.as_ref());
        Ok(Self {
            directory: self.directory.clone(),
            file: file.map(again).transpose()?,
            next: next.map(again).transpose()?,
            buffer: Vec::new(),
            at: 0,
        })
    }

    fn begin(&mut self) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            // The newer one first: if it becomes the older one meanwhile, it is seen to be the same.
            let (newer, older) = (self.named(CURRENT)?, self.named(OLDER)?);
            (self.file, self.next) = match (older, newer) {
                (Some(older), Some(newer)) if number(&older)? == number(&newer)? => continue,
                (Some(older), newer) => (Some(older), newer),
                (None, newer) => (newer, None),
            };
            return Ok(());
        }
        Ok(())
    }

    /// The next record; `None`: there is no more for now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn read(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            while let Some(line) = self.line() {
                // One that was torn, or that another version wrote, is passed over.
                if let Ok(record) = serde_json::from_slice(line) {
                    return Ok(Some(record));
                }
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// A whole line of what was read.
    fn line(&mut self) -> Option<&[u8]> {
        let rest = self.buffer.get(self.at..)?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let begin = self.at;
        self.at += end + 1;
        self.buffer.get(begin..begin + end)
    }

    /// Reads more; false if there is nothing for now.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.at);
        self.at = 0;
        loop {
            let Some(file) = &mut self.file else {
                self.begin()?;
                if self.file.is_none() {
                    return Ok(false);
                }
                continue;
            };
            // Before the read: what is not the current file any more is not written any more.
            let followed = self.next.is_some() || is_followed(&self.directory, file)?;
            let length = self.buffer.len();
            let read = file.take(CHUNK as u64).read_to_end(&mut self.buffer)?;
            if read > 0 {
                return Ok(true);
            }
            debug_assert_eq!(length, self.buffer.len(), "nothing was read");
            if !followed {
                return Ok(false);
            }
            self.buffer.clear();
            self.follow()?;
        }
    }

    /// Goes on to the file after the one that was read.
    fn follow(&mut self) -> io::Result<()> {
        if let Some(next) = self.next.take() {
            self.file = Some(next);
            return Ok(());
        }
        let read = self.file.as_ref().map(number).transpose()?;
        self.begin()?;
        // If it is the older one now, it was read already. Else more than a file was missed.
        if self.file.as_ref().map(number).transpose()? == read && self.next.is_some() {
            self.file = self.next.take();
        }
        Ok(())
    }

    fn named(&self, name: &str) -> io::Result<Option<File>> {
        match File::open(self.directory.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether another file has the name of the one that is written.
fn is_followed(directory: &Path, file: &File) -> io::Result<bool> {
    match directory.join(CURRENT).metadata() {
        Ok(metadata) => Ok((metadata.dev(), metadata.ino()) != number(file)?),
        // It is between two files, or the sandbox has gone with its directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What tells files apart as long as they are open.
fn number(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}
