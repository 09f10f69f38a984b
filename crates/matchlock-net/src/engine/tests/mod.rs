//! Flows against real servers on the loopback interface; the guest is a stream in memory.

mod fronting;
mod handshake;
mod lifecycle;
mod open;
mod rig;
mod session;
mod unread;
