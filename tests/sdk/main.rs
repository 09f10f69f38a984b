//! `matchlock rpc` with real machines: the published Python SDK, and lines as the Go SDK writes them.

mod lines;
mod python;
