//! Copies between our standard streams and those of the guest's program.

use std::io;

use matchlock_core::{InputSender, Output, WindowSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::printer::{Standard, note_output};
use crate::terminal::Terminal;

/// Copies a stream of the program to one of ours, to its end. `first` runs when bytes come at all.
pub(super) async fn output<S: AsyncWrite + Standard + Unpin>(
    mut from: Output,
    mut to: S,
    first: impl FnOnce(),
) -> io::Result<()> {
    let mut first = Some(first);
    while let Some(chunk) = from.next().await {
        if let Some(first) = first.take() {
            first();
        }
        note_output::<S>(None);
        to.write_all(&chunk).await?;
        // The user wants to see it now, not when a buffer is full.
        to.flush().await?;
        note_output::<S>(chunk.last().copied());
    }
    Ok(())
}

/// Copies our standard input to the program, to its end or until the program ends.
pub(super) async fn input<M>(from: impl AsyncRead + Unpin, to: InputSender<M>) {
    input_counted(from, to, |_| {}).await;
}

/// The same; `count` is told of the bytes that were sent.
pub(super) async fn input_counted<M>(
    mut from: impl AsyncRead + Unpin,
    to: InputSender<M>,
    count: impl Fn(usize),
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer).await {
            // An unreadable input is an ended one, as for a shell's pipe.
            Ok(0) | Err(_) => return,
            Ok(n) => {
                if to.send(buffer.get(..n).unwrap_or_default()).await.is_err() {
                    return;
                }
                count(n);
            }
        }
    }
}

/// Calls `resized` whenever the terminal has another size.
pub(super) async fn sizes(terminal: &Terminal, resized: impl Fn(WindowSize)) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    // It may have changed between the request and this handler.
    resized(terminal.size());
    while changes.recv().await.is_some() {
        resized(terminal.size());
    }
}

/// A task that ends with this value.
pub(super) struct Abandoned(pub(super) Option<JoinHandle<()>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
