//! Images of file systems and what they are made from.

/// The metadata of an EROFS image. It lies in the store, where another process may have damaged it.
pub fn erofs(input: &[u8]) {
    matchlock_image::erofs::fuzzing::check(input);
}
