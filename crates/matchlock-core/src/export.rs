//! The writable layer of a sandbox, on its way out as an archive.

use std::io::{self, Read};

use matchlock_proto::ExitStatus;
use tokio::runtime::Handle;

use crate::exec::{ExecError, Execution, Output, Streams};

/// Why an export is not whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The guest ended or misbehaved.
    #[error("the archive from the guest was cut short")]
    Exec(#[source] ExecError),
    /// The guest could not read its own files. The text is the guest's, with control characters escaped.
    #[error("the guest could not write its archive: {0}")]
    Guest(String),
}

/// An archive (tar, not compressed) that the guest is writing. Dropping it cancels that.
#[derive(Debug)]
pub struct Export {
    execution: Execution,
    archive: Output,
    messages: Output,
    over: bool,
}

impl Export {
    pub(crate) fn new(execution: Execution, streams: Streams) -> Self {
        let Streams { stdout: archive, stderr: messages, .. } = streams;
        Self { execution, archive, messages, over: false }
    }

    /// The next bytes of the archive; `None` says that it was whole.
    ///
    /// # Errors
    /// [`ExportError`]: what came before is not an archive of everything.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        if self.over {
            return Ok(None);
        }
        if let Some(bytes) = self.archive.next().await {
            return Ok(Some(bytes));
        }
        match self.execution.wait().await.map_err(ExportError::Exec)? {
            ExitStatus::Code(0) => {
                self.over = true;
                Ok(None)
            }
            _ => {
                let said = self.messages.collect().await;
                let said = String::from_utf8_lossy(&said);
                Err(ExportError::Guest(said.trim_end().escape_debug().collect()))
            }
        }
    }

    /// The archive for a reader that waits, on a thread that may (`spawn_blocking`) of this runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn blocking(self) -> BlockingExport {
        BlockingExport { export: self, runtime: Handle::current(), chunk: Vec::new(), at: 0 }
    }
}

/// [`Export::blocking`]. An [`ExportError`] is the inner error of the [`io::Error`].
#[derive(Debug)]
pub struct BlockingExport {
    export: Export,
    runtime: Handle,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for BlockingExport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            self.at = 0;
            match self.runtime.block_on(self.export.next()).map_err(io::Error::other)? {
                Some(chunk) => self.chunk = chunk,
                None => {
                    self.chunk.clear();
                    return Ok(0);
                }
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}
