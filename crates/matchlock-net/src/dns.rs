//! The resolver of the guest, and the one of the host.
//!
//! Sealed, the guest learns nothing but names that the policy allows, by addresses that mean
//! nothing outside, and no query leaves the host for it. Only a dialled name is looked up, by
//! [`Resolver`]. With the public network open, questions are forwarded, and what the answers say
//! is filtered. Nothing here decides: that is the policy's.

mod chain;
mod forward;
mod names;
mod question;
mod resolver;
mod seen;
mod server;
mod servers;
mod upstream;
mod wire;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

pub(crate) use names::{Exhausted, Names};
pub(crate) use question::Question;
pub(crate) use resolver::{ResolveError, Resolver};
pub(crate) use seen::Seen;
pub(crate) use server::{DnsContext, answer};
pub(crate) use servers::{NoServer, Source};
pub(crate) use upstream::{Upstream, UpstreamError};
pub(crate) use wire::Transport;
