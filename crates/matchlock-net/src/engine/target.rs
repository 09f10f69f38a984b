//! Where a flow goes, and whether it may.

use std::net::SocketAddr;

use matchlock_policy::{Allowed, Connection, Denied, Endpoint, Host, HostName, Policy};

/// What a flow is to, and that it may go there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The decision that the flow is dialled by.
    pub(crate) allowed: Allowed,
    /// The names that the dialled address stands for, as far as a flow may go there.
    pub(crate) names: Vec<HostName>,
    /// What the guest dialled.
    pub(crate) address: SocketAddr,
    /// Whether that says all. Otherwise the guest may know the address by any name, and the first
    /// that it tells is the one.
    pub(crate) bound: bool,
}

impl Target {
    /// Decides about a flow to `address`, which `names` lead to.
    pub(crate) fn decide(
        policy: &Policy,
        address: SocketAddr,
        names: Vec<HostName>,
    ) -> Result<Self, Denied> {
        let port = address.port();
        if names.is_empty() {
            let allowed = policy.connect(&Endpoint { host: Host::Ip(address.ip()), port })?;
            return Ok(Self { allowed, names, address, bound: policy.is_sealed() });
        }
        let mut may = Vec::new();
        let mut first_denied = None;
        for name in names {
            match policy.connect(&Endpoint { host: Host::Name(name.clone()), port }) {
                Ok(allowed) => may.push((name, allowed)),
                Err(denied) => first_denied = first_denied.or(Some(denied)),
            }
        }
        match (may.first(), first_denied) {
            (Some((_, allowed)), _) => {
                let allowed = allowed.clone();
                let names = may.into_iter().map(|(name, _)| name).collect();
                Ok(Self { allowed, names, address, bound: true })
            }
            (None, Some(denied)) => Err(denied),
            (None, None) => unreachable!("there was a name, and it was allowed or denied"),
        }
    }

    /// The same flow, known now to be to `name`.
    pub(crate) fn narrowed(&self, policy: &Policy, name: &HostName) -> Result<Self, Denied> {
        let endpoint = Endpoint { host: Host::Name(name.clone()), port: self.address.port() };
        let allowed = policy.connect(&endpoint)?;
        Ok(Self { allowed, names: vec![name.clone()], address: self.address, bound: true })
    }

    /// Whether a policy still lets the flow be, and be carried as it is.
    pub(crate) fn stands(&self, policy: &Policy) -> bool {
        let carriage = self.allowed.carriage();
        policy.connect(self.allowed.endpoint()).is_ok_and(|now| now.carriage() == carriage)
    }

    /// What requests on the flow are held against. It was dialled already: an address of which no
    /// name is known by now stands for itself only.
    pub(crate) fn connection(&self, sni: Option<HostName>) -> Connection {
        Connection { names: self.names.clone(), address: self.address, sni, bound: true }
    }
}
