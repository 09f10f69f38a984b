//! Files of the guest, read and written as its root user.

use std::io;

use matchlock_proto::{ExitStatus, FileEntry, FileRequest};

use crate::classified::{Classified, ErrorKind};
use crate::exec::{ExecError, Execution, Output, Streams};
use crate::handle::SandboxHandle;

/// The largest list of a directory that is taken from a guest, in bytes: some 100,000 long names.
const MAX_LIST: usize = 32 << 20;

/// Why a file of the guest could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The guest's kernel refused it.
    #[error("{}", .0)]
    Guest(#[source] io::Error),
    /// The file has more bytes than were asked for.
    #[error("the file has more than {0} bytes")]
    TooLong(u64),
    /// The list of the directory is beyond every bound.
    #[error("the directory has too many entries")]
    TooMany,
    /// The guest ended or misbehaved.
    #[error("the guest did not do it")]
    Exec(#[source] ExecError),
}

impl Classified for FileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Guest(error) => match ErrorKind::of_io(error) {
                ErrorKind::Io => ErrorKind::Guest,
                kind => kind,
            },
            Self::TooLong(_) | Self::TooMany => ErrorKind::InvalidArgument,
            Self::Exec(error) => error.kind(),
        }
    }
}

impl SandboxHandle {
    /// Writes a file of the guest. One that is there is emptied first and keeps its mode; directories above
    /// it are made. A write that fails or is cancelled may leave a part of the file.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn write_file(&self, path: &[u8], mode: u32, data: &[u8]) -> Result<(), FileError> {
        let request = FileRequest::Write { path: path.to_vec(), mode };
        let (execution, streams) = self.start(request, "write_file").await?;
        let Streams { stdin, stdout: _, stderr: _ } = streams;
        if let Some(stdin) = stdin {
            // Who takes no more has an error, which is its status.
            let _ = stdin.send(data).await;
        }
        finish(execution).await
    }

    /// Reads a regular file of the guest of at most `max` bytes.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn read_file(&self, path: &[u8], max: u64) -> Result<Vec<u8>, FileError> {
        let request = FileRequest::Read { path: path.to_vec(), max };
        let (execution, mut streams) = self.start(request, "read_file").await?;
        let bound = usize::try_from(max).unwrap_or(usize::MAX);
        let Some(content) = collect(&mut streams.stdout, bound).await else {
            return Err(FileError::TooLong(max));
        };
        match finish(execution).await {
            Err(FileError::Guest(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(FileError::TooLong(max))
            }
            done => done.map(|()| content),
        }
    }

    /// Lists a directory of the guest, in the order of the names' bytes.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn list_files(&self, path: &[u8]) -> Result<Vec<FileEntry>, FileError> {
        let request = FileRequest::List { path: path.to_vec() };
        let (execution, mut streams) = self.start(request, "list_files").await?;
        let Some(bytes) = collect(&mut streams.stdout, MAX_LIST).await else {
            return Err(FileError::TooMany);
        };
        finish(execution).await?;
        let mut rest = bytes.as_slice();
        let mut entries = Vec::new();
        let wrong = || FileError::Exec(ExecError::Unexpected);
        while !rest.is_empty() {
            // What is cut off is as wrong as what is malformed.
            let entry = FileEntry::take(&mut rest).map_err(|_| wrong())?;
            entries.push(entry.ok_or_else(wrong)?);
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn start(
        &self,
        request: FileRequest,
        name: &str,
    ) -> Result<(Execution, Streams), FileError> {
        self.file(name, request).await.map_err(FileError::Exec)
    }
}

/// All of an output, unless it is longer.
async fn collect(from: &mut Output, max: usize) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = from.next().await {
        if all.len() + chunk.len() > max {
            return None;
        }
        all.extend_from_slice(&chunk);
    }
    Some(all)
}

async fn finish(mut execution: Execution) -> Result<(), FileError> {
    match execution.wait().await.map_err(FileError::Exec)? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(number) => {
            Err(FileError::Guest(io::Error::from_raw_os_error(i32::from(number))))
        }
        // It was killed: the guest has no memory left, or somebody in it ends everything.
        ExitStatus::Signal(_) => Err(FileError::Exec(ExecError::Lost(None))),
    }
}
