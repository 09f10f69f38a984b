//! What the guest may still send on its two output streams.

use std::sync::atomic::{AtomicU32, Ordering};

use matchlock_proto::{HostFrame, INITIAL_WINDOW, StreamId};
use tokio::sync::Notify;

/// Consumed bytes are granted again in steps of at least this many.
const GRANT_STEP: u32 = INITIAL_WINDOW / 8;

/// The guest sent more than it was granted.
#[derive(Debug)]
pub(super) struct Flood;

/// The windows of standard output and standard error. Credit that waits to be sent is a number for
/// each stream and no queue: a guest that does not read it can make nothing grow.
#[derive(Debug)]
pub(super) struct Credits {
    windows: [Window; 2],
    wake: Notify,
}

#[derive(Debug)]
struct Window {
    stream: StreamId,
    /// Bytes that came and were not granted again. The window of the guest is what this lacks of
    /// [`INITIAL_WINDOW`], or less.
    owed: AtomicU32,
    /// Those of them that nobody needs any more.
    consumed: AtomicU32,
}

impl Credits {
    pub(super) fn new() -> Self {
        let window = |stream| Window { stream, owed: 0.into(), consumed: 0.into() };
        Self { windows: [window(StreamId::Stdout), window(StreamId::Stderr)], wake: Notify::new() }
    }

    /// Counts what the guest sent on an output stream.
    pub(super) fn receive(&self, stream: StreamId, len: usize) -> Result<(), Flood> {
        let len = u32::try_from(len).map_err(|_| Flood)?;
        let room = INITIAL_WINDOW.checked_sub(len).ok_or(Flood)?;
        if self.window(stream).owed.fetch_add(len, Ordering::Relaxed) > room {
            return Err(Flood);
        }
        Ok(())
    }

    /// Says that bytes which came are needed no more.
    pub(super) fn consume(&self, stream: StreamId, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let before = self.window(stream).consumed.fetch_add(len, Ordering::Relaxed);
        if before + len >= GRANT_STEP {
            self.wake.notify_one();
        }
    }

    /// The next grant to send. It counts as sent from here on.
    pub(super) async fn next(&self) -> HostFrame {
        loop {
            if let Some(grant) = self.due() {
                return grant;
            }
            self.wake.notified().await;
        }
    }

    fn due(&self) -> Option<HostFrame> {
        self.windows.iter().find_map(Window::grant)
    }

    fn window(&self, stream: StreamId) -> &Window {
        let [stdout, stderr] = &self.windows;
        if stream == stdout.stream { stdout } else { stderr }
    }
}

impl Window {
    fn grant(&self) -> Option<HostFrame> {
        if self.consumed.load(Ordering::Relaxed) < GRANT_STEP {
            return None;
        }
        let bytes = self.consumed.swap(0, Ordering::Relaxed);
        // First, or a guest that answers at once would be taken for a flood.
        self.owed.fetch_sub(bytes, Ordering::Relaxed);
        Some(HostFrame::Credit(self.stream, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_granted_is_one_number_for_each_stream() {
        let credits = Credits::new();
        for _ in 0..INITIAL_WINDOW {
            for stream in [StreamId::Stdout, StreamId::Stderr] {
                credits.receive(stream, 1).expect("within the window");
                credits.consume(stream, 1);
            }
        }
        assert!(credits.receive(StreamId::Stdout, 1).is_err(), "nothing was granted yet");
        assert!(credits.receive(StreamId::Stderr, 1).is_err());
        for stream in [StreamId::Stdout, StreamId::Stderr] {
            assert_eq!(credits.due(), Some(HostFrame::Credit(stream, INITIAL_WINDOW)));
        }
        assert_eq!(credits.due(), None);
    }

    #[test]
    fn small_steps_wait_for_more() {
        let credits = Credits::new();
        credits.receive(StreamId::Stderr, GRANT_STEP as usize).expect("within the window");
        credits.consume(StreamId::Stderr, GRANT_STEP as usize - 1);
        assert_eq!(credits.due(), None);
        credits.consume(StreamId::Stderr, 1);
        assert_eq!(credits.due(), Some(HostFrame::Credit(StreamId::Stderr, GRANT_STEP)));
        credits.receive(StreamId::Stderr, INITIAL_WINDOW as usize).expect("the window is whole");
    }
}
