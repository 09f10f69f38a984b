//! Flow to decision to relay: where the parts of the network meet.
//!
//! A flow is decided when the guest asks for it, dialled, and only then accepted ([`tcp`]). Its
//! first bytes tell what is spoken ([`sniff`], [`plain`]): TLS is answered in the server's stead
//! ([`secure`]), HTTP goes to the HTTP side, everything else is carried as bytes ([`relay`]).
//!
//! Every flow is a task of its own, which takes no other with it when it fails. The guest decides
//! how many there are, so each kind has a bound.

mod apology;
mod flow;
mod hello;
mod outside;
mod plain;
mod redial;
pub(crate) mod relay;
mod secure;
pub(crate) mod shared;
mod sniff;
pub(crate) mod stream;
mod target;
mod tcp;

use std::net::IpAddr;
use std::sync::Arc;

use matchlock_policy::{HostName, Policy};
use tokio::sync::Semaphore;

use crate::dns::{DnsContext, Names};
use crate::tls::Authority;

pub(crate) use outside::Outside;
pub(crate) use shared::Shared;

/// TCP connections at a time.
const FLOWS: usize = 1024;

/// What carries the flows of a sandbox.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) authority: Authority,
    outside: Outside,
    names: Arc<Names>,
    dns: DnsContext,
    flows: Arc<Semaphore>,
}

impl Engine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        authority: Authority,
        outside: Outside,
        dns: DnsContext,
    ) -> Self {
        let names = Arc::clone(&dns.names);
        let flows = Arc::new(Semaphore::new(FLOWS));
        Self { shared, authority, outside, names, dns, flows }
    }

    /// The names that an address of the guest stands for.
    fn names_of(&self, policy: &Policy, address: IpAddr) -> Vec<HostName> {
        let mut names = self.names.lookup(address);
        names.extend(policy.names_of_added(address));
        names
    }
}
