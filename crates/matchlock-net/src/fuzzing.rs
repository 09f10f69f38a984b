//! Entries for the fuzz targets.

pub use crate::dns::fuzzing::{dns_answer, dns_query};
pub use crate::http::h2::fuzzing::http2;
pub use crate::stack::fuzzing::ethernet_stack;
