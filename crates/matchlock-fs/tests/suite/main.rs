//! The file server seen from outside: one module a promise.
#![expect(clippy::disallowed_methods, reason = "a test asks for its surroundings")]

mod client;
mod confinement;
mod docs;
mod hostile;
mod image;
mod kernel;
mod listing;
mod permissions;
mod pump;
mod session;
