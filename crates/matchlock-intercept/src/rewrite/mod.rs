//! Placeholders to secrets in requests, and secrets out of responses.
//!
//! The machines for bodies are streams: how their input is split does not change what comes out. A
//! value is only ever taken from [`Bound::permitted`], so none can be written for a host that it is
//! not bound to.

mod basic;
mod body;
mod coding;
mod fields;
mod forms;
mod leak;
mod pattern;
pub(crate) mod percent;
mod request;
mod scrub;
mod stream;
mod wide;

pub use body::BodyReplacer;
pub(crate) use coding::MAX_PULL;
pub use coding::{Decoder, Progress, Undecodable, content_encoding};
pub use fields::{ask_for_readable, fit_headers};
pub use leak::{Leak, LeakScanner};
pub use request::{request, trailers};
pub use scrub::{Scrubber, scrub_head, scrub_headers};
pub(crate) use stream::extend;

#[cfg(doc)]
use matchlock_policy::Bound;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) use coding::encode;
