//! Input of a command on its way from a client: one queue for each, with a bound in bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use matchlock_proto::WindowSize;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Bytes that wait for a command before its client is slowed down.
pub(super) const MAX_QUEUED: usize = 16 << 20;

/// How long a client waits for a command that reads nothing, before that command is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that are given to the command at one time.
const PIECE: usize = 64 * 1024;

/// The command did not read what was sent, and there was more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overrun;

/// What waits for a command.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to take.
    filled: Notify,
    /// Something was taken.
    drained: Notify,
    resized: Notify,
    overran: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    end: bool,
    overrun: bool,
    /// Nobody takes anything any more.
    closed: bool,
    taken: u64,
    size: Option<WindowSize>,
}

impl Queue {
    /// Adds bytes. A queue that is full holds its caller up as long as the command reads; one that does not
    /// read is overrun, and its input is dropped.
    pub(super) async fn push(&self, data: &[u8]) {
        loop {
            let before = {
                let mut state = self.state();
                if state.closed || state.end || state.overrun {
                    return;
                }
                if state.bytes.is_empty() || state.bytes.len() + data.len() <= MAX_QUEUED {
                    state.bytes.extend(data);
                    self.filled.notify_one();
                    return;
                }
                state.taken
            };
            let waited = timeout(PATIENCE, self.drained.notified()).await;
            let mut state = self.state();
            if waited.is_err() && state.taken == before && !state.closed {
                state.overrun = true;
                state.bytes = VecDeque::new();
                self.overran.notify_one();
            }
        }
    }

    /// There will be no more.
    pub(super) fn end(&self) {
        self.state().end = true;
        self.filled.notify_one();
    }

    /// The terminal has another size; only the last one counts.
    pub(super) fn resize(&self, size: WindowSize) {
        self.state().size = Some(size);
        self.resized.notify_one();
    }

    /// The next bytes; `None` at the end. What was taken before counts as read.
    pub(super) async fn next(&self) -> Result<Option<Vec<u8>>, Overrun> {
        loop {
            {
                let mut state = self.state();
                if state.overrun {
                    return Err(Overrun);
                }
                if !state.bytes.is_empty() {
                    let length = state.bytes.len().min(PIECE);
                    let piece = state.bytes.drain(..length).collect();
                    state.taken += length as u64;
                    self.drained.notify_one();
                    return Ok(Some(piece));
                }
                if state.end {
                    return Ok(None);
                }
            }
            self.filled.notified().await;
        }
    }

    /// The next size of the terminal.
    pub(super) async fn size(&self) -> WindowSize {
        loop {
            if let Some(size) = self.state().size.take() {
                return size;
            }
            self.resized.notified().await;
        }
    }

    /// The overrun, should it come.
    pub(super) async fn overrun(&self) -> Overrun {
        loop {
            if self.state().overrun {
                return Overrun;
            }
            self.overran.notified().await;
        }
    }

    /// Nobody takes anything any more: what comes is dropped.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.bytes = VecDeque::new();
        drop(state);
        self.drained.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_out_in_order_and_then_the_end() {
        let queue = Queue::default();
        queue.push(b"ab").await;
        queue.push(b"c").await;
        queue.end();
        queue.push(b"after the end").await;
        assert_eq!(queue.next().await, Ok(Some(b"abc".to_vec())));
        assert_eq!(queue.next().await, Ok(None));
    }

    #[tokio::test]
    async fn the_last_size_counts() {
        let queue = Queue::default();
        queue.resize(WindowSize { rows: 1, cols: 1 });
        queue.resize(WindowSize { rows: 2, cols: 3 });
        assert_eq!(queue.size().await, WindowSize { rows: 2, cols: 3 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_reads_nothing_is_overrun_and_one_that_reads_is_not() {
        let queue = Queue::default();
        queue.push(&vec![0; MAX_QUEUED]).await;
        let mut read = 0;
        let reading = async {
            while read < MAX_QUEUED + 1 {
                read += queue.next().await.expect("no overrun").expect("more").len();
            }
        };
        tokio::join!(queue.push(&[1]), reading);
        queue.push(&vec![0; MAX_QUEUED]).await;
        // The clock jumps over the patience.
        queue.push(&[2]).await;
        assert_eq!(queue.next().await, Err(Overrun));
        assert_eq!(queue.overrun().await, Overrun);
        queue.push(&vec![0; 2 * MAX_QUEUED]).await;
        assert!(queue.state().bytes.is_empty(), "nothing is kept for it");
    }

    #[tokio::test]
    async fn what_comes_after_the_command_is_dropped() {
        let queue = Queue::default();
        queue.push(&vec![0; MAX_QUEUED]).await;
        queue.close();
        queue.push(&vec![0; 2 * MAX_QUEUED]).await;
        assert!(queue.state().bytes.is_empty());
    }
}
