//! The first bytes of a flow.

pub use matchlock_net::fuzzing::speech;
