//! The command line, driven as a user drives it.

mod signals;
mod status;
mod streams;
mod support;
mod terminal;
