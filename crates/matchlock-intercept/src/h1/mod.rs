//! HTTP/1.1 messages (RFC 9112), without I/O.
//!
//! One strict parser for both directions: what two implementations could read in two ways is refused,
//! and what is forwarded is written anew from what was understood. Decoders take bytes off a buffer and
//! give events; how the bytes arrive makes no difference but to where `Data` is cut. They keep a
//! head or a line at most, so that a body of any size passes in constant memory.

mod authority;
mod body;
mod chunked;
mod encode;
mod error;
mod forward;
mod framing;
mod head;
mod lines;
mod request;
mod response;
mod target;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError};
pub use encode::{EncodeError, RequestEncoder, ResponseEncoder};
pub use error::H1Error;
pub use forward::{asks_for_upgrade, forwardable, persists};
pub use framing::Framing;
pub use head::{InvalidHead, Method, Reason, RequestHead, ResponseHead, Status, Version};
pub use request::{RequestDecoder, RequestEvent};
pub use response::{ResponseDecoder, ResponseEvent};
pub use target::{InvalidTarget, PathAndQuery, Scheme, Target};

/// The most bytes of a start line and its fields, and again of trailers.
pub const MAX_HEAD: usize = 64 * 1024;
/// The most field lines of a head, and again of trailers.
pub const MAX_FIELDS: usize = 256;
