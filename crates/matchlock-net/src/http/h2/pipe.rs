//! Bodies between streams, at the pace of their receivers.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Budget;

/// Frames of data that may wait to be sent on one stream, however short they are: a frame in h2's
/// queue takes hundreds of bytes for each one that it may carry.
const FRAMES: usize = 64;

/// The most data of a frame (RFC 9113 section 4.2, and what h2 sends).
const FRAME: usize = 16 << 10;

/// Why a body does not go on.
#[derive(Debug)]
pub(super) enum PipeError {
    /// The side that sends it.
    Source(h2::Error),
    /// The side that receives it.
    Sink(h2::Error),
    /// The receiver took the stream away.
    SinkReset(Reason),
}

/// The next data of a body. It counts as taken only after [`taken`].
pub(super) async fn data(body: &mut RecvStream) -> Result<Option<Bytes>, PipeError> {
    body.data().await.transpose().map_err(PipeError::Source)
}

/// Lets the sender send as much again.
pub(super) fn taken(body: &mut RecvStream, length: usize) -> Result<(), PipeError> {
    body.flow_control().release_capacity(length).map_err(PipeError::Source)
}

/// Data that waits to be sent. Until it is, it has its place among the [`FRAMES`] of its stream, and
/// its bytes count among those of all connections.
#[derive(Debug)]
pub(super) struct Chunk {
    data: Bytes,
    _place: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Chunk {
    /// Of nothing, or of an answer of our own.
    pub(super) fn short(data: &'static str) -> Self {
        Self { data: Bytes::from_static(data.as_bytes()), _place: None, _bytes: None }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

/// Where a body goes.
#[derive(Debug)]
pub(super) struct Sink {
    stream: SendStream<Chunk>,
    places: Arc<Semaphore>,
    /// For the bytes that wait on all connections of the sandbox.
    queued: Arc<Semaphore>,
}

impl Sink {
    pub(super) fn new(stream: SendStream<Chunk>, budget: &Budget) -> Self {
        let places = Arc::new(Semaphore::new(FRAMES));
        Self { stream, places, queued: Arc::clone(budget.queued()) }
    }

    /// Sends data as the receiver allows.
    pub(super) async fn send(&mut self, mut data: Bytes) -> Result<(), PipeError> {
        while !data.is_empty() {
            let place = self.place().await?;
            self.stream.reserve_capacity(data.len());
            let capacity = poll_fn(|cx| self.stream.poll_capacity(cx)).await;
            let length = match capacity {
                Some(Ok(length)) => length.min(data.len()),
                Some(Err(error)) => return Err(PipeError::Sink(error)),
                None => return Err(PipeError::SinkReset(self.reset().await)),
            };
            let length = length.min(FRAME);
            let bytes = self.room(length).await?;
            let data = data.split_to(length);
            let chunk = Chunk { data, _place: Some(place), _bytes: bytes };
            self.stream.send_data(chunk, false).map_err(PipeError::Sink)?;
        }
        Ok(())
    }

    /// Says that there is no more.
    pub(super) fn end(&mut self) -> Result<(), h2::Error> {
        self.stream.send_data(Chunk::short(""), true)
    }

    /// Says so with fields.
    pub(super) fn end_with_trailers(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        self.stream.send_trailers(trailers)
    }

    /// Takes the stream away.
    pub(super) fn send_reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Waits for the receiver to reset the stream.
    pub(super) async fn reset(&mut self) -> Reason {
        match self.cancelled().await {
            Ok(reason) => reason,
            Err(error) => super::reason(&error),
        }
    }

    /// The same, with what else may happen to it.
    pub(super) async fn cancelled(&mut self) -> Result<Reason, h2::Error> {
        poll_fn(|cx| self.stream.poll_reset(cx)).await
    }

    async fn place(&mut self) -> Result<OwnedSemaphorePermit, PipeError> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let places = Arc::clone(&self.places);
        tokio::select! {
            place = places.acquire_owned() => Ok(place.expect("it is never closed")),
            reason = self.reset() => Err(PipeError::SinkReset(reason)),
        }
    }

    /// Waits until so many bytes may wait with those of all connections. One frame may always wait, so
    /// that no stream has to stop for others that nobody reads.
    async fn room(&mut self, length: usize) -> Result<Option<OwnedSemaphorePermit>, PipeError> {
        // One place is that of the frame itself.
        const OTHERS: usize = FRAMES - 1;
        if self.places.available_permits() == OTHERS {
            return Ok(None);
        }
        let bytes = u32::try_from(length).expect("a frame");
        if let Ok(bytes) = Arc::clone(&self.queued).try_acquire_many_owned(bytes) {
            return Ok(Some(bytes));
        }
        let (queued, places) = (Arc::clone(&self.queued), Arc::clone(&self.places));
        tokio::select! {
            bytes = queued.acquire_many_owned(bytes) => Ok(bytes.ok()),
            _ = places.acquire_many(OTHERS as u32) => Ok(None),
            reason = self.reset() => Err(PipeError::SinkReset(reason)),
        }
    }
}
