//! The file server seen from outside: one module a promise.
#![expect(clippy::print_stderr, reason = "says why a test was skipped")]

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

/// Says why a test cannot show what it is for.
fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}
