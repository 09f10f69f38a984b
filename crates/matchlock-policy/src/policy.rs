//! The policy of one sandbox.

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::OwnAddresses;
use crate::carriage::Carriage;
use crate::decision::{Allowed, Denied, DenyReason};
use crate::host::{Endpoint, Host};
use crate::name::HostName;
use crate::pattern::HostPattern;
use crate::private::PrivateAccess;
use crate::rule::{Kind, Rule};
use crate::secret::{SecretName, Secrets};

/// What an empty allow-list means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultEgress {
    /// Nothing leaves.
    #[default]
    Deny,
    /// Every public host may be reached.
    Public,
}

/// What a [`Policy`] is made of. The default denies everything.
#[derive(Debug, Default)]
pub struct PolicyConfig {
    /// Hosts that may be reached; a match with any of them suffices.
    pub allowed_hosts: Vec<HostPattern>,
    /// What an empty list means.
    pub default_egress: DefaultEgress,
    /// Addresses beside the public ones.
    pub private: PrivateAccess,
    /// Whether HTTP is to be parsed even if nothing else asks for it: `--network-intercept`, or
    /// hook rules are present.
    pub intercept: bool,
    /// Secrets; their hosts are added to the allow-list.
    pub secrets: Secrets,
    /// `--add-host`: names with addresses of the user's choice. They need a rule like any other
    /// name.
    pub add_hosts: Vec<(HostName, IpAddr)>,
}

/// Decides for one sandbox. Immutable and cheap to clone; a change makes a new one.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    inner: Arc<Inner>,
    own: OwnAddresses,
}

#[derive(Debug, Clone, Default)]
struct Inner {
    entries: Vec<Entry>,
    default_egress: DefaultEgress,
    private: PrivateAccess,
    intercept: bool,
    secrets: Secrets,
    add_hosts: Vec<(HostName, IpAddr)>,
}

/// One entry of the allow-list; entries differ in their text.
#[derive(Debug, Clone)]
struct Entry {
    pattern: HostPattern,
    /// The secret that brought it, if no rule of the user did.
    secret: Option<SecretName>,
}

impl Policy {
    /// Makes a policy. The hosts of secrets are appended to the list.
    #[must_use]
    pub fn new(config: PolicyConfig) -> Self {
        let PolicyConfig { allowed_hosts, default_egress, private, intercept, secrets, add_hosts } =
            config;
        let mut entries = Vec::new();
        for pattern in allowed_hosts {
            push_new(&mut entries, Entry { pattern, secret: None });
        }
        for secret in secrets.iter() {
            for pattern in &secret.hosts {
                let secret = Some(secret.name.clone());
                push_new(&mut entries, Entry { pattern: pattern.clone(), secret });
            }
        }
        Self::of(Inner { entries, default_egress, private, intercept, secrets, add_hosts })
    }

    fn of(inner: Inner) -> Self {
        Self { inner: Arc::new(inner), own: OwnAddresses::default() }
    }

    /// The same policy on a host whose interfaces have these addresses, in place of any that it
    /// knew. Interfaces change: whoever decides says what they have at that moment.
    #[must_use]
    pub fn on_host(self, own: OwnAddresses) -> Self {
        Self { own, ..self }
    }

