//! vhost-user devices that end in this process.

pub mod vsock;
