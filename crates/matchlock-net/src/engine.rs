//! Flow to decision to relay: where the parts of the network meet.

mod apology;
mod flow;
pub(crate) mod relay;
pub(crate) mod shared;
mod sniff;
pub(crate) mod stream;
mod target;

pub(crate) use shared::Shared;
