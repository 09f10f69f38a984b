//! The guest's clock, which stands still while the host sleeps.
//!
//! A guest counts time by a counter that stops with the host, and has no other clock to look at. So it is
//! told the time again and again: the host's own timers stop in its sleep too, and go on where they were,
//! so that a guest is right within [`PAUSE`] after the host has woken.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use matchlock_proto::{ANSWER, Realtime, Request};
use matchlock_vmm::Vm;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::guest::{Line, ask};

/// Between two messages. Each costs an idle guest a wake-up.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps a guest's clock until it is dropped.
#[derive(Debug)]
pub(crate) struct Clock(JoinHandle<()>);

impl Clock {
    /// Of the guest of this machine, whose agent has been told the time just now.
    pub(crate) fn keep(vm: &Arc<dyn Vm>) -> Self {
        let line = Line::to(vm);
        Self(tokio::spawn(async move {
            loop {
                sleep(PAUSE).await;
                tell(&line).await;
            }
        }))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The time of this host.
pub(crate) fn now() -> Realtime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Realtime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() }
}

/// A guest that does not answer now is told the next time.
async fn tell(line: &Line) {
    let told = async {
        let stream = line.dial(Instant::now() + ANSWER).await.ok()?;
        // Only now: a connection may have waited.
        ask(stream, Request::Clock(now())).await.ok()
    };
    let _ = tokio::time::timeout(ANSWER, told).await;
}
