//! The file server of a sandbox: FUSE messages in, FUSE messages out.
//!
//! [`Server`] takes one request, whoever wrote it, and appends one reply; [`Service`] does so for many at
//! once, in any order. They do not know how messages travel (a vhost-user queue, a vsock pump, a test) nor
//! where files come from: those are [`Provider`]s. Everything after [`request`] may trust that names, sizes and counts are in bounds;
//! everything in [`host_dir`] trusts no path, neither the guest's nor the host's.
//!
//! Where to enter: [`HostImage`] makes the tree of `--image host`; [`HostDir`] serves one directory of
//! the host read-only; [`Tree`] puts providers together; [`Pool`] bounds what all of them may use.
#![forbid(unsafe_code)]

mod abi;
mod context;
mod glob;
pub mod host_dir;
pub mod host_image;
mod open;
mod pool;
mod provider;
mod reply;
pub mod request;
mod server;
mod service;
mod synthetic;
mod types;

pub use abi::{Opcode, ROOT_ID};
pub use context::{Caller, Context};
pub use host_dir::{Filter, HostDir, HostDirOptions, Masks};
pub use host_image::{HostImage, HostImageError};
pub use open::{Caching, Changed, OpenDir, OpenFile, OpenedDir, OpenedFile};
pub use pool::{Limits, Pool};
pub use provider::{CachePolicy, Features, Lane, Provider};
pub use reply::{DirBuffer, DirItem};
pub use server::Server;
pub use service::{Message, Service};
pub use synthetic::{Tree, TreeBuilder, TreeError};
pub use types::{
    Attr, Entry, Errno, FileKind, FsStats, Handle, IdSpace, Lookup, NodeId, Result, Time,
};
