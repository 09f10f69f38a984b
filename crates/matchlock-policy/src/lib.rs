//! Decisions: which hosts, addresses and ports a sandbox may reach, and who may see which secret.
//!
//! The crate is pure: no sockets, no clocks, no files. A decision is a value that only this crate can
//! make: whoever dials needs a [`Dialable`], whoever reveals a secret needs an [`Allowed`].

#![forbid(unsafe_code)]
