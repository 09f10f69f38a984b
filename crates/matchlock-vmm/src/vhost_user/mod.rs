//! vhost-user devices that end in this process.
//!
//! The monitor runs the guest and hands each device's queues to us over one connected socket
//! (vhost-user); packets and FUSE messages never pass through the monitor. Three layers, none of
//! which knows the one above:
//!
//! - `session` speaks vhost-user with the monitor: guest memory and where the rings are;
//! - `event_loop` is the one thread of a device: it waits for kicks, for the monitor and for what
//!   the device itself registers, and owns all state, so that there is nothing to lock;
//! - a `Device` ([`vsock`], [`fs`]) moves bytes between the rings and its host side.
//!
//! Who is trusted: neither the guest (ring contents) nor the monitor (vhost-user messages). A device
//! may stop working by what they send, but not read or write outside the guest's memory, not grow
//! without bound and not take this process down.

mod event_loop;
pub mod fs;
mod memory;
mod ring;
mod session;
#[cfg(test)]
mod testing;
pub mod vsock;
