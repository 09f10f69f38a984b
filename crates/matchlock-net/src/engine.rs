//! Flow to decision to relay: where the parts of the network meet.
//!
//! A flow is decided when the guest asks for it, dialled, and only then accepted ([`tcp`]). Its
//! first bytes tell what is spoken ([`sniff`], [`plain`]): TLS is answered in the server's stead
//! ([`secure`]), HTTP goes to the HTTP side. What else may pass is carried unread ([`unread`]): a
//! protocol that is recognised, a server that speaks first, or what the rule says.
//!
//! Every flow is a task of its own, which takes no other with it when it fails. The guest decides
//! how many there are, so each kind has a bound.

mod error_page;
mod flow;
mod handler;
mod hello;
mod outside;
mod plain;
mod redial;
pub(crate) mod relay;
mod resolver;
mod secure;
pub(crate) mod shared;
mod sniff;
pub(crate) mod stream;
mod target;
pub(crate) mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod unread;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use matchlock_policy::{HostName, Policy};
use tokio::sync::Semaphore;

use crate::dns::{DnsContext, Names};
use crate::tls::Authority;

pub(crate) use hello::HelloRefused;
pub(crate) use outside::{Outside, OutsideError};
pub(crate) use shared::Shared;

/// TCP connections at a time.
const FLOWS: usize = 2048;
/// Questions over UDP that are being answered at a time.
const QUESTIONS: usize = 256;

/// What carries the flows of a sandbox.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) shared: Arc<Shared>,
    pub(crate) authority: Authority,
    outside: Outside,
    names: Arc<Names>,
    dns: DnsContext,
    gateways: [IpAddr; 2],
    udp: udp::Sessions,
    flows: Arc<Semaphore>,
    questions: Arc<Semaphore>,
}

impl Engine {
    pub(crate) fn new(
        shared: Arc<Shared>,
        authority: Authority,
        outside: Outside,
        dns: DnsContext,
        gateways: [IpAddr; 2],
    ) -> Self {
        Self {
            shared,
            authority,
            outside,
            names: Arc::clone(&dns.names),
            dns,
            gateways,
            udp: udp::Sessions::default(),
            flows: Arc::new(Semaphore::new(FLOWS)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
        }
    }

    /// Does ahead what would be waited for later. Blocks.
    pub(crate) fn warm_up(&self) {
        self.outside.warm_up();
    }

    fn serves_dns(&self, destination: SocketAddr) -> bool {
        destination.port() == resolver::PORT && self.gateways.contains(&destination.ip())
    }

    /// An address that the guest could have got for a name.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn address_of(&self, name: &HostName) -> Option<IpAddr> {
        self.names.assign(name).ok().map(|(v4, _)| v4.into())
    }

    /// The names that an address of the guest stands for.
    fn names_of(&self, policy: &Policy, address: IpAddr) -> Vec<HostName> {
        let mut names = self.names.lookup(address);
        names.extend(policy.names_of_added(address));
        names
    }
}
