//! The JSON-RPC methods of `matchlock rpc`: what is sent, what is answered, and how it is framed.
//!
//! The crate is sans-I/O and knows nothing of sandboxes: it has no runtime, no clock and no file.

#![forbid(unsafe_code)]

mod bytes;
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
pub use message::{Call, Input, MessageInfo, Method, Notification, method};
pub use network::{
    AllowListAddResult, AllowListDeleteResult, HostsParams, PortBinding, PortForward,
    PortForwardParams, PortForwardResult,
};
pub use params::{Ignored, InvalidParams, Params};
