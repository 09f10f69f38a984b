//! The JSON-RPC methods of `matchlock rpc`: what is sent, what is answered, and how it is framed.
//!
//! One table ([`Call`], [`Input`], [`Notification`]) types a service and its clients. [`line`] and [`rpc`]
//! are lines of JSON on standard input and output.
//!
//! The crate knows nothing of sandboxes, and but for the feature `client` it is sans-I/O: it has no runtime,
//! no clock and no file. What
//! comes out of [`rpc::receive`] has the types and the bounds that are written here, and nothing else is
//! promised of it.
//!
//! # What a service decides
//!
//! Section 2.2 of the contract, with the defects of its section 10.3 mended:
//!
//! - [`Call::Cancel`] is answered at once, whatever else runs. Its target answers −32003.
//! - [`Call::Create`] runs beside the reading of lines, so that it can be cancelled; nothing of it stays
//!   then. Calls that need a sandbox are refused with −32000 until it has answered, and so is another one.
//! - [`Call::Close`] cancels all that runs, ends the sandbox, and answers within [`CloseParams::timeout`].
//! - [`Input`] is taken in the order of its lines and never answered. Each command has a queue with a bound
//!   in bytes; one that is full delays that command's input alone.
//! - All other calls run at once, and each can be cancelled. A bound on their number is the service's.
//! - Output of a command comes before its result, and all of it.
//! - A call without an id is carried out and not answered.
//! - An id that is still in use is refused with −32600: its answers could not be told apart.
//! - The end of standard input, a failed write and a signal end everything, the sandbox too.
//! - Chunks of text are cut between characters where that is cheap: a client decodes each by itself.

#![forbid(unsafe_code)]

mod bytes;
#[cfg(feature = "client")]
pub mod client;
pub mod control;
mod create;
mod error;
mod event;
mod exec;
mod files;
mod id;
mod lifecycle;
pub mod line;
mod message;
mod network;
mod params;
pub mod rpc;
#[cfg(feature = "schema")]
pub mod schema;

pub use bytes::{Base64, InvalidBase64};
pub use create::{
    CreateParams, CreateResult, ExtraDisk, HostIp, ImageConfig, Interception, Kernel, Limits,
    Mount, Network, Resources, Secret, SecretValue, Vfs, VfsInterception,
};
pub use error::{ErrorCode, ErrorData, ErrorKind, RpcError};
pub use event::{Event, FileEvent, NetworkEvent};
pub use exec::{
    Chunk, DEFAULT_SIZE, ExecParams, ExecResult, ExecTtyParams, ExitResult, Resize, Running,
};
pub use files::{
    ContentResult, DEFAULT_MODE, Empty, FileInfo, FileMode, ListFilesResult, NoParams, PathParams,
    WriteFileParams,
};
pub use id::RequestId;
pub use lifecycle::{CancelParams, CancelResult, CloseParams};
pub use message::{
    Call, ControlCall, Input, MessageInfo, Method, Notification, control_method, method,
};
pub use network::{
    AllowListAddResult, AllowListDeleteResult, HostsParams, PortBinding, PortForward,
    PortForwardParams, PortForwardResult,
};
pub use params::{Ignored, InvalidParams, Params};
