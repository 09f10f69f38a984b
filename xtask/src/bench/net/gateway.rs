//! The proxy as a process of its own: what a sandbox's supervisor does with a flow, for clients
//! outside of a VM.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use matchlock_net::bench::Proxy;
use matchlock_net::{Audit, AuditLost, Event, NetConfig, ProxySettings};
use matchlock_policy::{Policy, PolicyConfig, SecretName, SecretSpec, SecretValue, Secrets};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::world::{HOST, Way, World};
use crate::bench::procfs::Process;

/// What the proxy is told, as a line on its standard input.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    names: SocketAddr,
    ca_pem: String,
    hosts: Vec<String>,
    port: u16,
    trail: PathBuf,
}

/// What it answers when it is ready, as a line on its standard output.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    ca_pem: String,
    addresses: Vec<SocketAddr>,
}

/// The running proxy; it ends with the value.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    stdin: Option<ChildStdin>,
    ready: Ready,
    ca: PathBuf,
}

impl Gateway {
    /// Starts one for all hosts of the world.
    pub(super) fn start(world: &World) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(own);
        command.args(["bench", "net", "--gateway"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the proxy")?;
        let mut stdin = child.stdin.take().context("no pipe")?;
        let order = Order {
            names: world.names.address(),
            ca_pem: world.origin.ca_pem().to_owned(),
            hosts: world.hosts.clone(),
            port: world.port(),
            trail: world.files.path().join("trail"),
        };
        writeln!(stdin, "{}", serde_json::to_string(&order)?)?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
        let ready: Ready = serde_json::from_str(&line).context("the proxy did not get ready")?;
        let ca = world.files.path().join("gateway.pem");
        fs::write(&ca, &ready.ca_pem).context("cannot write the proxy's authority")?;
        Ok(Self { child, stdin: Some(stdin), ready, ca })
    }

    /// The way to a host of the world through the proxy.
    pub(super) fn way(&self, host: usize) -> Way {
        let address = self.ready.addresses[host];
        let ca_pem = self.ready.ca_pem.clone();
        Way { name: "intercepted", ca_pem, ca: self.ca.clone(), address }
    }

    pub(super) fn process(&self) -> Process {
        Process(self.child.id())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// Is the proxy, until standard input ends.
pub(super) fn serve() -> Result<()> {
    let mut lines = io::stdin().lock().lines();
    let order: Order =
        serde_json::from_str(&lines.next().context("nothing to do")??).context("a bad order")?;
    let hosts = order.hosts.iter().map(|host| host.parse()).collect::<Result<Vec<_>, _>>()?;
    let proxy = Proxy::start(config(&order)?)?;
    let listen = |name| proxy.listen(name, order.port);
    let addresses = hosts.into_iter().map(listen).collect::<Result<Vec<_>, _>>()?;
    let ready = Ready { ca_pem: proxy.ca_pem().to_owned(), addresses };
    println!("{}", serde_json::to_string(&ready)?);
    // Nothing more comes: it is the end that is waited for.
    lines.for_each(drop);
    Ok(())
}

/// A sealed sandbox with a secret, so that every request is searched for it.
fn config(order: &Order) -> Result<NetConfig> {
    let upstream_ca = CertificateDer::pem_slice_iter(order.ca_pem.as_bytes());
    Ok(NetConfig {
        mtu: 1500,
        policy: Policy::new(PolicyConfig {
            allowed_hosts: order.hosts.iter().map(|host| host.parse()).collect::<Result<_, _>>()?,
            private: "127.0.0.1/32".parse()?,
            secrets: secrets()?,
            ..PolicyConfig::default()
        }),
        rules: Default::default(),
        callback_socket: None,
        dns_servers: vec![order.names],
        upstream_ca: upstream_ca.collect::<Result<_, _>>().context("a bad authority")?,
        proxy: ProxySettings::default(),
        audit: Arc::new(Trail::create(&order.trail)?),
    })
}

fn secrets() -> Result<Secrets> {
    let name: SecretName = "API_KEY".parse()?;
    let value = SecretValue::new(b"sk-bench-not-a-secret")?;
    let spec = SecretSpec::new(name, value, vec![HOST.parse()?]);
    Ok(Secrets::new(vec![spec], &mut || [7; 16])?)
}

/// Costs what the audit trail of a sandbox costs: JSON, two digests and a write for each event.
#[derive(Debug)]
struct Trail(Mutex<File>);

impl Trail {
    fn create(path: &PathBuf) -> Result<Self> {
        Ok(Self(Mutex::new(File::create(path).context("cannot make the trail")?)))
    }
}

impl Audit for Trail {
    fn record(&self, event: &Event) -> Result<(), AuditLost> {
        let mut line = serde_json::to_vec(event).map_err(AuditLost::new)?;
        for _ in 0..2 {
            let digest = Sha256::digest(&line);
            line.extend(digest.iter().flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]));
        }
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(AuditLost::new)
    }
}
