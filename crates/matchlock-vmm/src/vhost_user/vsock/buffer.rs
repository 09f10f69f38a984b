//! The bytes of one descriptor chain, wherever the driver cut them.
//!
//! A device must not assume how the driver spreads header and payload over descriptors (virtio 1.2,
//! section 2.7.4.2); and what is in guest memory may change under our eyes, so the header is copied
//! out once and the payload only ever passed on, through volatile access.

use std::io;
use std::os::unix::net::UnixStream;

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions, ReadVolatile, VolatileMemoryError, VolatileSlice};

use super::wire::{HEADER_LEN, Header};
use crate::vhost_user::memory::Memory;

/// Slices of guest memory, one behind the other. Reused from chain to chain for its allocation.
#[derive(Debug, Default)]
pub(super) struct Buffer<'m> {
    slices: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Buffer<'m> {
    /// Takes the parts of the chain that the device may read, as far as `limit` bytes.
    pub(super) fn readable(
        &mut self,
        memory: &'m Memory,
        chain: DescriptorChain<&'m Memory>,
        limit: usize,
    ) {
        self.fill(memory, chain, limit, Permissions::Read);
    }

    /// Takes the parts of the chain that the device may write, as far as `limit` bytes.
    pub(super) fn writable(
        &mut self,
        memory: &'m Memory,
        chain: DescriptorChain<&'m Memory>,
        limit: usize,
    ) {
        self.fill(memory, chain, limit, Permissions::Write);
    }

    /// A descriptor that points outside of the memory ends the buffer: the packet is too short then.
    fn fill(
        &mut self,
        memory: &'m Memory,
        chain: DescriptorChain<&'m Memory>,
        limit: usize,
        access: Permissions,
    ) {
        self.slices.clear();
        self.len = 0;
        let write = access == Permissions::Write;
        for descriptor in chain.filter(|d| d.is_write_only() == write) {
            let wanted = (descriptor.len() as usize).min(limit - self.len);
            let Ok(slices) = memory.get_slices(descriptor.addr(), wanted, access) else {
                return;
            };
            for slice in slices {
                let Ok(slice) = slice else { return };
                self.len += slice.len();
                self.slices.push(slice);
            }
            if self.len == limit {
                return;
            }
        }
    }

    /// A buffer in one piece, for the fuzzer.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn over(memory: &'m Memory, start: usize, len: usize) -> Self {
        let addr = vm_memory::GuestAddress(start as u64);
        let slices = memory
            .get_slices(addr, len, Permissions::ReadWrite)
            .expect("in memory");
        Self {
            slices: slices.map(|slice| slice.expect("in memory")).collect(),
            len,
        }
    }

    /// Bytes in all slices.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the header off the front.
    pub(super) fn take_header(&mut self) -> Option<Header> {
        let mut bytes = [0; HEADER_LEN];
        let mut front = self.split_front(HEADER_LEN)?;
        let mut rest = &mut bytes[..];
        for slice in front.drain(..) {
            let (part, tail) = rest.split_at_mut(slice.len());
            slice.copy_to(part);
            rest = tail;
        }
        Some(Header::parse(&bytes))
    }

    /// Makes room for a header at the front and leaves the room for payload.
    pub(super) fn reserve_header(&mut self) -> Option<HeaderRoom<'m>> {
        self.split_front(HEADER_LEN).map(HeaderRoom)
    }

    /// The first `len` bytes; the slices behind stay.
    fn split_front(&mut self, len: usize) -> Option<Vec<VolatileSlice<'m>>> {
        let mut front = Vec::with_capacity(1);
        let mut missing = len;
        if self.len < len {
            return None;
        }
        while missing > 0 {
            let first = self.slices.first()?;
            if first.len() <= missing {
                missing -= first.len();
                front.push(self.slices.remove(0));
            } else {
                let (head, tail) = first.split_at(missing).ok()?;
                front.push(head);
                self.slices[0] = tail;
                missing = 0;
            }
        }
        self.len -= len;
        Some(front)
    }

    /// Cuts the buffer to `len` bytes; `false` when it is shorter.
    pub(super) fn truncate(&mut self, len: usize) -> bool {
        if self.len < len {
            return false;
        }
        while self.len > len {
            let Some(last) = self.slices.pop() else { break };
            let excess = self.len - len;
            if last.len() > excess
                && let Ok(kept) = last.subslice(0, last.len() - excess)
            {
                self.slices.push(kept);
                self.len = len;
            } else {
                self.len -= last.len();
            }
        }
        true
    }

    /// The slices, in order.
    pub(super) fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Reads from a socket straight into guest memory: at most `limit` bytes, 0 is the end.
    pub(super) fn read_from(&self, mut socket: &UnixStream, limit: usize) -> io::Result<usize> {
        let mut total = 0;
        for slice in &self.slices {
            let wanted = slice.len().min(limit - total);
            if wanted == 0 {
                break;
            }
            let mut part = slice.subslice(0, wanted).map_err(io::Error::other)?;
            match socket.read_volatile(&mut part).map_err(into_io) {
                Ok(n) => total += n,
                Err(_) if total > 0 => break,
                Err(error) => return Err(error),
            }
            if total < wanted {
                break;
            }
        }
        Ok(total)
    }
}

/// The front of a buffer, for a header that is known only when the payload is.
#[derive(Debug)]
pub(super) struct HeaderRoom<'m>(Vec<VolatileSlice<'m>>);

impl HeaderRoom<'_> {
    pub(super) fn write(&self, header: &Header) {
        let bytes = header.to_bytes();
        let mut rest = &bytes[..];
        for slice in &self.0 {
            let (part, tail) = rest.split_at(slice.len());
            slice.copy_from(part);
            rest = tail;
        }
    }
}

pub(super) fn into_io(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other),
    }
}
