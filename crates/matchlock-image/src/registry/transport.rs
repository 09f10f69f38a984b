//! Connections, and one exchange over each at a time: HTTP/1.1 over TLS or none.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use matchlock_policy::{Endpoint, Host};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::{Registries, Security};
use super::dial::{Dial, DialError, Dialed, Reach};
use super::error::{BrokenError, RegistryError, TlsError};
use super::url::{Scheme, Url};
use crate::reference::RegistryName;

/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// The same where the server may not speak TLS at all, and is on this host.
const HANDSHAKE_LOOPBACK: Duration = Duration::from_secs(3);
/// How long nothing may come: neither the head of an answer nor the next part of its body.
const IDLE: Duration = Duration::from_secs(60);
/// Most bytes of a head.
const MAX_HEAD: usize = 64 * 1024;
/// Most fields of a head.
const MAX_FIELDS: usize = 128;
/// Connections that are kept for each place.
const MAX_IDLE: usize = 4;
/// Bytes of a body that nobody wants, up to which reading them is cheaper than a new connection.
const MAX_DISCARDED: usize = 16 * 1024;

/// And how long reading them may take.
const DISCARDING: Duration = Duration::from_secs(1);

/// Where a request goes, and whose settings hold there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    pub(crate) security: Security,
    /// The registry whose `ca` is trusted.
    pub(crate) trust: RegistryName,
    pub(crate) reach: Reach,
}

/// A request without the fields that each has.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer, its body still to come.
pub(crate) struct Answer {
    head: Response<()>,
    body: Incoming,
    /// Taken when the body is complete.
    connection: Option<Connection>,
    transport: Arc<Transport>,
    place: Place,
    private: bool,
    scheme: Scheme,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    private: bool,
    tls: bool,
}

