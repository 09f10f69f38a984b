//! Streams for a thread that may wait.

use std::io::{self, BufRead, Read, Write};

use tokio::runtime::Handle;

use super::{Receiver, Sender};

/// [`Receiver::blocking`].
#[derive(Debug)]
pub struct BlockingReceiver {
    stream: Receiver,
    runtime: Handle,
    chunk: Vec<u8>,
    at: usize,
}

impl BlockingReceiver {
    pub(super) fn new(stream: Receiver) -> Self {
        Self { stream, runtime: Handle::current(), chunk: Vec::new(), at: 0 }
    }
}

impl BufRead for BlockingReceiver {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.chunk.len() {
            self.at = 0;
            // Chunks are never empty.
            self.chunk = self.runtime.block_on(self.stream.next()).unwrap_or_default();
        }
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at = self.at.saturating_add(amount);
    }
}

impl Read for BlockingReceiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

/// [`Sender::blocking`].
#[derive(Debug)]
pub struct BlockingSender<M> {
    stream: Sender<M>,
    runtime: Handle,
}

impl<M> BlockingSender<M> {
    pub(super) fn new(stream: Sender<M>) -> Self {
        Self { stream, runtime: Handle::current() }
    }
}

impl<M> Write for BlockingSender<M> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.stream.send(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Credits, receiving, sending};
    use super::*;
    use crate::{INITIAL_WINDOW, StreamId};

    #[test]
    fn a_thread_reads_and_writes_more_than_a_window() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (frames, mut outgoing) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
            let credits = Arc::new(Credits::default());
            let (sink, receiver) = receiving(StreamId::Stdout, &credits);
            let (sender, granted) = sending(frames, |bytes| bytes, None);
            let (mut to, mut from) = (sender.blocking(), receiver.blocking());
            let all: Vec<u8> = (0..3 * INITIAL_WINDOW + 5).map(|n| n as u8).collect();
            let sent = all.clone();
            let writing = tokio::task::spawn_blocking(move || to.write_all(&sent));
            let reading = tokio::task::spawn_blocking(move || {
                let mut read = Vec::new();
                from.read_to_end(&mut read).map(|_| read)
            });
            let carrying = async move {
                loop {
                    tokio::select! {
                        frame = outgoing.recv() => match frame {
                            Some(bytes) => sink.accept(bytes).expect("within the window"),
                            None => return,
                        },
                        (_, bytes) = credits.next() => granted.add(bytes),
                    }
                }
            };
            let ((), written, read) = tokio::join!(carrying, writing, reading);
            written.expect("a thread").expect("written");
            assert!(read.expect("a thread").expect("read") == all);
        });
    }
}
