//! The bytes of a blob, taken up again where a connection was cut.

use std::fmt;

use bytes::{Buf as _, Bytes};

use super::client::{Opened, Shared};
use super::error::{BrokenError, RegistryError};
use super::retry;
use crate::digest::Digest;
use crate::reference::Reference;
use std::sync::Arc;

/// The bytes of a blob on their way. Its digest and its length are for the caller to verify.
pub struct BlobStream {
    shared: Arc<Shared>,
    image: Reference,
    digest: Digest,
    opened: Option<Opened>,
    start: u64,
    /// Place of the next byte in the blob.
    position: u64,
    /// Bytes that come again and are dropped: the server has only whole blobs.
    skip: u64,
    total: Option<u64>,
    resumed: u32,
    /// Attempts since the last byte.
    fruitless: u32,
}

impl BlobStream {
    pub(crate) async fn open(
        shared: Arc<Shared>,
        image: Reference,
        digest: Digest,
        from: u64,
    ) -> Result<Self, RegistryError> {
        let opened = shared.open(&image, &digest, from, 0).await?;
        let (start, total) = (opened.start, opened.total);
        Ok(Self {
            shared,
            image,
            digest,
            opened: Some(opened),
            start,
            position: start,
            skip: 0,
            total,
            resumed: 0,
            fruitless: 0,
        })
    }

    /// The place of the first byte that comes in the blob: what was asked for, or 0 when the server
    /// has only whole blobs. Whoever kept a part must then begin anew.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Length of the whole blob in bytes, if the server says it.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// How often the transfer was cut and taken up again.
    #[must_use]
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// The next bytes; `None` after the last, and after an error. A cut connection is taken up again
    /// where it ended, as long as that makes progress.
    pub async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        loop {
            let opened = self.opened.as_mut()?;
            let cause = match opened.answer.chunk().await {
                Some(Ok(bytes)) => match self.taken(bytes) {
                    Some(bytes) => return Some(Ok(bytes)),
                    None => continue,
                },
                None if self.total.is_some_and(|total| self.position < total) => {
                    BrokenError::Truncated
                }
                None => {
                    self.opened = None;
                    return None;
                }
                Some(Err(cause)) => cause,
            };
            if let Err(error) = self.resume(cause).await {
                self.opened = None;
                return Some(Err(error));
            }
        }
    }

    /// What of `bytes` has not come before.
    fn taken(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(skipped);
        self.skip -= skipped as u64;
        self.position += bytes.len() as u64;
        if bytes.is_empty() {
            return None;
        }
        self.fruitless = 0;
        Some(bytes)
    }

    /// Opens the blob again at the place where it broke: at the next server if the last one gave
    /// nothing.
    async fn resume(&mut self, cause: BrokenError) -> Result<(), RegistryError> {
        let server = self.opened.take().map_or((0, String::new()), |opened| {
            (opened.server + usize::from(self.fruitless > 0), opened.answer.server())
        });
        let mut failure = RegistryError::Broken { server: server.1, source: cause };
        loop {
            self.fruitless += 1;
            let Some(wait) = retry::backoff(self.fruitless) else { return Err(failure) };
            tracing::debug!(digest = %self.digest, position = self.position, "a transfer is resumed");
            self.shared.waits.wait(wait).await;
            self.resumed += 1;
            match self.shared.open(&self.image, &self.digest, self.position, server.0).await {
                Ok(opened) => return self.reopened(opened),
                Err(
                    error @ (RegistryError::Broken { .. }
                    | RegistryError::Connect { .. }
                    | RegistryError::Status { status: 500.., .. }),
                ) => failure = error,
                Err(error) => return Err(error),
            }
        }
    }

    fn reopened(&mut self, opened: Opened) -> Result<(), RegistryError> {
        let changed = self.total.zip(opened.total).is_some_and(|(one, other)| one != other);
        if changed {
            return Err(RegistryError::Range { server: opened.answer.server() });
        }
        self.skip = self.position - opened.start;
        self.total = self.total.or(opened.total);
        self.opened = Some(opened);
        Ok(())
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("digest", &self.digest)
            .field("start", &self.start)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
