//! Frames on an asynchronous connection, and the streams within it.
//!
//! Each end has a [`Sender`] for a stream that it sends and a [`Receiver`] for one that it receives. The
//! connection itself is read by one task, which never waits for a stream, and written by another
//! ([`write_frames`]).

mod blocking;

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, Semaphore};

pub use blocking::{BlockingReceiver, BlockingSender};

use crate::frame::HEADER;
use crate::{Decoder, Flood, INITIAL_WINDOW, MAX_DATA, StreamId, Window, WireError, WireMessage};

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The other end has closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// It cannot be read.
    #[error("cannot read from the connection")]
    Io(#[source] io::Error),
    /// The other end sent something else than frames.
    #[error("the other end broke the protocol")]
    Protocol(#[source] WireError),
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<M, R> {
    reader: R,
    decoder: Decoder<M>,
    buffer: Box<[u8]>,
}

impl<M: WireMessage, R: AsyncRead + Unpin> FrameReader<M, R> {
    /// Of a connection that nothing was read from.
    pub fn new(reader: R) -> Self {
        Self { reader, decoder: Decoder::new(), buffer: vec![0; MAX_DATA].into() }
    }

    /// The next frame. It may be called off without a loss.
    ///
    /// # Errors
    /// [`ReadError`]; nothing comes after it.
    pub async fn next(&mut self) -> Result<M, ReadError> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(ReadError::Protocol)? {
                return Ok(frame);
            }
            match self.reader.read(&mut self.buffer).await {
                Ok(0) => return Err(ReadError::Closed),
                Ok(n) => self.decoder.push(self.buffer.get(..n).unwrap_or_default()),
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }
}

/// Reads one frame and not a byte more: what follows may be no frame.
///
/// # Errors
/// [`ReadError`].
pub async fn read_one<M: WireMessage>(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<M, ReadError> {
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Closed,
        _ => ReadError::Io(error),
    };
    let mut decoder = Decoder::<M>::new();
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).await.map_err(lost)?;
    decoder.push(&header);
    // The bound of the type is checked here, before the payload is read.
    if let Some(frame) = decoder.next().map_err(ReadError::Protocol)? {
        return Ok(frame);
    }
    let [kind, length @ ..] = header;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    reader.read_exact(&mut payload).await.map_err(lost)?;
    decoder.push(&payload);
    let frame = decoder.next().map_err(ReadError::Protocol)?;
    frame.ok_or(ReadError::Protocol(WireError::Malformed(kind)))
}

/// Sends frames until nobody can make any more, and credit between them.
///
/// # Errors
/// When the connection does not take them.
pub async fn write_frames<M: WireMessage>(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: UnboundedReceiver<M>,
    credits: Arc<Credits>,
    grant: fn(StreamId, u32) -> M,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return Ok(()),
            },
            (stream, bytes) = credits.next() => grant(stream, bytes),
        };
        buffer.clear();
        frame.encode(&mut buffer);
        writer.write_all(&buffer).await?;
    }
}

/// The windows of the streams that an end receives.
#[derive(Debug, Default)]
pub struct Credits {
    windows: [Window; 3],
    wake: Notify,
}

impl Credits {
    /// The next grant to send. It counts as sent from here on.
    pub async fn next(&self) -> (StreamId, u32) {
        loop {
            for stream in [StreamId::Stdin, StreamId::Stdout, StreamId::Stderr] {
                if let Some(bytes) = self.window(stream).grant() {
                    return (stream, bytes);
                }
            }
            self.wake.notified().await;
        }
    }

    fn consume(&self, stream: StreamId, len: usize) {
        if self.window(stream).consume(len) {
            self.wake.notify_one();
        }
    }

    fn window(&self, stream: StreamId) -> &Window {
        let [stdin, stdout, stderr] = &self.windows;
        match stream {
            StreamId::Stdin => stdin,
            StreamId::Stdout => stdout,
            StreamId::Stderr => stderr,
        }
    }
}

/// Sends the bytes of one stream. Dropping it is the end of the stream.
#[derive(Debug)]
pub struct Sender<M> {
    frames: UnboundedSender<M>,
    credit: Arc<Semaphore>,
    data: fn(Vec<u8>) -> M,
    end: Option<fn() -> M>,
}

