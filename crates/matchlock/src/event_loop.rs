//! The event loop of a command: one thread, and the ones that block beside it.

use std::time::Duration;

use crate::error::CliError;

/// Runs `command` to its end.
pub(crate) fn block_on<T>(
    command: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::of_io("cannot start the event loop", &error))?;
    let result = runtime.block_on(command);
    // A thread may still be blocked, in a read of standard input say: it must not hold up our end.
    runtime.shutdown_background();
    result
}

/// Does `work` on a thread that may block.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.map_err(|error| CliError::internal("a part of matchlock has failed", &error))?
}

/// Waits until `limit` is over, and returns it; without a limit it never ends.
pub(crate) async fn expiry(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}
