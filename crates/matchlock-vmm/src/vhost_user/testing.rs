//! The driver's side of a virtqueue, honest or not, in memory of this process.

use std::fs::File;
use std::sync::atomic::Ordering;

use rustix::event::{EventfdFlags, eventfd};
use vm_memory::{Bytes, GuestAddress};

use super::memory::Memory;
use super::ring::Ring;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Guest memory for a test: 8 MiB.
pub(crate) fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), 8 << 20)]).unwrap()
}

/// One descriptor (virtio 1.2, section 2.7.5).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.addr.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A driver that never reuses a descriptor before it was given back.
#[derive(Debug)]
pub(crate) struct Driver {
    base: u64,
    size: u16,
    free: Vec<u16>,
    available: u16,
    used: u16,
}

impl Driver {
    /// A queue at `base` (it needs 64 KiB) and the device's view of it, started and enabled.
    pub(crate) fn new(memory: &Memory, base: u64, size: u16) -> (Self, Ring) {
        let driver = Self {
            base,
            size,
            free: (0..size).rev().collect(),
            available: 0,
            used: 0,
        };
        let mut ring = Ring::new(1024).unwrap();
        ring.set_size(u32::from(size)).unwrap();
        let at = GuestAddress;
        ring.set_addresses(memory, at(base), at(driver.avail()), at(driver.used_ring()))
            .unwrap();
        ring.start(File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap()));
        ring.set_enabled(true);
        (driver, ring)
    }

    fn avail(&self) -> u64 {
        self.base + 0x8000
    }

    fn used_ring(&self) -> u64 {
        self.base + 0xc000
    }

    /// Writes a descriptor as it is.
    pub(crate) fn store(&self, memory: &Memory, index: u16, descriptor: Descriptor) {
        let addr = GuestAddress(self.base + 16 * u64::from(index));
        memory.write_slice(&descriptor.bytes(), addr).unwrap();
    }

    /// Makes a chain of parts (address, length, `WRITE` or 0) available; `None` when there are not
    /// enough descriptors.
    pub(crate) fn add(&mut self, memory: &Memory, parts: &[(u64, u32, u16)]) -> Option<u16> {
        if self.free.len() < parts.len() {
            return None;
        }
        let chain: Vec<u16> = parts.iter().filter_map(|_| self.free.pop()).collect();
        for (i, &(addr, len, flags)) in parts.iter().enumerate() {
            let next = chain.get(i + 1).copied();
            let flags = if next.is_some() { flags | NEXT } else { flags };
            let next = next.unwrap_or(0);
            self.store(
                memory,
                chain[i],
                Descriptor {
                    addr,
                    len,
                    flags,
                    next,
                },
            );
        }
        self.publish(memory, chain[0]);
        Some(chain[0])
    }

    /// Makes whatever starts at `head` available.
    pub(crate) fn publish(&mut self, memory: &Memory, head: u16) {
        let slot = self.avail() + 4 + 2 * u64::from(self.available % self.size);
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        self.set_available(memory, self.available);
    }

    /// Claims any number of available chains.
    pub(crate) fn set_available(&self, memory: &Memory, index: u16) {
        memory
            .store(index, GuestAddress(self.avail() + 2), Ordering::Release)
            .unwrap();
    }

    /// The next chain that the device gave back, and how much it wrote. Its descriptors, `parts`
    /// of them, are free again.
    pub(crate) fn take(&mut self, memory: &Memory, parts: usize) -> Option<(u16, u32)> {
        let index: u16 = memory
            .load(GuestAddress(self.used_ring() + 2), Ordering::Acquire)
            .unwrap();
        if index == self.used {
            return None;
        }
        let slot = self.used_ring() + 4 + 8 * u64::from(self.used % self.size);
        self.used = self.used.wrapping_add(1);
        let head: u32 = memory.read_obj(GuestAddress(slot)).unwrap();
        let len: u32 = memory.read_obj(GuestAddress(slot + 4)).unwrap();
        let head = u16::try_from(head).unwrap();
        let mut index = head;
        for _ in 0..parts {
            self.free.push(index);
            let next = GuestAddress(self.base + 16 * u64::from(index) + 14);
            index = memory.read_obj(next).unwrap();
        }
        Some((head, len))
    }
}
