//! Rewriting of HTTP streams without I/O: parsers, serialisers, secrets, hooks.
//!
//! Everything here is a state machine over bytes: any chunking of the input gives the same output.

#![forbid(unsafe_code)]

pub mod client_hello;
pub mod h1;
pub mod headers;
pub mod hooks;
pub mod retry;
pub mod rewrite;
pub mod speech;
