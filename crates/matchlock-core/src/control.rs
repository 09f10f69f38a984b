//! The control socket: how others enter a sandbox that runs.
//!
//! It is in the sandbox's directory, mode 0600 in one of 0700, and who connects must be the same user.
//! [`matchlock_api::control`] has the protocol. The supervisor serves it from when the sandbox is up until
//! it ends; the directory takes the socket's name with it.

mod call;
mod copy;
mod forward;
mod program;
mod secrets;

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as Unserved;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use matchlock_api::control::SOCKET;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::handle::Up;

pub use self::copy::{Copied, CopyError, copy_in, copy_out, finish_copy};
pub use self::forward::{ForwardError, Forwarded, forward};
pub use matchlock_api::SecretValue;
pub use matchlock_api::client::{ClientError, Connection, Program, Streams};
pub use matchlock_api::control::{
    Arg, PackParams, Process, RunParams, SecretInfo, SecretNameParams, SecretSetParams,
    StatsResult, TtySize, UnpackParams,
};
pub use matchlock_api::control_method;
pub use matchlock_tar::tree::{Limits, own_name};

/// Calls at one time; more wait in the backlog.
const MAX_CONNECTIONS: usize = 512;

/// Pause after an `accept` that failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, and nobody answers yet.
#[derive(Debug)]
pub(crate) struct ControlSocket(Unserved);

/// A socket that is served. Dropping it cancels what it serves.
#[derive(Debug)]
pub(crate) struct Served(JoinHandle<()>);

impl ControlSocket {
    /// Makes the socket in the directory of its sandbox.
    pub(crate) fn bind(directory: &Path) -> io::Result<Self> {
        let directory = File::open(directory)?;
        let address = address(&directory);
        // An earlier life of this sandbox, which was killed, may have left it.
        match std::fs::remove_file(&address) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = Unserved::bind(&address)?;
        // Nobody else can enter the directory: between the two calls there is nothing to reach.
        std::fs::set_permissions(&address, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Answers calls.
    pub(crate) fn serve(self, up: &Arc<Up>) -> io::Result<Served> {
        let listener = UnixListener::from_std(self.0)?;
        Ok(Served(tokio::spawn(accept(listener, Arc::clone(up)))))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // The connections go with it: their tasks are in its set.
        self.0.abort();
    }
}

/// Connects to the sandbox whose directory this is.
///
/// # Errors
/// When nobody listens there.
pub async fn connect(directory: &Path) -> io::Result<Connection> {
    let directory = File::open(directory)?;
    Ok(Connection::over(UnixStream::connect(address(&directory)).await?))
}

/// The socket in an open directory. An address of a socket holds 107 bytes (unix(7)), and the path of a
/// directory may be longer.
fn address(directory: &File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into()
}

async fn accept(listener: UnixListener, up: Arc<Up>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let own = rustix::process::geteuid().as_raw();
    let mut calls = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = calls.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
            continue;
        }
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        calls.spawn(serve(stream, Arc::clone(&up), permit));
    }
}

async fn serve(stream: UnixStream, up: Arc<Up>, _room: OwnedSemaphorePermit) {
    // Who called has gone, or broke the protocol: nobody is left to be told.
    let _ = call::answer(stream, &up).await;
}
