//! The one thing that a guest's REQUEST does beside being refused: it says that somebody is up.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Counts refused requests. A hostile guest can make the host dial once more, which it does anyway.
#[derive(Debug, Clone, Default)]
pub(super) struct Doorbell {
    shared: Arc<(Mutex<u64>, Condvar)>,
}

impl Doorbell {
    pub(super) fn ring(&self) {
        let (rings, changed) = &*self.shared;
        let mut rings = rings.lock().unwrap_or_else(PoisonError::into_inner);
        *rings = rings.wrapping_add(1);
        changed.notify_all();
    }

    /// How often it has rung.
    pub(super) fn rings(&self) -> u64 {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has rung another time than `seen`, at most for `limit`.
    pub(super) fn wait(&self, seen: u64, limit: Duration) {
        let (rings, changed) = &*self.shared;
        let rings = rings.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout_while(rings, limit, |rings| *rings == seen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_missed() {
        let bell = Doorbell::default();
        let seen = bell.rings();
        bell.ring();
        bell.wait(seen, Duration::from_secs(3600));
        assert_eq!(bell.rings(), seen + 1);
    }

    #[test]
    fn a_ring_ends_the_wait() {
        let bell = Doorbell::default();
        let seen = bell.rings();
        let other = bell.clone();
        let ringer = std::thread::spawn(move || other.ring());
        bell.wait(seen, Duration::from_secs(3600));
        ringer.join().expect("thread");
    }
}
