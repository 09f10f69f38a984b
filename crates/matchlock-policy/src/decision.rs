//! Decisions as values.

mod denied;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{AddressClass, OwnAddresses};
use crate::carriage::Carriage;
use crate::host::{Endpoint, Host};
use crate::private::PrivateAccess;
use crate::rule::Rule;

pub use denied::{Denied, DenyReason, Suggestion};

/// The policy lets a flow go to this host and port. Only [`Policy`](crate::Policy) makes one.
///
/// ```compile_fail,E0451
/// use matchlock_policy::{Allowed, Carriage, Endpoint, OwnAddresses, PrivateAccess, Rule};
/// fn forge(endpoint: Endpoint, rule: Rule, private: PrivateAccess, own: OwnAddresses) -> Allowed {
///     let carriage = Carriage::Opaque;
///     Allowed { endpoint, rule, private, own, carriage, unrecognised: true }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Allowed {
    endpoint: Endpoint,
    rule: Rule,
    /// An IP literal has passed it.
    private: PrivateAccess,
    own: OwnAddresses,
    pub(crate) carriage: Carriage,
    pub(crate) unrecognised: bool,
}

impl Allowed {
    /// An IP literal must have passed [`PrivateAccess::admit`]. Flows are looked into.
    pub(crate) fn new(
        endpoint: Endpoint,
        rule: Rule,
        private: PrivateAccess,
        own: OwnAddresses,
    ) -> Self {
        let (carriage, unrecognised) = (Carriage::Http, false);
        Self { endpoint, rule, private, own, carriage, unrecognised }
    }

    /// The name or address that was allowed.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.endpoint.host
    }

    /// The port that was allowed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// Host and port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What allowed it.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Takes from the resolver's answers for the host those that may be dialled, each once and in
    /// their order. Dial these and nothing that is resolved again.
    ///
    /// # Errors
    /// When none is left.
    pub fn admit(&self, answers: &[IpAddr]) -> Result<Dialable, Denied> {
        let mut addresses = Vec::new();
        let mut dropped = Vec::new();
        for ip in answers.iter().map(IpAddr::to_canonical) {
            let address = SocketAddr::new(ip, self.port());
            match self.private.admit(ip, &self.own) {
                Ok(()) if addresses.contains(&address) => {}
                Ok(()) => addresses.push(address),
                Err(class) => dropped.push((ip, class)),
            }
        }
        match (addresses.is_empty(), dropped.first()) {
            (false, _) => Ok(self.dialable(addresses, dropped)),
            (true, Some(&(ip, class))) => Err(Denied::address(self.endpoint.clone(), ip, class)),
            (true, None) => Err(Denied::no_address(self.endpoint.clone(), self.rule.clone())),
        }
    }

    /// The addresses of a host that needs no resolver: an IP literal, which was checked already, or
    /// the services of the host itself.
    #[must_use]
    pub fn fixed(&self) -> Option<Dialable> {
        let ips = match self.host() {
            Host::Ip(ip) => vec![ip.to_canonical()],
            Host::Name(name) if name.is_host_service() => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Host::Name(_) => return None,
        };
        let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, self.port())).collect();
        Some(self.dialable(addresses, Vec::new()))
    }

    /// For a proxy that resolves names itself: no addresses but the name. What the proxy makes of
    /// it is not checked. What is [`fixed`](Self::fixed) stays so, because the proxy's idea of it
    /// would be another.
    #[must_use]
    pub fn by_name_only(&self) -> Dialable {
        self.fixed().unwrap_or_else(|| self.dialable(Vec::new(), Vec::new()))
    }

    fn dialable(
        &self,
        addresses: Vec<SocketAddr>,
        dropped: Vec<(IpAddr, AddressClass)>,
    ) -> Dialable {
        Dialable { allowed: self.clone(), addresses, dropped }
    }
}

/// Checked addresses of an allowed host: the only thing that may be dialled. Comes from
/// [`Allowed`].
///
/// ```compile_fail,E0451
/// use matchlock_policy::{Allowed, Dialable};
/// fn forge(allowed: Allowed) -> Dialable {
///     Dialable { allowed, addresses: vec![], dropped: vec![] }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Dialable {
    allowed: Allowed,
    addresses: Vec<SocketAddr>,
    dropped: Vec<(IpAddr, AddressClass)>,
}

impl Dialable {
    /// What to dial, in the resolver's order; empty only if there is a
    /// [`name_for_proxy`](Self::name_for_proxy).
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The decision that this rests on.
    #[must_use]
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Answers that may not be dialled, and why.
    #[must_use]
    pub fn dropped(&self) -> &[(IpAddr, AddressClass)] {
        &self.dropped
    }

    /// The host and port to name to a proxy, when there are no addresses.
    #[must_use]
    pub fn name_for_proxy(&self) -> Option<&Endpoint> {
        self.addresses.is_empty().then_some(self.allowed.endpoint())
    }
}
