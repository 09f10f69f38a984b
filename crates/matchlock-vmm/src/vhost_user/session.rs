//! Our half of the vhost-user protocol: what the monitor tells a device about memory and rings.
//!
//! `vhost::vhost_user::BackendReqHandler` reads and checks the messages and calls the methods here.
//! The crate `vhost-user-backend` would bring this part too, but it insists on accepting from a named
//! listener, whereas an already connected socket pair leaves no name in the file system, and it runs
//! threads that share the rings under locks, whereas here one thread owns everything.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::io::ioctl_fionbio;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};

use super::event_loop::{Poller, Token};
use super::memory::{GuestRam, Memory};
use super::ring::Ring;

/// What a device is, as the monitor may ask for it.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Number of queues.
    pub(crate) queues: usize,
    /// Largest size of a queue; a power of two.
    pub(crate) queue_size: u16,
    /// Configuration space, when the device and not the monitor defines it.
    pub(crate) config: Option<Vec<u8>>,
}

/// The state of one vhost-user connection.
#[derive(Debug)]
pub(crate) struct Session {
    identity: Identity,
    poller: Arc<Poller>,
    rings: Vec<Ring>,
    ram: Option<GuestRam>,
}

impl Session {
    pub(crate) fn new(identity: Identity, poller: Arc<Poller>) -> io::Result<Self> {
        let rings = (0..identity.queues).map(|_| Ring::new(identity.queue_size));
        let rings = rings.collect::<io::Result<_>>()?;
        Ok(Self { identity, poller, rings, ram: None })
    }

    /// The rings, and the memory they are in as soon as the monitor has told.
    pub(crate) fn parts(&mut self) -> (Option<Arc<Memory>>, &mut [Ring]) {
        (self.ram.as_ref().map(GuestRam::memory), &mut self.rings)
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        self.rings.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    /// The monitor keeps the other end of a kick descriptor open, so closing ours does not take it
    /// out of the poller.
    fn forget_kick(&mut self, index: u32) -> Result<()> {
        let ring = self.rings.get(index as usize).ok_or(Error::InvalidParam)?;
        if let Some(kick) = ring.kick() {
            self.poller.remove(kick).map_err(Error::ReqHandlerError)?;
        }
        Ok(())
    }
}

/// An event descriptor that cannot block our thread, whatever the monitor sent.
fn nonblocking(fd: Option<File>) -> Result<Option<File>> {
    if let Some(fd) = &fd {
        ioctl_fionbio(fd, true).map_err(|e| Error::ReqHandlerError(e.into()))?;
    }
    Ok(fd)
}

fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        for ring in &mut self.rings {
            ring.revoke();
            ring.set_enabled(false);
        }
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.features())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.features() != 0 {
            return Err(Error::InvalidParam);
        }
        let event_idx = features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0;
        // Without this feature there is no SET_VRING_ENABLE: rings start enabled.
        let always_enabled = features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0;
        for ring in &mut self.rings {
            ring.set_event_idx(event_idx);
            if always_enabled {
                ring.set_enabled(true);
            }
        }
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        let mut features = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        if self.identity.config.is_some() {
            features |= VhostUserProtocolFeatures::CONFIG;
        }
        Ok(features)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.identity.queues as u64)
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let config = self.identity.config.as_deref().unwrap_or_default();
        let start = offset as usize;
        let end = start.checked_add(size as usize).ok_or(Error::InvalidParam)?;
        config.get(start..end).map(<[u8]>::to_vec).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        unsupported()
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.ram = Some(GuestRam::map(regions, files).map_err(Error::ReqHandlerError)?);
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.ring(index)?.set_size(num).map_err(Error::ReqHandlerError)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let ram = self.ram.as_ref().ok_or(Error::InvalidParam)?;
        let address = |monitor| ram.guest_address(monitor).ok_or(Error::InvalidParam);
        let (descriptor, available, used) =
            (address(descriptor)?, address(available)?, address(used)?);
        let memory = ram.memory();
        let ring = self.ring(index)?;
        ring.set_addresses(&memory, descriptor, available, used).map_err(Error::ReqHandlerError)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.ring(index)?.set_base(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.forget_kick(index)?;
        let base = self.ring(index)?.stop();
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        // A ring without a kick descriptor would have to be polled: nobody asks for that.
        let fd = nonblocking(fd)?.ok_or(Error::InvalidParam)?;
        self.forget_kick(u32::from(index))?;
        self.poller.add(&fd, Token::Kick(index)).map_err(Error::ReqHandlerError)?;
        self.ring(u32::from(index))?.start(fd);
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let fd = nonblocking(fd)?;
        self.ring(u32::from(index))?.set_call(fd);
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _fd: Option<File>) -> Result<()> {
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.ring(index)?.set_enabled(enable);
        Ok(())
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unsupported()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        unsupported()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        unsupported()
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        unsupported()
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        unsupported()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        unsupported()
    }
}

#[cfg(test)]
mod tests;
