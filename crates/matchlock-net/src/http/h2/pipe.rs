//! Bodies between streams, at the pace of their receivers.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

/// Why a body does not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipeError {
    /// The side that sends it.
    #[error("the sender ended the stream")]
    Source(#[source] h2::Error),
    /// The side that receives it.
    #[error("the receiver ended the stream")]
    Sink(#[source] h2::Error),
    /// The receiver took the stream away.
    #[error("the receiver reset the stream: {0}")]
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

/// Sends data as the receiver allows.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), PipeError> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let length = match capacity {
            Some(Ok(length)) => length.min(data.len()),
            Some(Err(error)) => return Err(PipeError::Sink(error)),
            None => return Err(PipeError::SinkReset(reset(stream).await)),
        };
        stream.send_data(data.split_to(length), false).map_err(PipeError::Sink)?;
    }
    Ok(())
}

/// Waits for the receiver to reset a stream.
pub(super) async fn reset(stream: &mut SendStream<Bytes>) -> Reason {
    match poll_fn(|cx| stream.poll_reset(cx)).await {
        Ok(reason) => reason,
        Err(error) => super::reason(&error),
    }
}
