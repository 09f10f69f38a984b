//! DNS messages: of the guest, and of the servers that the host asks.

pub use matchlock_net::fuzzing::{dns_answer, dns_query};
