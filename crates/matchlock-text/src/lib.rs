//! Forms of text that several crates read or show: durations, points in time, patterns of paths,
//! chains of errors, foreign text on a terminal.
//!
//! Everything here is a function from text to a value or back, with a bound on what it costs. It
//! reads no file and no clock, and it knows nothing of sandboxes: that is why policy, the guest's
//! protocols and the command line can all use it.

#![forbid(unsafe_code)]

mod chain;
pub mod duration;
pub mod escape;
pub mod glob;
mod rfc3339;

pub use chain::{DescribeChain, causes};
pub use rfc3339::{parse_rfc3339, rfc3339};