/// Where the other end's credit for a [`Sender`] arrives.
#[derive(Debug)]
pub struct Granted(Arc<Semaphore>);

/// A stream to the other end: `data` makes its frames, and `end` the last one if it has one.
#[must_use]
pub fn sending<M>(
    frames: UnboundedSender<M>,
    data: fn(Vec<u8>) -> M,
    end: Option<fn() -> M>,
) -> (Sender<M>, Granted) {
    let credit = Arc::new(Semaphore::new(INITIAL_WINDOW as usize));
    (Sender { frames, credit: Arc::clone(&credit), data, end }, Granted(credit))
}

impl<M> Sender<M> {
    /// Sends bytes, waiting until the other end has used enough of the earlier ones.
    ///
    /// # Errors
    /// `BrokenPipe` when the other end takes no more.
    pub async fn send(&self, data: &[u8]) -> io::Result<()> {
        for chunk in data.chunks(MAX_DATA) {
            let wanted = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let permit = self.credit.acquire_many(wanted).await;
            permit.map_err(|_| io::ErrorKind::BrokenPipe)?.forget();
            let frame = (self.data)(chunk.to_vec());
            self.frames.send(frame).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(())
    }
}

impl<M> Sender<M> {
    /// The stream for a thread that may wait (`spawn_blocking`) of this runtime. Its end is the end of the
    /// stream.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn blocking(self) -> BlockingSender<M> {
        BlockingSender::new(self)
    }
}

impl<M> Drop for Sender<M> {
    fn drop(&mut self) {
        if let Some(end) = self.end {
            drop(self.frames.send(end()));
        }
    }
}

impl Granted {
    /// Counts credit that came.
    pub fn add(&self, bytes: u32) {
        // More than a window can never have been consumed: the excess is a lie.
        let room = (INITIAL_WINDOW as usize).saturating_sub(self.0.available_permits());
        self.0.add_permits(room.min(bytes as usize));
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// One stream that is received. What is taken from it is granted to the other end again. Dropping it lets
/// the other end go on: what it sends is thrown away.
#[derive(Debug)]
pub struct Receiver {
    stream: StreamId,
    chunks: UnboundedReceiver<Vec<u8>>,
    credits: Arc<Credits>,
}

/// Where the frames of a [`Receiver`] arrive.
#[derive(Debug)]
pub struct Sink {
    stream: StreamId,
    chunks: UnboundedSender<Vec<u8>>,
    credits: Arc<Credits>,
}

/// A stream from the other end.
#[must_use]
pub fn receiving(stream: StreamId, credits: &Arc<Credits>) -> (Sink, Receiver) {
    // Unbounded in type, bounded by the credit that `Sink` enforces.
    let (sender, chunks) = unbounded_channel();
    let sink = Sink { stream, chunks: sender, credits: Arc::clone(credits) };
    (sink, Receiver { stream, chunks, credits: Arc::clone(credits) })
}

impl Sink {
    /// Takes the bytes of a frame.
    ///
    /// # Errors
    /// [`Flood`] if the other end sent more than it was granted.
    pub fn accept(&self, data: Vec<u8>) -> Result<(), Flood> {
        // Empty frames cost the other end nothing, so they must cost us nothing.
        if data.is_empty() {
            return Ok(());
        }
        self.credits.window(self.stream).receive(data.len())?;
        if let Err(SendError(data)) = self.chunks.send(data) {
            // Nobody listens any more: the other end must not be blocked by that.
            self.credits.consume(self.stream, data.len());
        }
        Ok(())
    }
}

impl Receiver {
    /// The next bytes, or `None` after the last.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let chunk = self.chunks.recv().await?;
        self.credits.consume(self.stream, chunk.len());
        Some(chunk)
    }

    /// The stream for a thread that may wait (`spawn_blocking`) of this runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn blocking(self) -> BlockingReceiver {
        BlockingReceiver::new(self)
    }

    /// Everything up to the end of the stream.
    pub async fn collect(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.extend_from_slice(&chunk);
        }
        all
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.chunks.close();
        while let Ok(chunk) = self.chunks.try_recv() {
            self.credits.consume(self.stream, chunk.len());
        }
    }
}
