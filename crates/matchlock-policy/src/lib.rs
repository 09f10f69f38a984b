//! Decisions: which hosts, addresses and ports a sandbox may reach, and who may see which secret.
//!
//! The crate is pure: no sockets, no clocks, no files, no randomness of its own. A decision is a
//! value that only this crate can make: whoever dials needs a [`Dialable`], which comes from an
//! [`Allowed`]; whoever reveals a secret needs an [`Allowed`] for a host that the secret is bound
//! to. Zero values deny: an empty [`PolicyConfig`] makes a [`Policy`] that lets nothing out.
//!
//! Foreign text enters by `FromStr` only ([`HostName`], [`Host`], [`HostPattern`] …) and is
//! canonical from there on. No error of this crate carries the text that it refused, so that what
//! was meant to be a secret never reaches a log by way of a parse failure; the caller knows the
//! text.

#![forbid(unsafe_code)]

mod added;
mod address;
mod carriage;
mod decision;
mod host;
mod name;
mod pattern;
mod policy;
mod private;
mod request;
mod rule;
mod secret;
mod text;

pub use added::{InvalidAddHost, parse_add_host};
pub use address::{AddressClass, OwnAddresses, classify};
pub use carriage::{Carriage, Unread};
pub use decision::{Allowed, Denied, DenyReason, Dialable, Suggestion};
pub use host::{Endpoint, Host, InvalidEndpoint};
pub use name::{HostName, InvalidName};
pub use pattern::{HostPattern, InvalidPattern};
pub use policy::{DefaultEgress, Policy, PolicyConfig, UselessSecret};
pub use private::{InvalidRange, PrivateAccess};
pub use request::{Connection, RequestRefused};
pub use rule::Rule;
pub use secret::{
    Bound, InvalidSecret, InvalidSecretFile, Placeholder, PlaceholderProblem, Revealed, Secret,
    SecretName, SecretProblem, SecretSpec, SecretValue, Secrets, Transport, ValueProblem, made_of,
};
