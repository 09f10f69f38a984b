//! What the other end may still send.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::INITIAL_WINDOW;

/// Consumed bytes are granted again in steps of at least this many.
const GRANT_STEP: u32 = INITIAL_WINDOW / 8;

/// The other end sent more than it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood;

/// The receiver's side of one stream. Credit that waits to be sent is a number and no queue: a sender
/// that does not read it can make nothing grow.
#[derive(Debug, Default)]
pub struct Window {
    /// Bytes that came and were not granted again. The sender's window is what this lacks of
    /// [`INITIAL_WINDOW`], or less.
    owed: AtomicU32,
    /// Those of them that nobody needs any more.
    consumed: AtomicU32,
}

impl Window {
    /// Counts bytes that came.
    ///
    /// # Errors
    /// [`Flood`] if they are more than was granted.
    pub fn receive(&self, len: usize) -> Result<(), Flood> {
        let len = u32::try_from(len).map_err(|_| Flood)?;
        let room = INITIAL_WINDOW.checked_sub(len).ok_or(Flood)?;
        if self.owed.fetch_add(len, Ordering::Relaxed) > room {
            return Err(Flood);
        }
        Ok(())
    }

    /// Says that bytes which came are needed no more. Returns whether a grant is due.
    pub fn consume(&self, len: usize) -> bool {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let before = self.consumed.fetch_add(len, Ordering::Relaxed);
        before + len >= GRANT_STEP
    }

    /// The bytes to grant now, if they are worth a frame. They count as granted from here on.
    pub fn grant(&self) -> Option<u32> {
        if self.consumed.load(Ordering::Relaxed) < GRANT_STEP {
            return None;
        }
        let bytes = self.consumed.swap(0, Ordering::Relaxed);
        // First, or a sender that answers at once would be taken for a flood.
        self.owed.fetch_sub(bytes, Ordering::Relaxed);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_to_be_granted_is_one_number() {
        let window = Window::default();
        for _ in 0..INITIAL_WINDOW {
            window.receive(1).expect("within the window");
            window.consume(1);
        }
        assert_eq!(window.receive(1), Err(Flood), "nothing was granted yet");
        assert_eq!(window.grant(), Some(INITIAL_WINDOW));
        assert_eq!(window.grant(), None);
    }

    #[test]
    fn small_steps_wait_for_more() {
        let window = Window::default();
        window.receive(GRANT_STEP as usize).expect("within the window");
        assert!(!window.consume(GRANT_STEP as usize - 1));
        assert_eq!(window.grant(), None);
        assert!(window.consume(1));
        assert_eq!(window.grant(), Some(GRANT_STEP));
        window.receive(INITIAL_WINDOW as usize).expect("the window is whole");
    }
}
