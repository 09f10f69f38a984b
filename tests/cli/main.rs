//! The command line, driven as a user drives it.

mod bad_input;
mod crash;
mod defaults;
mod environment;
mod information;
mod kept;
mod limits;
mod parallel;
mod signals;
mod status;
mod streams;
mod support;
mod terminal;
mod timeout;
mod users;
