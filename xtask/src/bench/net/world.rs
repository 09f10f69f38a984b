//! The servers that are measured against.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use matchlock_testkit::dns::{Authority, Reply};
use matchlock_testkit::origin::Origin;

/// The host of everything but the handshakes.
pub(super) const HOST: &str = "api.example.com";
/// How many hosts there are beside it.
pub(super) const HOSTS: usize = 100;

/// A web server of many names, and the name server that knows them.
#[derive(Debug)]
pub(super) struct World {
    pub(super) origin: Origin,
    pub(super) names: Authority,
    /// [`HOST`], then the others.
    pub(super) hosts: Vec<String>,
    pub(super) files: tempfile::TempDir,
}

impl World {
    pub(super) fn start() -> Result<Self> {
        let others = (1..=HOSTS).map(|number| format!("h{number}.example.com"));
        let hosts: Vec<_> = std::iter::once(HOST.to_owned()).chain(others).collect();
        let origin = Origin::start(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
        let names = Authority::new();
        for host in &hosts {
            names.set(host, Reply::addresses(&["127.0.0.1"]).ttl(300));
        }
        let files = tempfile::tempdir().context("cannot make a temporary directory")?;
        let world = Self { origin, names, hosts, files };
        fs::write(world.ca(), world.origin.ca_pem()).context("cannot write the authority")?;
        Ok(world)
    }

    /// The way to the server without anything of ours between.
    pub(super) fn direct(&self) -> Way {
        let ca_pem = self.origin.ca_pem().to_owned();
        Way { name: "direct", ca_pem, ca: self.ca(), address: self.origin.https() }
    }

    /// The server's port, which is part of its URLs.
    pub(super) fn port(&self) -> u16 {
        self.origin.https().port()
    }

    /// The server's authority as a file.
    pub(super) fn ca(&self) -> PathBuf {
        self.files.path().join("origin.pem")
    }
}

/// How a client gets to a host.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) name: &'static str,
    /// Whom to trust.
    pub(super) ca_pem: String,
    /// The same as a file.
    pub(super) ca: PathBuf,
    /// Where to connect.
    pub(super) address: SocketAddr,
}
