//! The world outside of the sandbox, on loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use matchlock_testkit::dns::{Authority, Reply};
use matchlock_testkit::origin::Origin;

/// Where the agent may go.
pub(super) const API: &str = "api.example.com";
/// Where it may not.
pub(super) const EVIL: &str = "evil.example.net";

/// Two web servers and the name server that knows both.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) api: Origin,
    pub(super) evil: Origin,
    pub(super) names: Authority,
    /// The key that the API expects.
    pub(super) key: String,
    /// A file with the authorities of both servers.
    pub(super) ca: PathBuf,
}

impl Outside {
    /// Starts them; they end with the value.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let (api, evil) = (Origin::start(&[API]), Origin::start(&[EVIL]));
        let names = Authority::new();
        // Both can be had, so that it is not for want of an address that one is not reached.
        for name in [API, EVIL] {
            names.set(name, Reply::addresses(&["127.0.0.1"]));
        }
        let ca = directory.join("ca.pem");
        fs::write(&ca, format!("{}{}", api.ca_pem(), evil.ca_pem()))
            .with_context(|| format!("cannot write {}", ca.display()))?;
        Ok(Self { api, evil, names, key: key()?, ca })
    }

    pub(super) fn print(&self) {
        for (name, address) in [(API, self.api.https()), (EVIL, self.evil.https())] {
            println!("  {name:<18} https, on {address}");
        }
        println!("  {:<18} on {}", "name server", self.names.address());
    }

    /// What the agent reports to.
    pub(super) fn api_url(&self) -> String {
        url(API, self.api.https())
    }

    /// Where it must not get.
    pub(super) fn evil_url(&self) -> String {
        url(EVIL, self.evil.https())
    }
}

/// The server answers an upload with its length and its digest.
fn url(host: &str, address: SocketAddr) -> String {
    format!("https://{host}:{}/upload", address.port())
}

/// A key that nothing else holds.
fn key() -> Result<String> {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("the kernel gives no random identifier")?;
    Ok(format!("sk-demo-{}", random.trim().replace('-', "")))
}
