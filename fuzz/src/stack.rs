//! Frames of a guest that means it no good, for the user-space network stack.

/// A raw stream of frames in pieces, or a guest that breaks the rules of TCP with valid checksums:
/// nothing panics, and the bounds of flows and of what waits for the guest hold.
pub fn ethernet_stack(input: &[u8]) {
    matchlock_net::fuzzing::ethernet_stack(input);
}
