//! Entries for the fuzz targets.

pub use crate::dns::fuzzing::{dns_answer, dns_query};
