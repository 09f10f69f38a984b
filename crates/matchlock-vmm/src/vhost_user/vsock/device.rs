//! The virtio-vsock device (virtio 1.2, section 5.10): its two queues, on the device's thread.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rustix::event::epoll::EventFlags;
use virtio_queue::DescriptorChain;

use super::Command;
use super::buffer::Buffer;
use super::doorbell::Doorbell;
use super::flow::BUF_ALLOC;
use super::table::Table;
use super::wire::HEADER_LEN;
use crate::vhost_user::event_loop::{Device, Next, Poller};
use crate::vhost_user::memory::Memory;
use crate::vhost_user::ring::Ring;

/// Chains of one queue that are worked on before anything else gets a turn.
const BUDGET: usize = 256;

/// Bytes given to the guest before it is told: it may work on them while we fetch the next.
const NOTIFY_EVERY: u32 = 64 * 1024;

/// Most of a chain that is looked at: no guest has credit for a longer packet.
const LONGEST: usize = HEADER_LEN + BUF_ALLOC as usize;

#[derive(Debug)]
pub(super) struct VsockCore {
    table: Table,
    commands: Receiver<Command>,
}

impl VsockCore {
    pub(super) fn new(guest_cid: u64, commands: Receiver<Command>, doorbell: Doorbell) -> Self {
        Self { table: Table::new(guest_cid, doorbell), commands }
    }

    /// Takes what the guest sends.
    fn take(&mut self, memory: &Memory, tx: &mut Ring, poller: &Poller) -> Next {
        let mut buffer = Buffer::default();
        tx.disarm(memory);
        for _ in 0..BUDGET {
            let Some(chain) = next(tx, memory) else {
                tx.notify(memory);
                return Next::Wait;
            };
            let head = chain.head_index();
            buffer.readable(memory, chain, LONGEST);
            if let Some(header) = buffer.take_header() {
                self.table.on_packet(&header, &mut buffer, poller);
            }
            tx.give_back(memory, head, 0);
        }
        tx.notify(memory);
        Next::Again
    }

    /// Gives the guest what there is for it.
    fn give(&mut self, memory: &Memory, rx: &mut Ring) -> Next {
        let mut buffer = Buffer::default();
        let mut untold = 0;
        rx.disarm(memory);
        for _ in 0..BUDGET {
            if !self.table.has_output() {
                rx.notify(memory);
                return Next::Wait;
            }
            let Some(chain) = next(rx, memory) else {
                rx.notify(memory);
                return Next::Wait;
            };
            let head = chain.head_index();
            buffer.writable(memory, chain, LONGEST);
            let Some(len) = self.table.emit(&mut buffer) else {
                rx.unpop();
                continue;
            };
            rx.give_back(memory, head, len);
            untold += len;
            if untold >= NOTIFY_EVERY {
                untold = 0;
                rx.notify(memory);
            }
        }
        rx.notify(memory);
        Next::Again
    }
}

/// The next chain, or none and a kick when there is one.
fn next<'m>(ring: &mut Ring, memory: &'m Memory) -> Option<DescriptorChain<&'m Memory>> {
    ring.pop(memory).or_else(|| if ring.arm(memory) { ring.pop(memory) } else { None })
}

impl Device for VsockCore {
    fn on_event(&mut self, id: u32, events: EventFlags, poller: &Poller) {
        self.table.on_event(id, events, poller);
    }

    fn run(&mut self, memory: Option<&Arc<Memory>>, rings: &mut [Ring], poller: &Poller) -> Next {
        while let Ok(Command { port, socket, answer }) = self.commands.try_recv() {
            self.table.dial(port, socket, answer, poller);
        }
        let (Some(memory), [rx, tx, ..]) = (memory, rings) else {
            return Next::Wait;
        };
        let took = self.take(memory, tx, poller);
        let gave = self.give(memory, rx);
        if took == Next::Again || gave == Next::Again { Next::Again } else { Next::Wait }
    }
}
