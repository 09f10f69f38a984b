//! HTTP/1.1 messages (RFC 9112).
//!
//! One strict parser for both directions: what two implementations could read in two ways is refused,
//! and what is forwarded is written anew from what was understood.

mod authority;
mod head;
mod target;

pub use authority::{Authority, AuthorityError};
pub use head::{InvalidHead, Method, Reason, RequestHead, ResponseHead, Status, Version};
pub use target::{InvalidTarget, PathAndQuery, Scheme, Target};
