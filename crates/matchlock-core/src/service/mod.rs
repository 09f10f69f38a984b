//! The methods of JSON-RPC (docs/rpc.md), written once, for fronts that know how to carry them.
//!
//! ```text
//!   front: bytes ⇄ messages ─► Session: ids, order, cancel ─► Service: one sandbox ─► SandboxHandle
//!                                  ▲                             │ Surroundings: images, hosts' settings
//!                                  └──── Sink: answers, output ◄─┘
//! ```
//! A [`Service`] holds at most one sandbox. A [`Session`] is one client of it: it decides what runs at the
//! same time and what is cancelled. What carries the messages is a [`Sink`] of the front's.

mod bounds;
mod create;
mod exec;
pub(crate) mod fault;
mod files;
mod input;
mod log;
pub(crate) mod network;
mod output;
mod plan;
mod session;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use matchlock_api::{ErrorCode, ErrorKind, RpcError};
use matchlock_image::store::RootImage;
use matchlock_net::ProxySettings;
use matchlock_policy::DefaultEgress;
use tokio::sync::watch;
use tokio::time::timeout;

use self::fault::Fault;
use crate::classified::Hint;
use crate::handle::SandboxHandle;
use crate::launcher::Launcher;
use crate::log::Log;
use crate::volume::Volumes;

pub use self::bounds::Bounds;
pub use self::session::{Session, Sink};

/// What a future of [`Surroundings`] is.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, RpcError>> + Send + 'a>>;

/// What a service needs of the machine around it, and cannot know.
pub trait Surroundings: fmt::Debug + Send + Sync + 'static {
    /// Makes ready what starts sandboxes, with the kernel of this reference or else the usual one.
    fn launcher<'a>(&'a self, kernel: Option<&'a str>) -> Pending<'a, Launcher>;

    /// Finds or fetches an image; `None`: this machine's own system.
    fn root<'a>(&'a self, image: &'a str) -> Pending<'a, Option<Box<RootImage>>>;

    /// The proxies between this machine and the network, and what an empty list of hosts means.
    ///
    /// # Errors
    /// What is wrong with the settings.
    fn network(&self) -> Result<(ProxySettings, DefaultEgress), RpcError>;

    /// Disks that outlive sandboxes.
    ///
    /// # Errors
    /// What is wrong with the settings.
    fn volumes(&self) -> Result<Volumes, RpcError>;

    /// A hint in the words of the front.
    fn words(&self, hint: Hint) -> String;
}

/// The methods over one sandbox. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    surroundings: Box<dyn Surroundings>,
    bounds: Bounds,
    slot: watch::Sender<Slot>,
}

/// The place for the one sandbox.
#[derive(Debug)]
enum Slot {
    Empty,
    Creating,
    Up(Arc<Up>),
    /// Nothing is left of it but its log.
    Closed(Option<Arc<Log>>),
}

/// A sandbox that was created.
#[derive(Debug)]
struct Up {
    sandbox: SandboxHandle,
    /// What `image_config` of the call says of commands.
    user: Option<String>,
    working_dir: Option<String>,
    /// The guest can write to disks of the user's.
    writes_disks: bool,
}

impl Service {
    /// A service without a sandbox.
    #[must_use]
    pub fn new(surroundings: impl Surroundings, bounds: Bounds) -> Self {
        let (surroundings, slot) = (Box::new(surroundings), watch::Sender::new(Slot::Empty));
        Self { shared: Arc::new(Shared { surroundings, bounds, slot }) }
    }

    /// How many requests of a client may run at one time.
    fn max_requests(&self) -> u16 {
        self.shared.bounds.requests
    }

    /// The sandbox, if there is one.
    fn up(&self) -> Result<Arc<Up>, RpcError> {
        match &*self.shared.slot.borrow() {
            Slot::Up(up) => Ok(Arc::clone(up)),
            _ => Err(not_created()),
        }
    }

    /// Turns errors into answers.
    fn fault(&self, code: ErrorCode) -> Fault<'_> {
        Fault::new(code, &*self.shared.surroundings)
    }

    /// Ends the sandbox, within `patience` if its disks can be written out in that time. A creation that
    /// still runs is waited for: who asked for it cancels it first. From then on there is no sandbox.
    pub async fn close(&self, patience: Duration) {
        let mut watched = self.shared.slot.subscribe();
        // The sender is ours, so it is not closed.
        let _ = watched.wait_for(|slot| !matches!(slot, Slot::Creating)).await;
        let mut up = None;
        self.shared.slot.send_if_modified(|slot| match slot {
            Slot::Empty => {
                *slot = Slot::Closed(None);
                true
            }
            Slot::Up(there) => {
                up = Some(Arc::clone(there));
                *slot = Slot::Closed(there.sandbox.log());
                true
            }
            Slot::Creating | Slot::Closed(_) => false,
        });
        let Some(up) = up else { return };
        if up.writes_disks {
            // What is left of the time is for the machine's end.
            let _ = timeout(patience.mul_f64(0.6), up.sandbox.stop(Duration::ZERO)).await;
        }
        up.sandbox.end().await;
    }
}

fn not_created() -> RpcError {
    RpcError::new(ErrorCode::Sandbox, ErrorKind::Unavailable, "VM not created")
}

fn cancelled() -> RpcError {
    RpcError::new(ErrorCode::Cancelled, ErrorKind::Cancelled, "the request was cancelled")
}
