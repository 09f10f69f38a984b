//! A web server for tests: HTTP/1.1 and HTTP/2, with and without TLS, that remembers every request as
//! it arrived.
//!
//! The HTTP/1.1 side is written by hand, so that heads are recorded byte for byte and the odd things
//! that real servers do (early answers, silent closes, interim responses) can be had at will.
//! [`routes`](self) are paths of the request:
//!
//! | path | answer |
//! |---|---|
//! | `/echo` | JSON of the request: method, target, version, headers, body |
//! | `/reflect` | the request's body, streamed back as it comes, with its trailers |
//! | `/bytes/N` | N bytes of a pattern, with their length |
//! | `/upload` | JSON of the body's length and SHA-256 |
//! | `/discard` | reads the body and forgets it: an upload without the cost of a digest |
//! | `/sse?n=3` | n events, `&wait` sends each when [`Origin::release`] says so |
//! | `/chunked?n=3`, `/trailers` | chunks without a length; the same and a `x-checksum` trailer |
//! | `/status/N` | that status; a small body where one is allowed |
//! | `/ws` | a WebSocket that echoes; over HTTP/2 by extended CONNECT |
//! | `/early-hints` | 103, then 200 |
//! | `/refuse` | 413 before the body was read, then close |
//! | `/close`, `/until-close` | `Connection: close`; a body that the end of the connection ends |
//! | `/stale` | an ordinary answer, after which the connection is closed without a word |
//! | `/abort`, `/truncate` | closes without an answer; within the body |
//! | `/gzip`, `/deflate`, `/br`, `/zstd` | `/echo`, encoded |
//! | `/slow` | the head at once, the body after [`Origin::release`] |
//! | `/grpc` | `/reflect` with `application/grpc` and a `grpc-status` trailer |

mod encode;
mod h1;
mod h2;
mod routes;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

pub use encode::pattern;
pub(crate) use tls::Identity;

/// Most bytes of a request body that are kept; its length and digest always cover all of it.
pub const KEPT_BODY: usize = 64 * 1024;

/// Which version a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// A request as the origin received it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Number of the connection, from 0.
    pub connection: u64,
    /// The version.
    pub version: Version,
    /// The server name of the TLS handshake.
    pub sni: Option<String>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The method.
    pub method: String,
    /// The request target; `:path` in HTTP/2.
    pub target: String,
    /// `:authority` in HTTP/2.
    pub authority: Option<String>,
    /// Header fields in order, spelled as sent.
    pub headers: Vec<(String, String)>,
    /// The head, byte for byte (HTTP/1 only).
    pub head: Vec<u8>,
    /// The first [`KEPT_BODY`] bytes of the body.
    pub body: Vec<u8>,
    /// Length of the body so far.
    pub body_length: u64,
    /// Hexadecimal SHA-256 of the body, once it is complete.
    pub body_sha256: Option<String>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
}

impl Received {
    /// The value of the first field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// How an origin behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names that its certificate covers, besides 127.0.0.1 and ::1.
    pub names: Vec<String>,
    /// The protocols that it offers, best first.
    pub alpn: Vec<String>,
    /// Whether HTTP/2 allows extended CONNECT (RFC 8441).
    pub extended_connect: bool,
    /// Where plain HTTP is served.
    pub http: SocketAddr,
    /// Where HTTPS is served.
    pub https: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            alpn: vec!["h2".into(), "http/1.1".into()],
            extended_connect: true,
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            https: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// A running web server; it ends with the value.
#[derive(Debug)]
pub struct Origin {
    http: SocketAddr,
    https: SocketAddr,
    ca_pem: String,
    leaf_pem: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Origin {
    /// Starts one with a certificate for `names`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(names: &[&str]) -> Self {
        let names = names.iter().map(ToString::to_string).collect();
        Self::with(&Options { names, ..Options::default() })
    }

    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn with(options: &Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("origin")
            .enable_all()
            .build()
            .expect("a runtime");
        // Not on the runtime: the caller may be on one itself.
        let (plain, secure) = {
            let _inside = runtime.enter();
            (listen(options.http), listen(options.https))
        };
        let identity = tls::Identity::new(&options.names, &options.alpn);
        let state = Arc::new(State::new(options.extended_connect));
        let http = plain.local_addr().expect("an address");
        let https = secure.local_addr().expect("an address");
        runtime.spawn(accept_plain(plain, Arc::clone(&state)));
        runtime.spawn(accept_tls(secure, identity.acceptor.clone(), Arc::clone(&state)));
        let tls::Identity { ca_pem, leaf_pem, .. } = identity;
        Self { http, https, ca_pem, leaf_pem, state, runtime: Some(runtime) }
    }

