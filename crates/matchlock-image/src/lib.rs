//! OCI images: registries, the store of layers on this host, and the file-system images made of
//! them.
//!
//! ```text
//!   registry ─► layer (tar, gzip, zstd) ─► Tree + data ─► <diff id>.erofs ──┐
//!   archive  ─┘                                                             ├─► RootImage: one disk
//!   (build)  ───────────────────────────────────────────► merge ─► index ───┘
//! ```
//!
//! Each layer is stored once, as an EROFS image of its own. An image is an index: the merged
//! metadata of its layers, an EROFS image whose files lie in the layers behind it. The crate knows
//! no virtual machine, no guest and no Dockerfile: it hands out files and their order. Images are built
//! by `matchlock-build`.

#![forbid(unsafe_code)]

pub mod archive;
pub mod digest;
pub mod erofs;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod layer;
pub mod manifest;
pub mod merge;
pub mod pull;
pub mod reference;
pub mod registry;
#[cfg(test)]
mod samples;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tree;

pub use matchlock_tar as tar;
