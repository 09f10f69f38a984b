//! The command line, driven as a user drives it.

mod archives;
mod audit;
mod bad_input;
mod crash;
mod defaults;
mod enter;
mod environment;
mod images;
mod information;
mod kept;
mod limits;
mod log;
mod nested;
mod network;
mod parallel;
mod ports;
mod sandboxes;
mod signals;
mod status;
mod streams;
mod support;
mod terminal;
mod timeout;
mod users;
mod volumes;