/// Makes and keeps connections.
#[derive(Debug)]
pub(crate) struct Transport {
    dial: Arc<dyn Dial>,
    registries: Registries,
    user_agent: HeaderValue,
    roots: OnceCell<RootCertStore>,
    configs: Mutex<HashMap<RegistryName, Arc<ClientConfig>>>,
    /// On this host, and known to speak no TLS.
    plain: Mutex<HashSet<Endpoint>>,
    idle: Mutex<HashMap<Place, Vec<Connection>>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Transport {
    pub(crate) fn new(dial: Arc<dyn Dial>, registries: Registries, user_agent: &str) -> Self {
        let user_agent = HeaderValue::from_str(user_agent);
        Self {
            dial,
            registries,
            user_agent: user_agent.unwrap_or(HeaderValue::from_static("matchlock")),
            roots: OnceCell::new(),
            configs: Mutex::default(),
            plain: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    pub(crate) fn registries(&self) -> &Registries {
        &self.registries
    }

    /// One exchange, without a second attempt but for a kept connection that has gone stale.
    pub(crate) async fn send(
        self: &Arc<Self>,
        place: &Place,
        ask: &Ask,
    ) -> Result<Answer, RegistryError> {
        while let Some(mut connection) = self.kept(place) {
            match exchange(&mut connection, self.request(place, ask)?).await {
                Ok(response) => return Ok(self.answer(place, connection, response)),
                Err(idle @ BrokenError::Idle(_)) => return Err(broken(&place.endpoint, idle)),
                Err(_stale) => {}
            }
        }
        let mut connection = self.connect(place).await?;
        let response = exchange(&mut connection, self.request(place, ask)?).await;
        let response = response.map_err(|source| broken(&place.endpoint, source))?;
        Ok(self.answer(place, connection, response))
    }

    fn request(&self, place: &Place, ask: &Ask) -> Result<Request<Full<Bytes>>, RegistryError> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        let unwritable = || RegistryError::Request { server: shown(&place.endpoint) };
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.url.target().parse().map_err(|_| unwritable())?;
        *request.headers_mut() = ask.headers.clone();
        let host = HeaderValue::from_str(&ask.url.host_field()).map_err(|_| unwritable())?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        Ok(request)
    }

    fn answer(
        self: &Arc<Self>,
        place: &Place,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Answer {
        let (parts, body) = response.into_parts();
        Answer {
            head: Response::from_parts(parts, ()),
            body,
            private: connection.private,
            scheme: if connection.tls { Scheme::Https } else { Scheme::Http },
            connection: Some(connection),
            transport: Arc::clone(self),
            place: place.clone(),
        }
    }

    fn kept(&self, place: &Place) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        let kept = idle.get_mut(place)?;
        std::iter::from_fn(|| kept.pop()).find(|connection| !connection.sender.is_closed())
    }

    fn keep(&self, place: &Place, connection: Connection) {
        let mut idle = lock(&self.idle);
        let kept = idle.entry(place.clone()).or_default();
        if kept.len() < MAX_IDLE && !connection.sender.is_closed() {
            kept.push(connection);
        }
    }

    async fn connect(&self, place: &Place) -> Result<Connection, RegistryError> {
        match place.security {
            Security::Plain => self.plain(place).await,
            Security::Tls => self.secure(place, HANDSHAKE).await,
            Security::Loopback if lock(&self.plain).contains(&place.endpoint) => {
                self.plain(place).await
            }
            Security::Loopback => match self.secure(place, HANDSHAKE_LOOPBACK).await {
                Err(RegistryError::Tls {
                    source: TlsError::NotTls | TlsError::Timeout | TlsError::Handshake(_),
                    ..
                }) => {
                    let connection = self.plain(place).await?;
                    lock(&self.plain).insert(place.endpoint.clone());
                    Ok(connection)
                }
                result => result,
            },
        }
    }

    async fn plain(&self, place: &Place) -> Result<Connection, RegistryError> {
        let Dialed { stream, private } = self.dial(place).await?;
        handshake(&place.endpoint, Box::new(stream), private, false).await
    }

    async fn secure(&self, place: &Place, limit: Duration) -> Result<Connection, RegistryError> {
        let Dialed { stream, private } = self.dial(place).await?;
        let failed = |source| RegistryError::Tls { server: shown(&place.endpoint), source };
        let config = self.config(&place.trust).await.ok_or_else(|| failed(TlsError::Setup))?;
        let name = server_name(&place.endpoint.host).ok_or_else(|| failed(TlsError::Setup))?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        let stream = match timeout(limit, connecting).await {
            Ok(result) => result.map_err(|error| failed(tls_error(error)))?,
            Err(_) => return Err(failed(TlsError::Timeout)),
        };
        handshake(&place.endpoint, Box::new(stream), private, true).await
    }

    async fn dial(&self, place: &Place) -> Result<Dialed, RegistryError> {
        let host = match &place.endpoint.host {
            Host::Ip(ip) => ip.to_canonical().to_string(),
            Host::Name(name) => name.to_string(),
        };
        let dialed = self.dial.dial(&host, place.endpoint.port, place.reach).await;
        let failed = |source| RegistryError::Connect { server: shown(&place.endpoint), source };
        match dialed {
            // The dialler promises it; here it matters.
            Ok(Dialed { private: true, stream }) if place.reach == Reach::PublicOnly => {
                let peer = stream.peer_addr().map(|peer| peer.ip());
                Err(failed(peer.map_or_else(DialError::Unreachable, DialError::NotPublic)))
            }
            other => other.map_err(failed),
        }
    }

    async fn config(&self, trust: &RegistryName) -> Option<Arc<ClientConfig>> {
        let dial = Arc::clone(&self.dial);
        let load = async || tokio::task::spawn_blocking(move || dial.roots()).await;
        let roots = self.roots.get_or_try_init(load).await.ok()?;
        if let Some(config) = lock(&self.configs).get(trust) {
            return Some(Arc::clone(config));
        }
        let mut roots = roots.clone();
        roots.add_parsable_certificates(self.registries.ca(trust).iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        lock(&self.configs).insert(trust.clone(), Arc::clone(&config));
        Some(config)
    }
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.head.headers()
    }

    /// Whether the server has no public address.
    pub(crate) fn private(&self) -> bool {
        self.private
    }

    /// As the connection turned out to be.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// For errors.
    pub(crate) fn server(&self) -> String {
        shown(&self.place.endpoint)
    }

    /// The next part of the body; `None` behind its end.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, BrokenError>> {
        loop {
            match timeout(IDLE, self.body.frame()).await {
                Err(_) => return Some(Err(BrokenError::Idle(IDLE.as_secs()))),
                Ok(Some(Err(error))) => return Some(Err(BrokenError::Http(error.into()))),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Ok(None) => {
                    if let Some(connection) = self.connection.take() {
                        self.transport.keep(&self.place, connection);
                    }
                    return None;
                }
            }
        }
    }

    /// The whole body.
    pub(crate) async fn read(
        mut self,
        what: &'static str,
        limit: usize,
    ) -> Result<Bytes, RegistryError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk.map_err(|source| broken(&self.place.endpoint, source))?;
            if all.len() + chunk.len() > limit {
                return Err(RegistryError::TooLarge { server: self.server(), what, limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Gives the connection back if that is cheap.
    pub(crate) async fn discard(self) {
        let _ = timeout(DISCARDING, self.read("an answer", MAX_DISCARDED)).await;
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A server for people: its host, and its port if it is not the usual one.
pub(crate) fn shown(endpoint: &Endpoint) -> String {
    if endpoint.port == 443 { endpoint.host.to_string() } else { endpoint.to_string() }
}

pub(crate) fn broken(endpoint: &Endpoint, source: BrokenError) -> RegistryError {
    RegistryError::Broken { server: shown(endpoint), source }
}

async fn handshake(
    endpoint: &Endpoint,
    stream: Box<dyn Stream>,
    private: bool,
    tls: bool,
) -> Result<Connection, RegistryError> {
    let mut builder = Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
    let failed = |error: hyper::Error| broken(endpoint, BrokenError::Http(error.into()));
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends with the sender and the body of the last answer; its error is theirs too.
    tokio::spawn(connection);
    Ok(Connection { sender, private, tls })
}

async fn exchange(
    connection: &mut Connection,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, BrokenError> {
    let answer = async {
        connection.sender.ready().await?;
        connection.sender.send_request(request).await
    };
    match timeout(IDLE, answer).await {
        Ok(result) => result.map_err(|error| BrokenError::Http(error.into())),
        Err(_) => Err(BrokenError::Idle(IDLE.as_secs())),
    }
}

fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Ip(ip) => Some(ServerName::from(ip.to_canonical())),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
    }
}

fn tls_error(error: io::Error) -> TlsError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => TlsError::NotTls,
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            TlsError::UnknownIssuer
        }
        Some(wrong @ rustls::Error::InvalidCertificate(_)) => TlsError::Certificate(wrong.clone()),
        _ => TlsError::Handshake(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
