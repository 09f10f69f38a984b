//! The uncompressed stream of a layer: decompressed in one thread, hashed and read in another, with
//! its limits watched.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{Compression, LayerError, Limits};
use crate::digest::{Digest, Hasher};

/// Bytes that go from one thread to the other at a time.
const BLOCK: usize = 256 * 1024;
/// Blocks on their way.
const BLOCKS: usize = 4;

/// Uncompressed bytes, each of them hashed.
#[derive(Debug)]
pub(super) struct Stream {
    filled: Receiver<Result<Block, LayerError>>,
    spent: SyncSender<Box<[u8]>>,
    block: Block,
    position: usize,
    hasher: Hasher,
    total: u64,
    /// Compressed bytes that were read; nothing counts them where there is no compression.
    compressed: Option<Arc<AtomicU64>>,
    limits: Limits,
    fault: Option<LayerError>,
}

#[derive(Debug, Default)]
struct Block {
    bytes: Box<[u8]>,
    length: usize,
}

/// Calls `read` with what `input` holds. The thread that decompresses has ended at the end.
pub(super) fn with<T>(
    input: impl Read + Send,
    compression: Compression,
    limits: &Limits,
    read: impl FnOnce(&mut Stream) -> Result<T, LayerError>,
) -> Result<T, LayerError> {
    let counter = Arc::new(AtomicU64::new(0));
    let (filled_in, filled) = sync_channel(BLOCKS);
    let (spent, spent_out) = sync_channel(BLOCKS);
    for _ in 0..BLOCKS {
        let _room = spent.try_send(vec![0; BLOCK].into_boxed_slice());
    }
    let counted = Counted { input, counter: Arc::clone(&counter) };
    thread::scope(|scope| {
        thread::Builder::new()
            .name("layer".to_owned())
            .spawn_scoped(scope, move || decompress(counted, compression, &filled_in, &spent_out))
            .map_err(LayerError::Input)?;
        // Dropped before the scope waits, which ends the thread.
        let mut stream = Stream {
            filled,
            spent,
            block: Block::default(),
            position: 0,
            hasher: Hasher::default(),
            total: 0,
            compressed: (compression != Compression::None).then_some(counter),
            limits: limits.clone(),
            fault: None,
        };
        read(&mut stream)
    })
}

/// Fills blocks until the end of the input, an error, or nobody wants more.
fn decompress<R: Read + Send>(
    input: Counted<R>,
    compression: Compression,
    filled: &SyncSender<Result<Block, LayerError>>,
    spent: &Receiver<Box<[u8]>>,
) {
    let mut reader = match compression.reader(input) {
        Ok(reader) => reader,
        Err(error) => {
            let _nobody_waits = filled.send(Err(fault(error)));
            return;
        }
    };
    while let Ok(mut bytes) = spent.recv() {
        let (length, error) = fill(&mut reader, &mut bytes);
        let last = length < bytes.len();
        if length > 0 && filled.send(Ok(Block { bytes, length })).is_err() {
            return;
        }
        if let Some(error) = error {
            let _nobody_waits = filled.send(Err(fault(error)));
        }
        if last {
            return;
        }
    }
}

/// How many bytes were read: less than there is room for at the end and after an error.
fn fill(reader: &mut dyn Read, bytes: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut length = 0;
    while length < bytes.len() {
        match reader.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Some(error)),
        }
    }
    (length, None)
}

/// Whose error it is: that of the input, which [`Counted`] marks, or that of the compression.
fn fault(error: io::Error) -> LayerError {
    match error.downcast::<InputFailed>() {
        Ok(InputFailed(error)) => LayerError::Input(error),
        Err(error) => LayerError::Decompress(error),
    }
}

impl Stream {
    /// Why the stream failed.
    pub(super) fn take_fault(&mut self) -> Option<LayerError> {
        self.fault.take()
    }

    /// Reads to the end: the digest and the length of all that was read.
    pub(super) fn finish(&mut self) -> Result<(Digest, u64), LayerError> {
        self.position = self.block.length;
        while self.advance()? {}
        Ok((std::mem::take(&mut self.hasher).finish(), self.total))
    }

    /// Takes the next block; false at the end.
    fn advance(&mut self) -> Result<bool, LayerError> {
        let spent = std::mem::take(&mut self.block);
        self.position = 0;
        if !spent.bytes.is_empty() {
            // At the end nobody takes it.
            let _room = self.spent.try_send(spent.bytes);
        }
        let Ok(block) = self.filled.recv() else { return Ok(false) };
        self.block = block?;
        self.total += self.block.length as u64;
        self.check_limits()?;
        self.hasher.update(&self.block.bytes[..self.block.length]);
        Ok(true)
    }

    fn check_limits(&self) -> Result<(), LayerError> {
        let limits = &self.limits;
        if self.total > limits.bytes {
            return Err(LayerError::TooLong(limits.bytes));
        }
        if let Some(compressed) = &self.compressed {
            let compressed = compressed.load(Ordering::Relaxed);
            let bound = compressed.saturating_mul(limits.ratio).saturating_add(limits.ratio_free);
            if self.total > bound {
                return Err(LayerError::Bomb(limits.ratio));
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.block.length
            && let Err(fault) = self.advance()
        {
            self.fault = Some(fault);
            return Err(io::Error::other("the stream of the layer failed"));
        }
        Ok(&self.block.bytes[self.position..self.block.length])
    }

    fn consume(&mut self, bytes: usize) {
        self.position = (self.position + bytes).min(self.block.length);
    }
}

/// Counts the bytes of the input and marks its errors.
struct Counted<R> {
    input: R,
    counter: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.input.read(out) {
            Ok(read) => {
                self.counter.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::other(InputFailed(error))),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the input failed")]
struct InputFailed(#[source] io::Error);
