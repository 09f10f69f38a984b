//! virtio-vsock (virtio 1.2, section 5.10) where only the host dials.

pub mod flow;
pub mod wire;