    /// Where plain HTTP is served, HTTP/2 with prior knowledge too.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where HTTPS is served.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// The certificate authority, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The certificate and its private key, as PEM: for other servers of the same names.
    pub fn leaf_pem(&self) -> &str {
        &self.leaf_pem
    }

    /// All requests so far, in the order of their heads.
    pub fn requests(&self) -> Vec<Received> {
        let forgotten = self.state.forgotten_requests.load(Ordering::SeqCst);
        self.state.received().split_at(forgotten).1.to_vec()
    }

    /// The last request.
    ///
    /// # Panics
    /// When there was none.
    pub fn last(&self) -> Received {
        self.requests().pop().expect("a request")
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        let all = self.state.connections.load(Ordering::SeqCst);
        all - self.state.forgotten_connections.load(Ordering::SeqCst)
    }

    /// Forgets the requests and connections so far.
    pub fn forget(&self) {
        let (requests, connections) =
            (self.state.received().len(), self.state.connections.load(Ordering::SeqCst));
        self.state.forgotten_requests.store(requests, Ordering::SeqCst);
        self.state.forgotten_connections.store(connections, Ordering::SeqCst);
    }

    /// Lets `count` steps of `/sse?wait` and `/slow` go on, now or when they come there.
    pub fn release(&self, count: usize) {
        self.state.gate.add_permits(count);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn listen(address: SocketAddr) -> TcpListener {
    let listener = std::net::TcpListener::bind(address).expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    TcpListener::from_std(listener).expect("a reactor")
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
type BoxedStream = Box<dyn Stream>;

/// What the connections of an origin share.
#[derive(Debug)]
struct State {
    received: Mutex<Vec<Received>>,
    connections: AtomicU64,
    /// How many of both came before the last [`Origin::forget`]. Running requests know theirs by number.
    forgotten_requests: AtomicUsize,
    forgotten_connections: AtomicU64,
    gate: Semaphore,
    extended_connect: bool,
}

impl State {
    fn new(extended_connect: bool) -> Self {
        Self {
            received: Mutex::default(),
            connections: AtomicU64::new(0),
            forgotten_requests: AtomicUsize::new(0),
            forgotten_connections: AtomicU64::new(0),
            gate: Semaphore::new(0),
            extended_connect,
        }
    }

    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a head; the number is what [`State::update`] wants.
    fn record(&self, received: Received) -> usize {
        let mut all = self.received();
        all.push(received);
        all.len() - 1
    }

    fn update(&self, index: usize, change: impl FnOnce(&mut Received)) {
        change(&mut self.received()[index]);
    }

    /// Waits for a step of [`Origin::release`].
    async fn pass(&self) {
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
    }
}

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
struct Peer {
    connection: u64,
    tls: bool,
    sni: Option<String>,
}

async fn accept_plain(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = state.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let peer = Peer { connection, tls: false, sni: None };
            if speaks_h2(&stream).await {
                h2::serve(Box::new(stream), peer, state).await;
            } else {
                h1::serve(Box::new(stream), peer, state).await;
            }
        });
    }
}

async fn accept_tls(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = state.connections.fetch_add(1, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let session = stream.get_ref().1;
            let peer =
                Peer { connection, tls: true, sni: session.server_name().map(str::to_owned) };
            if session.alpn_protocol() == Some(b"h2") {
                h2::serve(Box::new(stream), peer, state).await;
            } else {
                h1::serve(Box::new(stream), peer, state).await;
            }
        });
    }
}

/// Whether the client begins with the preface of HTTP/2 (RFC 9113 section 3.4).
async fn speaks_h2(stream: &TcpStream) -> bool {
    let mut start = [0; 4];
    for _ in 0..1000 {
        match stream.peek(&mut start).await {
            Ok(4) => return &start == b"PRI ",
            Ok(1..) if b"PRI ".starts_with(&start[..1]) => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests;
