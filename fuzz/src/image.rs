//! Images of file systems and what they are made from.

/// The metadata of an EROFS image. It lies in the store, where another process may have damaged it.
pub fn erofs(input: &[u8]) {
    matchlock_image::erofs::fuzzing::check(input);
}

/// A layer, compressed or not, into a tree and a blob, and the blob back into the tree. Strangers
/// make layers.
pub fn layer(input: &[u8]) {
    matchlock_image::layer::fuzz::fuzz_layer(input);
}
