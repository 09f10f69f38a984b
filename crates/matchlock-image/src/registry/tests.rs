//! The client against the registry of the testkit.

mod auth;
mod helpers;
mod hostile;
mod rig;
mod servers;
mod transfer;
