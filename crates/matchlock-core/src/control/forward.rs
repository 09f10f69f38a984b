//! Ports of the host that lead to a sandbox of another process.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use matchlock_api::client::ClientError;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;

use crate::error::CoreError;
use crate::forward::{BUFFER, Binding, Carry, Listeners, Published};

/// Why a connection was not forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// It could not be accepted.
    #[error("cannot accept a connection")]
    Accept(#[source] io::Error),
    /// The sandbox is gone.
    #[error("cannot reach the sandbox")]
    Connect(#[source] io::Error),
    /// The sandbox could not connect to its port.
    #[error(transparent)]
    Dial(ClientError),
}

/// Ports that are forwarded. Dropping it closes them.
#[derive(Debug)]
pub struct Forwarded {
    _published: Published,
}

/// Forwards connections to the sandbox whose directory this is; `failed` is told of each that could not be
/// made.
///
/// # Errors
/// [`CoreError::Host`] when the runtime does not take the listeners.
pub fn forward(
    listeners: Listeners,
    directory: PathBuf,
    failed: impl Fn(&ForwardError) + Send + Sync + 'static,
) -> Result<Forwarded, CoreError> {
    let carrier = ThroughSocket { directory: directory.into(), failed: Arc::new(failed) };
    let published = Published::through(listeners, &carrier);
    let published = published.map_err(CoreError::host("serve the ports"))?;
    Ok(Forwarded { _published: published })
}

/// Asks the sandbox's supervisor, which records it.
#[derive(Clone)]
struct ThroughSocket {
    directory: Arc<Path>,
    failed: Arc<dyn Fn(&ForwardError) + Send + Sync>,
}

impl Carry for ThroughSocket {
    fn not_accepted(&self, error: io::Error) {
        (self.failed)(&ForwardError::Accept(error));
    }

    async fn carry(self, mut stream: TcpStream, _peer: SocketAddr, binding: Binding) {
        let connection = match super::connect(&self.directory).await {
            Ok(connection) => connection,
            Err(error) => return (self.failed)(&ForwardError::Connect(error)),
        };
        let mut guest = match connection.dial(binding.remote.get()).await {
            Ok(guest) => guest,
            Err(error) => return (self.failed)(&ForwardError::Dial(error)),
        };
        // Small writes of an interactive protocol must not wait for each other.
        let _ = stream.set_nodelay(true);
        // Either end may reset the connection: that is between them.
        let _ = copy_bidirectional_with_sizes(&mut stream, &mut guest, BUFFER, BUFFER).await;
    }
}
