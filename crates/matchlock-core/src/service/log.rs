//! `log` and `log_stream`: the sandbox's log as one stream of bytes.

use std::sync::Arc;

use matchlock_api::{
    Base64, Chunk, ContentResult, Empty, ErrorCode, ErrorKind, Notification, RequestId, RpcError,
};
use tokio::task::spawn_blocking;

use super::session::Sink;
use super::{Service, Slot, not_created};
use crate::log::{Log, LogReader};

/// Bytes of one notification, or a record more.
const PIECE: usize = 64 * 1024;

/// All that is in the log.
async fn content(log: Arc<Log>) -> Result<Vec<u8>, RpcError> {
    let reading = spawn_blocking(move || {
        log.settle();
        read(&mut log.reader()?, usize::MAX)
    });
    reading.await.map_err(|error| unreadable(&error.into()))?.map_err(|error| unreadable(&error))
}

/// What comes next in the log, up to its end of now.
fn read(from: &mut LogReader, max: usize) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    while content.len() < max {
        let Some(record) = from.read()? else { break };
        content.extend_from_slice(record.bytes());
    }
    Ok(content)
}

fn unreadable(error: &std::io::Error) -> RpcError {
    let text = format!("cannot read the log: {error}");
    RpcError::new(ErrorCode::File, ErrorKind::of_io(error), text)
}

impl Service {
    /// `log`: of a sandbox that was closed, too.
    pub(super) async fn log(&self) -> Result<ContentResult, RpcError> {
        let log = match &*self.shared.slot.borrow() {
            Slot::Up(up) => up.sandbox.log(),
            Slot::Closed(log) => log.clone(),
            Slot::Empty | Slot::Creating => None,
        };
        Ok(ContentResult { content: Base64(content(log.ok_or_else(not_created)?).await?) })
    }

    /// `log_stream`: what is there, then what comes, until it is cancelled.
    pub(super) async fn log_stream(
        &self,
        id: &RequestId,
        sink: &impl Sink,
    ) -> Result<Empty, RpcError> {
        let log = self.up()?.sandbox.log().ok_or_else(not_created)?;
        let mut written = log.written();
        let opened = Arc::clone(&log);
        let opening = spawn_blocking(move || opened.reader());
        let opened = opening.await.map_err(|error| unreadable(&error.into()))?;
        let mut reader = opened.map_err(|error| unreadable(&error))?;
        loop {
            written.mark_unchanged();
            let reading = spawn_blocking(move || {
                let piece = read(&mut reader, PIECE)?;
                Ok((piece, reader))
            });
            let piece = match reading.await {
                Ok(Ok((piece, back))) => {
                    reader = back;
                    piece
                }
                Ok(Err(error)) => return Err(unreadable(&error)),
                Err(error) => return Err(unreadable(&error.into())),
            };
            if !piece.is_empty() {
                let data = Base64(piece);
                sink.notify(Notification::LogStreamData(Chunk { id: id.clone(), data })).await;
            } else {
                // The sender is in the log that is held here.
                let _ = written.changed().await;
            }
        }
    }
}
