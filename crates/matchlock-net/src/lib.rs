//! The network of a sandbox: a user-space TCP/IP stack that ends every flow, and what decides and
//! carries it on: DNS, policy, TLS, HTTP.
//!
//! No packet of the guest reaches an interface of the host. The crate knows neither the life of a
//! sandbox nor which monitor runs it: it is given a Unix stream socket with Ethernet frames.

#![forbid(unsafe_code)]

#[cfg(feature = "bench")]
pub mod bench;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

mod audit;
mod cause;
mod dial;
mod dns;
mod engine;
mod http;
#[cfg(test)]
mod lines;
mod network;
mod own_addresses;
mod refusals;
mod stack;
mod tls;

pub use audit::{Audit, AuditLost, Decision, Event, Protocol, Scheme};
pub use cause::Cause;
pub use dial::{HostDialError, HostDialer, HostStream, ProxyError, ProxySettings, host_roots};
pub use network::{GuestNetwork, NetConfig, NetError, Network, NotIntercepting};
pub use own_addresses::own_addresses;
pub use refusals::Refusal;
pub use rustls::RootCertStore;
pub use rustls::pki_types::CertificateDer;
pub use stack::Traffic;
pub use tls::{InvalidPem, read_certificates};