    /// Whether the public network at large is out of reach.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        let list = &self.inner.entries;
        let open = match self.inner.default_egress {
            DefaultEgress::Public => list.is_empty(),
            DefaultEgress::Deny => false,
        };
        !open && !list.iter().any(|entry| entry.pattern.is_everything())
    }

    /// Whether HTTP is parsed and TLS terminated: when sealed, when forced to, and when there is a
    /// list or a secret.
    #[must_use]
    pub fn intercepts(&self) -> bool {
        let inner = &*self.inner;
        self.is_sealed()
            || inner.intercept
            || !inner.entries.is_empty()
            || !inner.secrets.is_empty()
    }

    /// Whether there is, or may come by the same kind of rules, a flow of which TLS is ended here, so that
    /// the guest has to trust an authority of ours. Not when every rule has its flows carried unread.
    #[must_use]
    pub fn ends_tls(&self) -> bool {
        let inner = &*self.inner;
        let mut rules = inner.entries.iter().map(|entry| entry.pattern.carriage());
        let is_read = inner.entries.is_empty() || rules.any(|rule| rule == Carriage::Http);
        self.intercepts() && (is_read || inner.intercept)
    }

    /// The allow-list, as the entries were given.
    #[must_use]
    pub fn allowed_hosts(&self) -> Vec<String> {
        self.inner.entries.iter().map(|entry| entry.pattern.to_string()).collect()
    }

    /// A policy with `patterns` in the list too, and the texts of those that were not there.
    #[must_use]
    pub fn with_added(&self, patterns: &[HostPattern]) -> (Self, Vec<String>) {
        let mut inner = Inner::clone(&self.inner);
        let mut added = Vec::new();
        for pattern in patterns {
            if push_new(&mut inner.entries, Entry { pattern: pattern.clone(), secret: None }) {
                added.push(pattern.to_string());
            }
        }
        (Self { inner: Arc::new(inner), own: self.own.clone() }, added)
    }

    /// A policy without the entries of exactly these texts, and the texts of those that were there.
    /// Removing the last entry leaves what the default egress says.
    #[must_use]
    pub fn with_removed(&self, texts: &[String]) -> (Self, Vec<String>) {
        let mut inner = Inner::clone(&self.inner);
        let mut removed = Vec::new();
        for text in texts.iter().map(|text| text.trim()) {
            let before = inner.entries.len();
            inner.entries.retain(|entry| entry.pattern.as_str() != text);
            if inner.entries.len() != before {
                removed.push(text.to_owned());
            }
        }
        (Self { inner: Arc::new(inner), own: self.own.clone() }, removed)
    }

    /// Whether the guest's DNS may know `name`, because some port of it may be reached.
    ///
    /// # Errors
    /// When no rule covers the name at any port.
    pub fn resolve(&self, name: &HostName) -> Result<Rule, Denied> {
        let host = Host::Name(name.clone());
        self.decide(&host, |pattern| pattern.matches_any_port(name))
            .map(|(rule, _)| rule)
            .map_err(|rule| Denied::name(name.clone(), not_allowed(&host), rule))
    }

    /// Whether a flow may go to `endpoint`. The addresses of a name are checked later, by
    /// [`Allowed::admit`]; an IP literal is checked at once.
    ///
    /// # Errors
    /// When no rule covers the endpoint, or it is an address that may not be reached.
    pub fn connect(&self, endpoint: &Endpoint) -> Result<Allowed, Denied> {
        let Endpoint { host, port } = endpoint;
        let refused =
            host.ip().and_then(|ip| Some((ip, self.inner.private.admit(ip, &self.own).err()?)));
        let decided = self.decide(host, |pattern| pattern.matches(host, *port));
        let (rule, carriage) = decided.map_err(|rule| {
            let refused = refused.map(|(ip, _)| ip);
            Denied::endpoint(endpoint.clone(), not_allowed(host), refused, rule)
        })?;
        if let Some((ip, class)) = refused {
            return Err(Denied::address(endpoint.clone(), ip, class));
        }
        let private = self.inner.private.clone();
        let mut allowed = Allowed::new(endpoint.clone(), rule, private, self.own.clone());
        if self.intercepts() {
            allowed.carriage = carriage;
            allowed.unrecognised = !self.is_sealed() && !self.inner.intercept;
        } else {
            allowed.carriage = Carriage::Opaque;
        }
        Ok(allowed)
    }

    /// The addresses that `--add-host` gives to `name`, in their order.
    #[must_use]
    pub fn added_addresses(&self, name: &HostName) -> Vec<IpAddr> {
        let of_name = self.inner.add_hosts.iter().filter(|(own, _)| own == name);
        of_name.map(|&(_, ip)| ip.to_canonical()).collect()
    }

    /// The names that `--add-host` gives to the address `ip`.
    #[must_use]
    pub fn names_of_added(&self, ip: IpAddr) -> Vec<HostName> {
        let ip = ip.to_canonical();
        let of_ip = self.inner.add_hosts.iter().filter(|(_, own)| own.to_canonical() == ip);
        of_ip.map(|(name, _)| name.clone()).collect()
    }

    /// The secrets of the sandbox.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.inner.secrets
    }

    /// The policy with these secrets in place of its own. Hosts come into the list with a secret and leave it
    /// with the last one that brought them; what somebody removed from the list stays removed.
    #[must_use]
    pub fn with_secrets(&self, secrets: Secrets) -> Self {
        let mut inner = Inner::clone(&self.inner);
        let old = &self.inner;
        inner.entries.retain(|entry| entry.secret.is_none());
        for secret in secrets.iter() {
            let before = old.secrets.get(&secret.name);
            for pattern in &secret.hosts {
                let text = pattern.as_str();
                let listed = old.entries.iter().any(|entry| entry.pattern.as_str() == text);
                let was_its = before.is_some_and(|secret| secret.hosts.contains(pattern));
                if listed || !was_its {
                    let secret = Some(secret.name.clone());
                    push_new(&mut inner.entries, Entry { pattern: pattern.clone(), secret });
                }
            }
        }
        inner.secrets = secrets;
        Self { inner: Arc::new(inner), own: self.own.clone() }
    }

    /// Secrets whose value would never be put in, because a rule has the flows to their hosts carried
    /// unread.
    #[must_use]
    pub fn useless_secrets(&self) -> Vec<UselessSecret> {
        let unread = self.inner.entries.iter().map(|entry| &entry.pattern);
        let unread: Vec<_> = unread.filter(|rule| rule.carriage() != Carriage::Http).collect();
        let mut useless = Vec::new();
        for secret in self.inner.secrets.iter() {
            for host in &secret.hosts {
                // Without a port in the pattern, other ports may be what it is for.
                let port = Some(host.port().unwrap_or(HTTPS));
                let in_the_way = |rule: &&&HostPattern| rule.port() == port && rule.overlaps(host);
                if let Some(&rule) = unread.iter().find(in_the_way) {
                    let (secret, host, rule) = (secret.name.clone(), host.clone(), rule.clone());
                    useless.push(UselessSecret { secret, host, rule });
                }
            }
        }
        useless
    }

    /// The rule that allows `host` and how it has flows carried, or else the rule that does not. An
    /// entry that says how goes before those that do not.
    fn decide(
        &self,
        host: &Host,
        matches: impl Fn(&HostPattern) -> bool,
    ) -> Result<(Rule, Carriage), Rule> {
        let inner = &*self.inner;
        let matching = || inner.entries.iter().filter(|entry| matches(&entry.pattern));
        let says = matching().find(|entry| entry.pattern.carriage() != Carriage::Http);
        if let Some(entry) = says.or_else(|| matching().next()) {
            return Ok((entry.rule(), entry.pattern.carriage()));
        }
        if !inner.entries.is_empty() {
            return Err(Rule(Kind::NotListed));
        }
        let rule = Rule(Kind::Default(inner.default_egress));
        match inner.default_egress {
            DefaultEgress::Public if !is_host_service(host) => Ok((rule, Carriage::Http)),
            DefaultEgress::Public | DefaultEgress::Deny => Err(rule),
        }
    }
}

/// The port of `https`.
const HTTPS: u16 = 443;

/// A secret that a rule keeps from being used, at one of its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UselessSecret {
    /// The secret.
    pub secret: SecretName,
    /// Its host.
    pub host: HostPattern,
    /// The rule that has flows to there carried unread.
    pub rule: HostPattern,
}

impl Entry {
    fn rule(&self) -> Rule {
        Rule(match &self.secret {
            Some(name) => Kind::Secret(name.clone()),
            None => Kind::AllowHost(self.pattern.clone()),
        })
    }
}

/// Adds an entry unless its text is in the list.
fn push_new(entries: &mut Vec<Entry>, entry: Entry) -> bool {
    let known = entries.iter().any(|known| known.pattern.as_str() == entry.pattern.as_str());
    if !known {
        entries.push(entry);
    }
    !known
}

fn not_allowed(host: &Host) -> DenyReason {
    if is_host_service(host) { DenyReason::NeedsPort } else { DenyReason::NotAllowed }
}

fn is_host_service(host: &Host) -> bool {
    host.name().is_some_and(HostName::is_host_service)
}
