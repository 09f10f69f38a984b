//! What the image's program writes, kept within bounds, for `log` and those who follow it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use matchlock_api::{Base64, Chunk, ContentResult, Empty, Notification, RequestId, RpcError};
use tokio::sync::watch;

use super::session::Sink;
use super::{Service, Slot, Up, not_created};

/// Bytes that are kept; older ones go.
pub(super) const KEEP: usize = 1 << 20;

/// Bytes of one notification.
const PIECE: usize = 64 * 1024;

/// The last [`KEEP`] bytes of all that was written.
#[derive(Debug)]
pub(super) struct Log {
    kept: Mutex<Kept>,
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// All that was ever written.
    total: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), written: watch::Sender::new(0) }
    }

    pub(super) fn append(&self, data: &[u8]) {
        let total = {
            let mut kept = self.kept();
            kept.bytes.extend(data);
            let excess = kept.bytes.len().saturating_sub(KEEP);
            kept.bytes.drain(..excess);
            kept.total += data.len() as u64;
            kept.total
        };
        self.written.send_replace(total);
    }

    /// What follows the first `from` bytes of all, as far as it is kept, and where that ends.
    fn since(&self, from: u64, max: usize) -> (Vec<u8>, u64) {
        let kept = self.kept();
        let first = kept.total - kept.bytes.len() as u64;
        let from = from.max(first);
        let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = kept.bytes.iter().skip(skip).take(max).copied().collect();
        let end = from + bytes.len() as u64;
        (bytes, end)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Up {
    /// The guest's console, then what the image's program wrote.
    pub(super) fn content(&self) -> Vec<u8> {
        let (mut content, _) = self.begin();
        content.extend(self.log.since(0, usize::MAX).0);
        content
    }

    /// The console alone, as text.
    fn begin(&self) -> (Vec<u8>, u64) {
        (self.sandbox.console().unwrap_or_default().into_bytes(), 0)
    }
}

impl Service {
    /// `log`: of a sandbox that was closed, too.
    pub(super) fn log(&self) -> Result<ContentResult, RpcError> {
        let content = match &*self.shared.slot.borrow() {
            Slot::Up(up) => up.content(),
            Slot::Closed(Some(content)) => content.clone(),
            Slot::Empty | Slot::Creating | Slot::Closed(None) => return Err(not_created()),
        };
        Ok(ContentResult { content: Base64(content) })
    }

    /// `log_stream`: what is there, then what comes, until it is cancelled.
    pub(super) async fn log_stream(
        &self,
        id: &RequestId,
        sink: &impl Sink,
    ) -> Result<Empty, RpcError> {
        let up = self.up()?;
        let log = Arc::clone(&up.log);
        let (console, mut at) = up.begin();
        drop(up);
        let tell = |data: Vec<u8>| {
            Notification::LogStreamData(Chunk { id: id.clone(), data: Base64(data) })
        };
        for piece in console.chunks(PIECE) {
            sink.notify(tell(piece.to_vec())).await;
        }
        let mut written = log.written.subscribe();
        loop {
            let (piece, end) = log.since(at, PIECE);
            at = end;
            if !piece.is_empty() {
                sink.notify(tell(piece)).await;
            // The sender is in the log that is held here.
            } else if written.wait_for(|total| *total > at).await.is_err() {
                return Ok(Empty {});
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_followed_without_a_gap() {
        let log = Log::new();
        assert_eq!(log.since(0, 10), (Vec::new(), 0));
        log.append(b"abc");
        assert_eq!(log.since(0, 2), (b"ab".to_vec(), 2));
        assert_eq!(log.since(2, 10), (b"c".to_vec(), 3));
        log.append(&vec![b'x'; KEEP]);
        let (kept, end) = log.since(0, usize::MAX);
        assert_eq!((kept.len(), end), (KEEP, KEEP as u64 + 3));
        assert!(kept.iter().all(|byte| *byte == b'x'), "the oldest went");
        log.append(&vec![b'y'; 3 * KEEP]);
        let (kept, end) = log.since(3, usize::MAX);
        assert!(kept.len() == KEEP && kept[0] == b'y');
        assert_eq!(end, 4 * KEEP as u64 + 3);
    }
}
