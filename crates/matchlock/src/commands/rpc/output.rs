//! The one writer of standard output: whole lines, in order, and no more of them than fit.

use std::io;
use std::sync::Arc;

use matchlock_core::api::Notification;
use matchlock_core::service::Sink;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of output and of results that wait for the client, in units of [`UNIT`].
const ORDERLY: usize = (32 << 20) / UNIT;

/// The same of answers that nothing waits for: who asks for more and does not read is not read any more.
const AT_ONCE: usize = (8 << 20) / UNIT;

const UNIT: usize = 1024;

/// A line, with its share of the memory.
type Message = (Vec<u8>, OwnedSemaphorePermit);

/// One way to the writer.
#[derive(Debug, Clone)]
struct Lane {
    messages: UnboundedSender<Message>,
    room: Arc<Semaphore>,
    most: usize,
}

/// Where a session puts its messages.
#[derive(Debug)]
pub(super) struct Outlet {
    orderly: Lane,
    at_once: Lane,
}

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queue {
    orderly: UnboundedReceiver<Message>,
    at_once: UnboundedReceiver<Message>,
}

impl Lane {
    fn new(most: usize) -> (Self, UnboundedReceiver<Message>) {
        let (messages, receiver) = unbounded_channel();
        (Self { messages, room: Arc::new(Semaphore::new(most)), most }, receiver)
    }

    async fn put(&self, line: Vec<u8>) {
        // What is longer than all the room there is has it for itself.
        let units = line.len().div_ceil(UNIT).min(self.most);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Neither is closed before the writer is gone, and then there is nobody to tell.
        if let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(units).await {
            let _ = self.messages.send((line, permit));
        }
    }
}

impl Outlet {
    pub(super) fn new() -> (Self, Queue) {
        let (orderly, orderly_queue) = Lane::new(ORDERLY);
        let (at_once, at_once_queue) = Lane::new(AT_ONCE);
        (Self { orderly, at_once }, Queue { orderly: orderly_queue, at_once: at_once_queue })
    }
}

impl Sink for Outlet {
    async fn notify(&self, notification: Notification) {
        self.orderly.put(notification.to_line()).await;
    }

    async fn answer(&self, message: Vec<u8>) {
        self.orderly.put(message).await;
    }

    async fn answer_at_once(&self, message: Vec<u8>) {
        self.at_once.put(message).await;
    }
}

impl Queue {
    /// Writes until there is no outlet any more, or nobody reads.
    pub(super) async fn write(mut self, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let message = tokio::select! {
                biased;
                Some(message) = self.at_once.recv() => message,
                Some(message) = self.orderly.recv() => message,
                else => return to.flush().await,
            };
            let (line, _permit) = message;
            to.write_all(&line).await?;
            if self.at_once.is_empty() && self.orderly.is_empty() {
                to.flush().await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn line(byte: u8, length: usize) -> Vec<u8> {
        let mut line = vec![byte; length];
        line.push(b'\n');
        line
    }

    #[tokio::test]
    async fn lines_are_whole_and_those_that_wait_for_nobody_come_first() {
        let (outlet, queue) = Outlet::new();
        outlet.answer(line(b'a', 3)).await;
        outlet.answer(line(b'b', 3)).await;
        outlet.answer_at_once(line(b'c', 3)).await;
        drop(outlet);
        let mut written = Vec::new();
        queue.write(&mut written).await.expect("written");
        assert_eq!(written, b"ccc\naaa\nbbb\n");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_up_output_and_no_more() {
        let (outlet, queue) = Outlet::new();
        let full = ORDERLY * UNIT - 1;
        outlet.answer(line(b'a', full)).await;
        {
            let blocked = outlet.answer(line(b'b', 1));
            tokio::pin!(blocked);
            tokio::select! {
                biased;
                () = &mut blocked => panic!("there is no room"),
                () = outlet.answer_at_once(line(b'c', 1)) => {}
            }
        }
        // One that is longer than everything is written all the same.
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let writing = tokio::spawn(queue.write(server));
        let asking = async move { outlet.answer(line(b'd', full + 10 * UNIT)).await };
        let mut read = Vec::new();
        let (read_all, ()) = tokio::join!(client.read_to_end(&mut read), asking);
        read_all.expect("read");
        assert!(read.starts_with(b"c\n") && read.ends_with(b"d\n"));
        assert_eq!(read.len(), 2 + full + 1 + full + 10 * UNIT + 1);
        writing.await.expect("no panic").expect("written");
    }
}
