//! The addresses of this host's interfaces, as of now.

use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use matchlock_policy::OwnAddresses;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// How old an answer may be. Asking costs a guest's connection a few system calls, and interfaces
/// change seldom.
const FRESH: Duration = Duration::from_secs(1);

/// Asks the kernel for the addresses of all interfaces.
///
/// # Errors
/// What the kernel reports, for one that there are no descriptors.
pub fn own_addresses() -> io::Result<OwnAddresses> {
    let interfaces = getifaddrs()?;
    Ok(interfaces.filter_map(|interface| ip(&interface.address?)).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// Asks again when its answer is no longer fresh.
#[derive(Debug)]
pub(crate) struct Watched {
    last: Mutex<(Instant, OwnAddresses)>,
}

impl Watched {
    /// # Errors
    /// As [`own_addresses`].
    pub(crate) fn new() -> io::Result<Self> {
        let first = (Instant::now(), own_addresses()?);
        Ok(Self { last: Mutex::new(first) })
    }

    /// The addresses of this second. While the kernel does not answer, those that it told last.
    pub(crate) fn now(&self) -> OwnAddresses {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.elapsed() >= FRESH {
            match own_addresses() {
                Ok(own) => *last = (Instant::now(), own),
                Err(error) => tracing::warn!(%error, "cannot list the host's addresses"),
            }
        }
        last.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_the_addresses_of_all_interfaces() {
        let addresses: Vec<IpAddr> = getifaddrs()
            .expect("interfaces")
            .filter_map(|interface| ip(&interface.address?))
            .collect();
        assert!(addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{addresses:?}");
    }
}
