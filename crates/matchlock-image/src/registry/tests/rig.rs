//! A client whose names lead to registries of this process, and whose waits take no time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use matchlock_policy::{AddressClass, classify};
use matchlock_testkit::registry::FakeRegistry;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpStream;

use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::{
    BoxFuture, Client, Credentials, Dial, DialError, Dialed, Manifest, Reach, Registries,
    RegistryError, Wait,
};

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Names of the test's network.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: HashMap<String, (SocketAddr, bool)>,
    roots: Vec<CertificateDer<'static>>,
    dialed: Mutex<Vec<String>>,
}

impl Hosts {
    /// `host`, on the public network.
    pub(super) fn public(mut self, host: &str, registry: &FakeRegistry) -> Self {
        self.hosts.insert(host.to_owned(), (registry.address(), false));
        self
    }

    /// `host`, on a private network.
    pub(super) fn private(mut self, host: &str, registry: &FakeRegistry) -> Self {
        self.hosts.insert(host.to_owned(), (registry.address(), true));
        self
    }

    /// `host`, where nobody listens.
    pub(super) fn dead(mut self, host: &str) -> Self {
        let closed = SocketAddr::from(([127, 0, 0, 1], 0));
        self.hosts.insert(host.to_owned(), (closed, false));
        self
    }

    pub(super) fn trusting(mut self, registry: &FakeRegistry) -> Self {
        let certificate = CertificateDer::from_pem_slice(registry.ca_pem().as_bytes());
        self.roots.push(certificate.expect("a certificate"));
        self
    }

    pub(super) fn rig(self) -> Rig {
        self.rig_with(Registries::default(), Credentials::none())
    }

    pub(super) fn rig_with(self, registries: Registries, credentials: Credentials) -> Rig {
        let (hosts, waits) = (Arc::new(self), Arc::new(Waits::default()));
        let dial: Arc<dyn Dial> = Arc::<Self>::clone(&hosts);
        let wait: Arc<dyn Wait> = Arc::<Waits>::clone(&waits);
        let client = Client::with_waits(dial, registries, credentials, "matchlock/test", wait);
        Rig { hosts, waits, client }
    }
}

impl Dial for Hosts {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        reach: Reach,
    ) -> BoxFuture<'a, Result<Dialed, DialError>> {
        self.dialed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{host}:{port}"));
        Box::pin(async move {
            let literal = host.parse::<IpAddr>().ok();
            let known = self.hosts.get(host).copied();
            let direct =
                literal.map(|ip| (SocketAddr::new(ip, port), classify(ip) != AddressClass::Public));
            let unknown = || DialError::Resolve(io::ErrorKind::NotFound.into());
            let (address, private) = known.or(direct).ok_or_else(unknown)?;
            if private && reach == Reach::PublicOnly {
                return Err(DialError::NotPublic(literal.unwrap_or(address.ip())));
            }
            if address.port() == 0 {
                return Err(DialError::Refused);
            }
            let stream = TcpStream::connect(address).await.map_err(DialError::Unreachable)?;
            Ok(Dialed { stream, private })
        })
    }

    fn roots(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().cloned());
        store
    }
}

#[derive(Debug, Default)]
struct Waits(Mutex<Vec<Duration>>);

impl Wait for Waits {
    fn wait(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(time);
        Box::pin(tokio::task::yield_now())
    }
}

#[derive(Debug)]
pub(super) struct Rig {
    hosts: Arc<Hosts>,
    waits: Arc<Waits>,
    pub(super) client: Client,
}

impl Rig {
    pub(super) async fn manifest(&self, image: &str) -> Result<Manifest, RegistryError> {
        self.client.manifest(&reference(image)).await
    }

    /// All of a blob from a place on: where the stream began, and what came.
    pub(super) async fn blob(
        &self,
        image: &str,
        digest: &str,
        from: u64,
    ) -> Result<(u64, Vec<u8>), RegistryError> {
        let digest: Digest = digest.parse().expect("a digest");
        let mut stream = self.client.blob(&reference(image), &digest, from).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        Ok((stream.start(), bytes))
    }

    pub(super) fn dialed(&self) -> Vec<String> {
        self.hosts.dialed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn waits(&self) -> Vec<Duration> {
        self.waits.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(super) fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

pub(super) fn registries(json: &str) -> Registries {
    Registries::parse(json.as_bytes()).expect("settings")
}

/// A plain registry with a manifest `library/app:latest`, which also is `app:1`.
pub(super) fn stocked() -> FakeRegistry {
    stock(FakeRegistry::plain())
}

pub(super) fn stock(registry: FakeRegistry) -> FakeRegistry {
    for repository in ["library/app", "app"] {
        registry.put_manifest(repository, "latest", OCI_MANIFEST, b"{\"a\":1}");
    }
    registry
}

/// The chain of an error, as people see it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    matchlock_text::DescribeChain(error).to_string()
}

/// Bytes that are nowhere alike.
pub(super) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 31 + n / 251) % 251).unwrap_or(0)).collect()
}
