//! What all HTTP/2 connections of a sandbox may hold together.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{HEAD_TIMEOUT, STREAMS};

/// Connections at the same time. More wait for one to end.
const CONNECTIONS: usize = 128;

/// Streams of all connections at the same time. More are refused, and a guest may ask again
/// (RFC 9113 section 8.7).
const ALL_STREAMS: usize = 400;

/// The windows of all connections, both sides of each: what may be on the way to us, and is held of
/// bodies whose receiver is slow. Each connection has an eighth of what is left, and at least
/// [`LEAST_WINDOW`] for a side, which is not of these.
const ALL_WINDOWS: u32 = 48 << 20;
const LEAST_WINDOW: u32 = 128 << 10;

/// Data that waits to be sent on all streams, but for one frame on each.
const ALL_QUEUED: usize = 16 << 20;

/// How often who waits for a place has an idle connection closed.
const ASK: Duration = Duration::from_secs(1);

/// Shared by the connections of a sandbox.
#[derive(Debug)]
pub(crate) struct Budget {
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    windows: Arc<Semaphore>,
    queued: Arc<Semaphore>,
    /// Tells an idle connection that its place is wanted.
    wanted: Notify,
}

/// A connection's place among all, for as long as it lives.
#[derive(Debug)]
pub(super) struct Seat {
    /// What all streams of each side may have on the way to us; one may have a quarter of it.
    pub(super) window: u32,
    _connection: OwnedSemaphorePermit,
    _windows: Option<OwnedSemaphorePermit>,
}

/// A connection's streams, as they count among all.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    held: Vec<OwnedSemaphorePermit>,
}

impl Default for Budget {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            connections: semaphore(CONNECTIONS),
            streams: semaphore(ALL_STREAMS),
            windows: semaphore(ALL_WINDOWS as usize),
            queued: semaphore(ALL_QUEUED),
            wanted: Notify::new(),
        }
    }
}

impl Budget {
    /// Waits for a place for one more connection; idle ones make room.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]: there is none for a minute.
    pub(super) async fn seat(&self) -> io::Result<Seat> {
        let waiting = async {
            let mut place = pin!(Arc::clone(&self.connections).acquire_owned());
            loop {
                match tokio::time::timeout(ASK, &mut place).await {
                    Ok(place) => return place.expect("it is never closed"),
                    Err(_) => self.wanted.notify_one(),
                }
            }
        };
        let connection = match Arc::clone(&self.connections).try_acquire_owned() {
            Ok(connection) => connection,
            Err(_) => {
                self.wanted.notify_one();
                tokio::time::timeout(HEAD_TIMEOUT, waiting).await?
            }
        };
        let (window, windows) = self.window();
        Ok(Seat { window, _connection: connection, _windows: windows })
    }

    /// The window of each side of a connection.
    fn window(&self) -> (u32, Option<OwnedSemaphorePermit>) {
        let left = u32::try_from(self.windows.available_permits()).unwrap_or(u32::MAX);
        let window = left / 8 / 2;
        if window > LEAST_WINDOW
            && let Ok(both) = Arc::clone(&self.windows).try_acquire_many_owned(2 * window)
        {
            return (window, Some(both));
        }
        (LEAST_WINDOW, None)
    }

    /// For the streams of a connection.
    pub(super) fn places(&self) -> Places {
        Places { all: Arc::clone(&self.streams), held: Vec::new() }
    }

    /// For the bytes that wait to be sent.
    pub(crate) fn queued(&self) -> &Arc<Semaphore> {
        &self.queued
    }

    /// Waits until the place of an idle connection is wanted.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Places {
    /// Counts one more stream; `false` if there are too many.
    pub(super) fn take(&mut self) -> bool {
        // h2 lets no more streams live on a connection: of those that are counted one has ended.
        if self.held.len() >= STREAMS as usize {
            return true;
        }
        match Arc::clone(&self.all).try_acquire_owned() {
            Ok(place) => self.held.push(place),
            Err(_) => return false,
        }
        true
    }

    /// Counts no more than these from here on.
    pub(super) fn keep(&mut self, streams: usize) {
        self.held.truncate(streams);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn windows_get_smaller_as_there_are_more_and_are_bounded_together() {
        let budget = Budget::default();
        let mut seats = Vec::new();
        for _ in 0..CONNECTIONS {
            seats.push(budget.seat().await.expect("a place"));
        }
        let windows: Vec<_> = seats.iter().map(|seat| seat.window).collect();
        assert!(windows[0] >= 2 << 20, "{}", windows[0]);
        assert!(windows.is_sorted_by(|one, next| one >= next), "{windows:?}");
        assert_eq!(windows.last(), Some(&LEAST_WINDOW));
        let both: u32 = windows.iter().map(|window| 2 * window).sum();
        assert!(both <= ALL_WINDOWS + CONNECTIONS as u32 * 2 * LEAST_WINDOW, "{both}");
        drop(seats);
        assert_eq!(budget.seat().await.expect("a place").window, windows[0]);
    }
}
