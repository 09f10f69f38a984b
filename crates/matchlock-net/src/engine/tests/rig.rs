//! An engine without a stack below it, and what it talks to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use matchlock_intercept::hooks::Rules;
use matchlock_policy::{DefaultEgress, Policy, PolicyConfig, PrivateAccess};
use matchlock_testkit::dns;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::audit::{Audit, AuditLost, Event};
use crate::dial::ProxySettings;
use crate::engine::Engine;
use crate::engine::stream::BoxedStream;
use crate::engine::tcp::{self, Pending};
use crate::network::{NetConfig, engine};
use crate::stack::Addressing;
use crate::tls::provider;

/// For anything that has to happen.
const SOON: Duration = Duration::from_secs(20);

pub(super) struct Rig {
    pub(super) engine: Arc<Engine>,
    pub(super) dns: dns::Authority,
    pub(super) audit: Arc<Recorder>,
}

/// What a rig is made of.
#[derive(Default)]
pub(super) struct Setup<'a> {
    pub(super) allow: &'a [&'a str],
    pub(super) public: bool,
    pub(super) intercept: bool,
    pub(super) ca: Vec<CertificateDer<'static>>,
    pub(super) private: bool,
    pub(super) add_hosts: &'a [(&'a str, &'a str)],
}

impl Rig {
    /// A sealed sandbox that may reach these hosts on the loopback interface.
    pub(super) fn sealed(allow: &[&str], ca: Vec<CertificateDer<'static>>) -> Self {
        Self::new(Setup { allow, ca, private: true, ..Setup::default() })
    }

    pub(super) fn new(setup: Setup<'_>) -> Self {
        let dns = dns::Authority::new();
        let audit = Arc::new(Recorder::default());
        let config = NetConfig {
            mtu: 1500,
            policy: setup.policy(),
            rules: Rules::default(),
            callback_socket: None,
            dns_servers: vec![dns.address()],
            upstream_ca: setup.ca,
            proxy: ProxySettings::default(),
            audit: Arc::clone(&audit) as Arc<dyn Audit>,
        };
        let engine = engine(config, &Addressing::default(), false).expect("an engine");
        Self { engine, dns, audit }
    }

    /// The name server gives these addresses to a name.
    pub(super) fn resolve(&self, name: &str, addresses: &[&str]) {
        self.dns.set(name, dns::Reply::addresses(addresses));
    }

    /// The guest dials a name that it has resolved.
    pub(super) async fn dial(&self, name: &str, port: u16) -> Option<DuplexStream> {
        let name = name.parse().expect("a host name");
        let address = self.engine.address_of(&name).expect("a synthetic address");
        self.dial_address((address, port).into()).await
    }

    /// The guest dials an address; none if it is refused.
    pub(super) async fn dial_address(&self, destination: SocketAddr) -> Option<DuplexStream> {
        let (answer, answered) = oneshot::channel();
        let syn = Syn { destination, answer };
        tokio::spawn(tcp::run(Arc::clone(&self.engine), syn));
        soon(answered).await.ok()
    }

    /// A client of the guest's that trusts the sandbox's authority.
    pub(super) fn client(&self, alpn: &[&str]) -> ClientConfig {
        let ca = certificate(self.engine.authority.ca_pem());
        client(ca, alpn)
    }

    /// The guest dials `name` and makes a TLS session for `sni`.
    pub(super) async fn tls(
        &self,
        name: &str,
        port: u16,
        sni: &str,
        alpn: &[&str],
    ) -> io::Result<TlsStream<DuplexStream>> {
        let stream = self.dial(name, port).await.expect("the flow is accepted");
        handshake(self.client(alpn), sni, stream).await
    }
}

impl Setup<'_> {
    fn policy(&self) -> Policy {
        let loopback = PrivateAccess::ranges(vec!["127.0.0.0/8".parse().expect("a range")]);
        let parse = |text: &&str| text.parse().expect("a pattern");
        let add = |&(name, ip): &(&str, &str)| {
            (name.parse().expect("a name"), ip.parse().expect("an address"))
        };
        Policy::new(PolicyConfig {
            allowed_hosts: self.allow.iter().map(parse).collect(),
            default_egress: if self.public { DefaultEgress::Public } else { DefaultEgress::Deny },
            private: if self.private { loopback } else { PrivateAccess::none() },
            intercept: self.intercept,
            add_hosts: self.add_hosts.iter().map(add).collect(),
            ..PolicyConfig::default()
        })
    }
}

