//! Frames on a byte stream, and credit for the streams within it.
//!
//! Two protocols are made of these: that of the host and the guest's agent (`matchlock-proto`), and that
//! of a sandbox's control socket (`matchlock-api`). A frame is one type byte, the length of its payload in
//! four bytes, big-endian, and the payload. Each protocol has its types, and a bound for each.
//!
//! The crate is sans-I/O but for `io` (a feature), which has what both ends of a connection share on the host.

#![forbid(unsafe_code)]

mod credit;
mod frame;
#[cfg(feature = "io")]
pub mod io;

use serde::{Deserialize, Serialize};

pub use credit::{Flood, Window};
pub use frame::{Decoder, WireError, WireMessage, put};

/// Largest payload of a data frame in bytes.
pub const MAX_DATA: usize = 64 * 1024;

/// Bytes of each stream that may be in flight before the receiver grants more with a credit frame.
pub const INITIAL_WINDOW: u32 = 512 * 1024;

/// One of the three streams of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamId {
    /// To the program.
    Stdin,
    /// From the program.
    Stdout,
    /// From the program.
    Stderr,
}
