//! A client of registries (OCI distribution spec), for pulling only.
//!
//! ```text
//!   Client::manifest, Client::blob ─► servers: mirrors, then the registry
//!        │  401 ─► auth: basic, or a token of the realm        (credentials only where they belong)
//!        │  3xx ─► other hosts, without Authorization          (public ones, if the registry is)
//!        ▼
//!   transport: kept connections ─► TLS ─► Dial
//! ```

mod auth;
mod blob;
mod challenge;
mod client;
mod config;
mod credentials;
mod dial;
mod domain;
mod error;
mod follow;
mod helper;
mod meaning;
mod retry;
mod secret;
mod transport;
mod url;

#[cfg(test)]
mod tests;

pub use blob::BlobStream;
pub use client::{Client, Manifest};
pub use config::{Registries, RegistriesError};
pub use credentials::{CredentialError, Credentials};
pub use dial::{BoxFuture, Dial, DialError, Dialed, Reach};
pub use error::{
    BrokenError, ChallengeProblem, DeniedHint, RedirectProblem, RegistryError, TlsError,
};
pub use retry::Wait;
