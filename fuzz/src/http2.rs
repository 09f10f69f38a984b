//! Frames of HTTP/2 from the guest, carried to a server.

pub use matchlock_net::fuzzing::http2;
