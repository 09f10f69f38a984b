//! What a pull, an import or a build tells whoever watches.

use crate::digest::Digest;

/// Takes events. Called from several threads, and not to be kept waiting.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The registry is asked what the name leads to.
    Resolving,
    /// The layers are known.
    Resolved {
        /// Of the image.
        digest: Digest,
        /// How many.
        layers: usize,
        /// Compressed, in bytes, those that are stored with them.
        bytes: u64,
    },
    /// A layer went on.
    Layer {
        /// From 0, the lowest.
        index: usize,
        /// Of the uncompressed archive.
        diff_id: Digest,
        /// To where.
        state: LayerState,
    },
    /// The transfer of a layer broke and goes on where it stopped.
    Retrying {
        /// Of the layer, from 0.
        index: usize,
        /// Counts from 1.
        attempt: u32,
    },
    /// All layers are stored; the index is made.
    Merging,
}

/// Where a layer is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// It is stored already.
    Exists,
    /// Another process downloads it.
    Waiting,
    /// It comes; what has come is unpacked on the way.
    Downloading {
        /// Bytes that are there, compressed.
        done: u64,
        /// Of how many.
        of: u64,
    },
    /// All of it is there; the rest is unpacked.
    Unpacking,
    /// It is stored.
    Done,
}

impl Progress for NoProgress {
    fn event(&self, _event: Event) {}
}
