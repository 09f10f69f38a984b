//! What a flow speaks, told by its first bytes.
//!
//! A guest must not get HTTP or TLS past us by writing it oddly. So nothing is taken for another
//! protocol because it looks like no request: what passes unread is [positively](Protocol) one of a
//! closed list, and has a server that confirms it, or has a server that speaks first. Nothing is
//! decided by a clock.

mod first;
mod protocol;
mod server;
#[cfg(test)]
mod tests;
mod watch;

pub use first::{Detected, LONGEST_LINE, Sniffer};
pub use protocol::{MAX_OPENING, Opening, Protocol};
pub use server::{Server, of_server};
pub use watch::{Cut, Watch};
