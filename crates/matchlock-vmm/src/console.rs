//! The guest's console and the monitor's own words: bounded, escaped, searchable.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use matchlock_text::escape;

use crate::ConsoleSink;

/// Bytes kept of each stream: a guest can print for ever.
const KEEP: usize = 32 * 1024;

/// The last [`KEEP`] bytes of a stream, filled by a thread of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Tail {
    /// Starts to read `stream` to its end. All of it goes into `sink`, too.
    pub(crate) fn follow(
        mut stream: impl Read + Send + 'static,
        mut sink: Option<ConsoleSink>,
    ) -> Self {
        let tail = Self::default();
        let shared = Arc::clone(&tail.shared);
        let body = move || {
            let mut chunk = [0; 4096];
            loop {
                match stream.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => {
                        let piece = chunk.get(..n).unwrap_or_default();
                        if let Some(sink) = &mut sink {
                            sink.put(piece);
                        }
                        shared.append(piece);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            // What it still holds is written before the end is known.
            drop(sink);
            shared.lock().ended = true;
            shared.changed.notify_all();
        };
        if std::thread::Builder::new().name("console".into()).spawn(body).is_err() {
            tail.shared.lock().ended = true;
        }
        tail
    }

    /// What is kept, with everything that could drive a terminal escaped.
    pub(crate) fn text(&self) -> String {
        let state = self.shared.lock();
        let bytes: Vec<u8> = state.bytes.iter().copied().collect();
        escape::lines(&String::from_utf8_lossy(&bytes))
    }

    /// Waits until the stream contains `marker` (true), has ended without it or the deadline has
    /// come (false).
    pub(crate) fn wait_for(&self, marker: &str, deadline: Instant) -> bool {
        let mut state = self.shared.lock();
        loop {
            let bytes = state.bytes.make_contiguous();
            if bytes.windows(marker.len()).any(|window| window == marker.as_bytes()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the stream has ended, so that [`Tail::text`] is all of it.
    pub(crate) fn wait_end(&self, deadline: Instant) {
        let mut state = self.shared.lock();
        while !state.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after every statement: a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, chunk: &[u8]) {
        let mut state = self.lock();
        state.bytes.extend(chunk);
        let surplus = state.bytes.len().saturating_sub(KEEP);
        state.bytes.drain(..surplus);
        drop(state);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn only_the_end_of_a_flood_is_kept() {
        let flood = [vec![b'x'; 10 * KEEP], b"the end".to_vec()].concat();
        let tail = Tail::follow(std::io::Cursor::new(flood), None);
        tail.wait_end(soon());
        assert_eq!(tail.text().len(), KEEP);
        assert!(tail.text().ends_with("the end"));
    }

    #[test]
    fn a_sink_has_all_bytes_before_the_end_is_known() {
        let (send, received) = std::sync::mpsc::channel();
        let sink = ConsoleSink::new(move |piece| send.send(piece.to_vec()).expect("send"));
        let flood = [vec![b'x'; 10 * KEEP], b"\x1b\xff".to_vec()].concat();
        Tail::follow(std::io::Cursor::new(flood.clone()), Some(sink)).wait_end(soon());
        assert!(received.try_iter().flatten().eq(flood));
    }

    #[test]
    fn a_marker_is_found_and_its_absence_ends_with_the_stream() {
        let tail = Tail::follow(std::io::Cursor::new(b"one two three".to_vec()), None);
        assert!(tail.wait_for("two", soon()));
        assert!(!tail.wait_for("four", soon()));
    }

    #[test]
    fn terminal_sequences_of_the_guest_are_shown_not_obeyed() {
        let bytes = b"a\x1b[2Jb\r\n\x07\xff".to_vec();
        let tail = Tail::follow(std::io::Cursor::new(bytes), None);
        tail.wait_end(soon());
        assert_eq!(tail.text(), "a\\u{1b}[2Jb\n\\u{7}\u{fffd}");
    }
}
