//! Names to addresses by the servers of the host. Whether a name may be asked for, and which of
//! the addresses may be dialled, is decided elsewhere: by `Policy` before, by `Allowed` after.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use matchlock_policy::HostName;
use tokio::time::{Instant, timeout};

use super::chain::{Chain, MAX_ALIASES, TooLong};
use super::upstream::{Upstream, UpstreamError};

/// Names that are remembered.
const MAX_CACHED: usize = 1024;
/// Longest time that an answer is believed, in seconds; what asks for less gets less.
const MAX_TTL: u32 = 300;
/// How long the answer of the second family is waited for once the first one gave addresses.
/// Longer than the 50 ms of RFC 8305 3, since what is missing here is missing in the cache too.
const SECOND_FAMILY: Duration = Duration::from_millis(300);

/// Looks names up, and remembers the addresses for as long as their records say.
#[derive(Debug)]
pub(crate) struct Resolver {
    upstream: Arc<Upstream>,
    cache: Mutex<HashMap<HostName, Cached>>,
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("{0} does not exist")]
    NoSuchName(HostName),
    #[error("{0} has no address")]
    NoAddress(HostName),
    #[error("{0} has too many aliases")]
    TooManyAliases(HostName),
    #[error("cannot look up {name}")]
    Upstream {
        name: HostName,
        #[source]
        cause: UpstreamError,
    },
}

#[derive(Clone, Debug)]
struct Cached {
    addresses: Vec<IpAddr>,
    until: Instant,
}

/// What one family of addresses came to.
#[derive(Debug, Default)]
struct Found {
    addresses: Vec<IpAddr>,
    ttl: Option<u32>,
    /// The name has records, if not of this family.
    exists: bool,
}

type Outcome = Result<Found, Failure>;

#[derive(Debug)]
enum Failure {
    Upstream(UpstreamError),
    TooManyAliases,
}

impl Resolver {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, cache: Mutex::default() }
    }

    /// The addresses of `name`, IPv6 first: at least one. They are not checked.
    pub(crate) async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, ResolveError> {
        if name.labels().next_back() == Some("localhost") {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        if let Some(addresses) = self.cached(name) {
            return Ok(addresses);
        }
        let (v6, v4) = self.both(&to_wire(name)).await;
        let complete = matches!((&v6, &v4), (Some(Ok(_)), Some(Ok(_))));
        let mut all = Found::default();
        let mut failure = None;
        for found in [v6, v4].into_iter().flatten() {
            match found {
                Ok(found) => {
                    all.ttl = all.ttl.into_iter().chain(found.ttl).min();
                    all.exists |= found.exists;
                    all.addresses.extend(found.addresses);
                }
                Err(error) => failure = Some(error),
            }
        }
        if !all.addresses.is_empty() {
            // Half an answer would stay half for as long as it is remembered.
            if complete {
                self.remember(name, &all);
            }
            return Ok(all.addresses);
        }
        Err(match failure {
            Some(Failure::Upstream(cause)) => ResolveError::Upstream { name: name.clone(), cause },
            Some(Failure::TooManyAliases) => ResolveError::TooManyAliases(name.clone()),
            None if all.exists => ResolveError::NoAddress(name.clone()),
            None => ResolveError::NoSuchName(name.clone()),
        })
    }

    /// Both families at once. The second one is given up when it keeps the first one waiting.
    async fn both(&self, name: &Name) -> (Option<Outcome>, Option<Outcome>) {
        let v6 = self.family(name, RecordType::AAAA);
        let v4 = self.family(name, RecordType::A);
        tokio::pin!(v6, v4);
        tokio::select! {
            v6 = &mut v6 => { let v4 = beside(&v6, v4).await; (Some(v6), v4) }
            v4 = &mut v4 => { let v6 = beside(&v4, v6).await; (v6, Some(v4)) }
        }
    }

    /// Asks again for the end of a chain that the answer leaves open.
    async fn family(&self, name: &Name, kind: RecordType) -> Outcome {
        let mut found = Found::default();
        let mut next = name.clone();
        let mut aliases = 0;
        loop {
            let query = Query::query(next.clone(), kind);
            let answer = self.upstream.ask(&query).await.map_err(Failure::Upstream)?;
            let chain =
                Chain::follow(&answer, &next, kind).map_err(|TooLong| Failure::TooManyAliases)?;
            found.ttl = found.ttl.into_iter().chain(chain.ttl).min();
            found.exists |= answer.response_code == ResponseCode::NoError;
            aliases += chain.aliases;
            if aliases > MAX_ALIASES {
                return Err(Failure::TooManyAliases);
            }
            // A SOA record says that there is no such record at the end (RFC 2308 2.2).
            let said = answer.authorities.iter().any(|r| r.record_type() == RecordType::SOA);
            let missing = said || answer.response_code != ResponseCode::NoError;
            let open = chain.aliases > 0 && !missing;
            if !chain.addresses.is_empty() || !open || is_ours(&chain.end) {
                found.addresses = chain.addresses;
                return Ok(found);
            }
            // A server that ends a chain with an alias knows no more of it, or there is no record
            // of this family: asking for the end itself tells.
            next = chain.end;
        }
    }

    fn cached(&self, name: &HostName) -> Option<Vec<IpAddr>> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.get(name).filter(|cached| cached.until > Instant::now())?;
        Some(cached.addresses.clone())
    }

    fn remember(&self, name: &HostName, found: &Found) {
        let ttl = found.ttl.unwrap_or(0).min(MAX_TTL);
        if ttl == 0 {
            return;
        }
        let now = Instant::now();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_CACHED {
            cache.retain(|_, cached| cached.until > now);
        }
        if cache.len() >= MAX_CACHED {
            let soonest = cache.iter().min_by_key(|(_, cached)| cached.until);
            let soonest = soonest.map(|(name, _)| name.clone());
            soonest.and_then(|name| cache.remove(&name));
        }
        let until = now + Duration::from_secs(u64::from(ttl));
        cache.insert(name.clone(), Cached { addresses: found.addresses.clone(), until });
    }
}

/// Waits for the second family for as long as that is worth it.
async fn beside(first: &Outcome, second: impl Future<Output = Outcome>) -> Option<Outcome> {
    match first {
        Ok(found) if !found.addresses.is_empty() => timeout(SECOND_FAMILY, second).await.ok(),
        _ => Some(second.await),
    }
}

/// Names that mean this host to whoever looks them up (RFC 6761 6.3, RFC 6762 3): no server is
/// asked for them because an alias says so.
fn is_ours(name: &Name) -> bool {
    let last = name.iter().next_back();
    last.is_none_or(|label| {
        ["localhost", "local", "internal"]
            .iter()
            .any(|own| label.eq_ignore_ascii_case(own.as_bytes()))
    })
}

/// A name in the form of the protocol.
pub(crate) fn to_wire(name: &HostName) -> Name {
    // A host name is at most 253 bytes of labels of at most 63: every one has a wire form.
    let labels = name.as_str().split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).unwrap_or_else(|_| Name::root());
    name.set_fqdn(true);
    name
}