/// A SYN of the guest's.
struct Syn {
    destination: SocketAddr,
    answer: oneshot::Sender<DuplexStream>,
}

impl Pending for Syn {
    fn destination(&self) -> SocketAddr {
        self.destination
    }

    fn accept(self) -> impl Future<Output = io::Result<BoxedStream>> + Send {
        let (guest, near) = tokio::io::duplex(256 * 1024);
        let _ = self.answer.send(guest);
        let near: BoxedStream = Box::new(near);
        std::future::ready(Ok(near))
    }

    fn refuse(self) {}
}

/// Remembers events until it is told to fail.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    events: Mutex<Vec<Event>>,
    fails: AtomicBool,
}

impl Recorder {
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no test panics in here").clone()
    }

    pub(super) fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    /// Waits for an event.
    pub(super) async fn wait<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let seen = async {
            loop {
                if let Some(found) = self.events().iter().find_map(&wanted) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        soon(seen).await
    }

    /// The reasons of refused flows, opened ones and others.
    pub(super) fn refusals(&self) -> Vec<String> {
        let reason = |event: &Event| match event {
            Event::FlowRefused { reason, .. } => Some(reason.clone()),
            Event::FlowOpen { reason, .. } => reason.clone(),
            _ => None,
        };
        self.events().iter().filter_map(reason).map(|reason| reason.to_string()).collect()
    }
}

impl Audit for Recorder {
    fn record(&self, event: &Event) -> Result<(), AuditLost> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(AuditLost::new("the disk is full"));
        }
        self.events.lock().expect("no test panics in here").push(event.clone());
        Ok(())
    }
}

/// What must not take for ever.
pub(super) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("this happens in time")
}

pub(super) fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// A TLS client that trusts one authority.
pub(super) fn client(ca: CertificateDer<'static>, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ca).expect("the certificate is usable");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has all versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

pub(super) async fn handshake(
    config: ClientConfig,
    sni: &str,
    stream: DuplexStream,
) -> io::Result<TlsStream<DuplexStream>> {
    let sni = ServerName::try_from(sni.to_owned()).expect("a server name");
    soon(TlsConnector::from(Arc::new(config)).connect(sni, stream)).await
}

/// Writes a request and reads until the other side closes, or the response seems complete.
pub(super) async fn ask(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    host: &str,
    path: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut response = Vec::new();
    // How a connection ends is not what is looked at here.
    let _ = soon(stream.read_to_end(&mut response)).await;
    String::from_utf8_lossy(&response).into_owned()
}

/// A certificate for a server of a test, and the authority that issued it.
pub(super) struct Identity {
    pub(super) ca: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: rcgen::KeyPair,
}

impl Identity {
    pub(super) fn new(name: &str) -> Self {
        Self::valid_until(name, SystemTime::now() + Duration::from_secs(3600))
    }

    pub(super) fn valid_until(name: &str, end: SystemTime) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("an authority").der().clone();
        let issuer = rcgen::Issuer::new(params, key);
        let leaf_key = rcgen::KeyPair::generate().expect("a key");
        let mut leaf =
            rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name for a server");
        let since = end.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        leaf.not_after = rcgen::date_time_ymd(1970, 1, 1) + since;
        let chain = vec![leaf.signed_by(&leaf_key, &issuer).expect("a leaf").der().clone()];
        Self { ca, chain, key: leaf_key }
    }

    pub(super) fn acceptor(&self, alpn: &[&str]) -> TlsAcceptor {
        self.acceptor_with(provider(), alpn)
    }

    pub(super) fn acceptor_with(
        &self,
        provider: Arc<CryptoProvider>,
        alpn: &[&str],
    ) -> TlsAcceptor {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has all versions")
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), key)
            .expect("key and certificate fit");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Listens on the loopback interface.
pub(super) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// The reason code of the TLS alert that a handshake ended with.
pub(super) fn alert(error: &io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
