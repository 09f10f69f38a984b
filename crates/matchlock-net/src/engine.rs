//! Flow to decision to relay: where the parts of the network meet.

pub(crate) mod shared;

pub(crate) use shared::Shared;
