//! Callbacks of hooks: one JSON line to a Unix socket, one back.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest reply: `set_body_base64` may carry a whole body.
const REPLY_LIMIT: u64 = 32 << 20;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallbackError {
    /// No socket is configured.
    #[error("no callback socket is set")]
    NoSocket,
    /// Connecting, writing or reading failed.
    #[error("the callback socket failed")]
    Io(#[from] io::Error),
    /// The rule's time is over.
    #[error("the callback took longer than its rule allows")]
    Timeout,
    /// Not one line, or not what a reply is.
    #[error("the callback's reply is not valid")]
    Invalid(#[source] Option<serde_json::Error>),
    /// The callback says so.
    #[error("the callback failed: {0}")]
    Failed(String),
}

/// Sends a request and reads the reply. `timeout` bounds all of it.
pub(super) async fn call<Q: serde::Serialize, R: serde::de::DeserializeOwned>(
    socket: Option<&Path>,
    request: &Q,
    timeout: Option<Duration>,
) -> Result<R, CallbackError> {
    let socket = socket.ok_or(CallbackError::NoSocket)?;
    let mut line = serde_json::to_vec(request).map_err(|e| CallbackError::Invalid(Some(e)))?;
    line.push(b'\n');
    let work = round_trip(socket, &line);
    let reply = match timeout {
        Some(limit) => {
            tokio::time::timeout(limit, work).await.map_err(|_| CallbackError::Timeout)?
        }
        None => work.await,
    }?;
    serde_json::from_slice(&reply).map_err(|e| CallbackError::Invalid(Some(e)))
}

async fn round_trip(socket: &Path, line: &[u8]) -> Result<Vec<u8>, CallbackError> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(line).await?;
    let mut reply = Vec::new();
    BufReader::new(stream).take(REPLY_LIMIT).read_until(b'\n', &mut reply).await?;
    if reply.is_empty() || reply.len() as u64 == REPLY_LIMIT {
        return Err(CallbackError::Invalid(None));
    }
    Ok(reply)
}
