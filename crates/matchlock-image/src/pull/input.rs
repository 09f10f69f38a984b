//! A compressed layer as one stream: what a part file has of it, then what comes from the registry.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use super::PullError;
use crate::digest::Hasher;
use crate::manifest::Blob;
use crate::store::PartFile;

/// Bytes of a layer that was refused which are still read, to tell damage from malice.
const REST: u64 = 16 * 1024 * 1024;

/// What the task that asks the registry sends: bytes, then the end. A channel that closes without
/// the end is a transfer that broke.
pub(super) type Piece = Option<Bytes>;

/// The stream. It keeps what it reads in the part file and computes the digest of all of it.
pub(super) struct Input {
    part: PartFile,
    at: u64,
    pieces: Receiver<Piece>,
    piece: Bytes,
    hasher: Hasher,
    ended: bool,
    blob: Blob,
    fault: Option<Fault>,
}

/// Why the stream ended before its end.
enum Fault {
    /// No more pieces come. What is in the part file is good.
    Broken,
    /// The part file cannot be read or written.
    File(io::Error),
    /// More bytes than the manifest says.
    TooLong,
}

impl Input {
    /// A stream of `blob` that begins with what is in `part`.
    pub(super) fn new(part: PartFile, pieces: Receiver<Piece>, blob: Blob) -> Self {
        let (piece, hasher) = (Bytes::new(), Hasher::default());
        Self { part, at: 0, pieces, piece, hasher, ended: false, blob, fault: None }
    }

    /// The part file.
    pub(super) fn into_part(self) -> PartFile {
        self.part
    }

    /// Reads what is left and checks length and digest of the whole.
    pub(super) fn finish(&mut self) -> Result<(), PullError> {
        let drained = io::copy(self, &mut io::sink());
        self.fault()?;
        drained.map_err(|_| PullError::Interrupted)?;
        self.verify()
    }

    /// What is wrong with the bytes of a layer that was refused: they may not be those that the
    /// manifest names. No more than [`REST`] bytes are read for that.
    pub(super) fn diagnose(&mut self) -> Result<(), PullError> {
        let left = self.blob.size.saturating_sub(self.at);
        if self.fault.is_none() && left <= REST && io::copy(self, &mut io::sink()).is_ok() {
            return self.verify();
        }
        self.fault()
    }

    fn verify(&self) -> Result<(), PullError> {
        let Blob { digest, size } = self.blob;
        if self.at != size {
            return Err(PullError::Truncated { digest, got: self.at, wanted: size });
        }
        let found = self.hasher.clone().finish();
        if found != digest {
            return Err(PullError::DigestMismatch { wanted: digest, found });
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), PullError> {
        let Blob { digest, size } = self.blob;
        match self.fault.take() {
            None => Ok(()),
            Some(Fault::Broken) => Err(PullError::Interrupted),
            Some(Fault::File(error)) => Err(self.part.failed(error).into()),
            Some(Fault::TooLong) => Err(PullError::Size { digest, wanted: size }),
        }
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        self.fault = Some(fault);
        // The reader of the stream needs to know no more than that.
        io::Error::other("the transfer of the layer ended early")
    }

    fn read_part(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.part.read_at(buffer, self.at) {
            Ok(0) => Err(self.fail(Fault::File(io::ErrorKind::UnexpectedEof.into()))),
            Ok(count) => Ok(count),
            Err(error) => Err(self.fail(Fault::File(error))),
        }
    }

    /// The next piece that is not empty; false at the end.
    fn next_piece(&mut self) -> io::Result<bool> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => {
                    if self.at + piece.len() as u64 > self.blob.size {
                        return Err(self.fail(Fault::TooLong));
                    }
                    if let Err(error) = self.part.append(&piece) {
                        return Err(self.fail(Fault::File(error)));
                    }
                    self.piece = piece;
                }
                Some(None) => self.ended = true,
                None => return Err(self.fail(Fault::Broken)),
            }
        }
        Ok(!self.piece.is_empty())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.fault.is_some() {
            return Err(io::Error::other("the transfer of the layer ended early"));
        }
        let count = if self.piece.is_empty() && self.at < self.part.len() {
            self.read_part(buffer)?
        } else if self.next_piece()? {
            let count = buffer.len().min(self.piece.len());
            buffer[..count].copy_from_slice(&self.piece.split_to(count));
            count
        } else {
            return Ok(0);
        };
        self.hasher.update(&buffer[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl PullError {
    /// Whether the bytes themselves were wrong, not the way to them.
    pub(super) fn is_of_content(&self) -> bool {
        matches!(
            self,
            Self::Layer { .. }
                | Self::DigestMismatch { .. }
                | Self::Size { .. }
                | Self::Truncated { .. }
        )
    }
}
