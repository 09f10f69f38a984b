//! Which servers are asked: given ones, or those of the host's `resolv.conf`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, netdevice};

const PORT: u16 = 53;
/// As many as the C library asks (resolv.conf(5), MAXNS).
const MAX_SERVERS: usize = 3;
/// The bounds that resolv.conf(5) sets for `timeout` (ours is lower) and `attempts`.
const MAX_TIMEOUT: u64 = 5;
const MAX_ATTEMPTS: u32 = 5;
/// More than that is no `resolv.conf`. Bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Servers in the order in which they are asked, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Servers {
    pub(crate) addresses: Vec<SocketAddr>,
    /// How long one server may take for one try.
    pub(crate) timeout: Duration,
    /// Rounds over all servers.
    pub(crate) attempts: u32,
}

/// Why there is no server to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoServer {
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} names no usable nameserver", path.display())]
    None { path: PathBuf },
}

/// Where [`Servers`] come from.
#[derive(Debug)]
pub(crate) enum Source {
    Given(Arc<Servers>),
    File { path: PathBuf, last: Mutex<Option<(Stamp, Arc<Servers>)>> },
}

/// What changes when a file is replaced or written to: device, inode, length, time in nanoseconds.
pub(crate) type Stamp = (u64, u64, u64, i64, i64);

impl Source {
    /// The given servers, or the system's `resolv.conf` when there are none.
    pub(crate) fn new(given: &[SocketAddr]) -> Self {
        if given.is_empty() {
            return Self::file("/etc/resolv.conf");
        }
        Self::Given(Arc::new(Servers { addresses: given.to_vec(), ..Servers::default() }))
    }

    /// A file in the format of resolv.conf(5).
    pub(crate) fn file(path: impl Into<PathBuf>) -> Self {
        Self::File { path: path.into(), last: Mutex::new(None) }
    }

    /// The servers of this moment: a changed file is read again.
    pub(crate) fn servers(&self) -> Result<Arc<Servers>, NoServer> {
        let (path, last) = match self {
            Self::Given(servers) => return Ok(Arc::clone(servers)),
            Self::File { path, last } => (path, last),
        };
        let unreadable = |cause| NoServer::Unreadable { path: path.clone(), cause };
        let meta = fs::metadata(path).map_err(unreadable)?;
        let stamp = (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, servers)) = last.as_ref()
            && *read == stamp
        {
            return Ok(Arc::clone(servers));
        }
        if meta.len() > MAX_FILE {
            return Err(unreadable(io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read(path).map_err(unreadable)?;
        let servers = Servers::parse(&String::from_utf8_lossy(&text));
        if servers.addresses.is_empty() {
            return Err(NoServer::None { path: path.clone() });
        }
        let servers = Arc::new(servers);
        *last = Some((stamp, Arc::clone(&servers)));
        Ok(servers)
    }
}

impl Default for Servers {
    fn default() -> Self {
        Self { addresses: Vec::new(), timeout: Duration::from_secs(2), attempts: 2 }
    }
}

impl Servers {
    /// Reads `nameserver` and, of `options`, `timeout` and `attempts`. A line that makes no sense
    /// is skipped, as the C library does.
    pub(crate) fn parse(text: &str) -> Self {
        let mut servers = Self::default();
        for line in text.lines() {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(address) = words.next().and_then(parse_address)
                        && servers.addresses.len() < MAX_SERVERS
                    {
                        servers.addresses.push(address);
                    }
                }
                Some("options") => words.for_each(|option| servers.option(option)),
                _ => {}
            }
        }
        servers
    }

    fn option(&mut self, option: &str) {
        match option.split_once(':') {
            Some(("timeout", seconds)) => {
                if let Ok(seconds) = seconds.parse::<u64>() {
                    self.timeout = Duration::from_secs(seconds.clamp(1, MAX_TIMEOUT));
                }
            }
            Some(("attempts", count)) => {
                if let Ok(count) = count.parse::<u32>() {
                    self.attempts = count.clamp(1, MAX_ATTEMPTS);
                }
            }
            _ => {}
        }
    }
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    };
    let scope = zone.parse().ok().or_else(|| interface(zone))?;
    Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, PORT, 0, scope).into())
}

fn interface(name: &str) -> Option<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(&socket, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<String> {
        Servers::parse(text).addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_are_read_in_order_up_to_the_limit() {
        let text = "# nameserver 9.9.9.9\n; nameserver 9.9.9.9\nsearch example.com\n\
            nameserver 192.0.2.1\nnameserver\t2001:db8::1  trailing\nnameserver no\n\
            nameserver fe80::1%1\nnameserver 192.0.2.4\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"];
        assert_eq!(addresses(text), expected);
        assert_eq!(addresses("nameserver fe80::1%lo"), ["[fe80::1%1]:53"]);
        assert_eq!(addresses("nameserver fe80::1%no-such-thing\nnameserver"), [""; 0]);
    }

    #[test]
    fn options_are_clamped_and_the_others_are_left_alone() {
        let servers = Servers::parse("options edns0 timeout:0 attempts:99 rotate\noptions");
        assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(1), MAX_ATTEMPTS));
        let servers = Servers::parse("options timeout:x attempts:");
        assert_eq!(servers, Servers::default());
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("resolv.conf");
        let source = Source::file(&path);
        assert!(matches!(source.servers(), Err(NoServer::Unreadable { .. })));
        fs::write(&path, "search example.com\n").expect("written");
        let error = source.servers().expect_err("no server");
        assert!(error.to_string().ends_with("resolv.conf names no usable nameserver"), "{error}");
        fs::write(&path, "nameserver 192.0.2.1\n").expect("written");
        let first = source.servers().expect("servers");
        assert!(Arc::ptr_eq(&first, &source.servers().expect("servers")));
        fs::write(&path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").expect("written");
        assert_eq!(source.servers().expect("servers").addresses.len(), 2);
    }

    #[test]
    fn given_servers_win() {
        let address = "192.0.2.9:5353".parse().expect("an address");
        let servers = Source::new(&[address]).servers().expect("servers");
        assert_eq!(servers.addresses, [address]);
    }
}
