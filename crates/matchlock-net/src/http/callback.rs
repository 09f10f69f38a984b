//! Callbacks of hooks: one JSON line to a Unix socket, one back.

use std::io;
use std::path::Path;
use std::time::Duration;

use matchlock_intercept::hooks::{CallbackError, CallbackReply, CallbackRequest, MAX_REPLY};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// Why a callback gave no answer that can be followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens.
    #[error("no callback socket is set")]
    NoSocket,
    /// Connecting, writing or reading failed.
    #[error("the callback socket failed")]
    Io(#[from] io::Error),
    /// The rule's time is over.
    #[error("the callback took longer than its rule allows")]
    Timeout,
    /// The answer.
    #[error("the callback's answer cannot be followed")]
    Reply(#[from] CallbackError),
}

/// Asks, and reads the answer. `timeout` bounds all of it.
pub(super) async fn call(
    socket: Option<&Path>,
    request: &CallbackRequest<'_>,
    timeout: Option<Duration>,
) -> Result<CallbackReply, CallError> {
    let socket = socket.ok_or(CallError::NoSocket)?;
    let line = request.to_line();
    let work = round_trip(socket, &line);
    let reply = match timeout {
        Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| CallError::Timeout)?,
        None => work.await,
    }?;
    Ok(CallbackReply::parse(&reply)?)
}

/// An answer ends with its line or with the connection.
async fn round_trip(socket: &Path, line: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(line).await?;
    let mut reply = Zeroizing::new(Vec::new());
    let limit = MAX_REPLY as u64 + 1;
    BufReader::new(stream).take(limit).read_until(b'\n', &mut reply).await?;
    Ok(reply)
}
