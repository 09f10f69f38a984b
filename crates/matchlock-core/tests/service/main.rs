//! The methods of JSON-RPC, and files of the guest, on a fake monitor.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod session;
