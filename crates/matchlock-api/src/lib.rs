//! The JSON-RPC methods of `matchlock rpc`: what is sent, what is answered, and how it is framed.
//!
//! The crate is sans-I/O and knows nothing of sandboxes: it has no runtime, no clock and no file.

#![forbid(unsafe_code)]

mod bytes;
mod error;
mod id;
pub mod line;

pub use bytes::{Base64, InvalidBase64};
pub use error::{ErrorCode, ErrorData, ErrorKind, RpcError};
pub use id::RequestId;
