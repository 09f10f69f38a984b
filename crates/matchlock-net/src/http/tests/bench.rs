//! A connection of a guest, in front of a web server.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use matchlock_intercept::hooks::Rules;
use matchlock_policy::{
    Connection, Policy, PolicyConfig, SecretName, SecretSpec, SecretValue, Secrets,
};
use matchlock_testkit::origin::Origin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::audit::{Audit, AuditLost, Decision, Event};
use crate::engine::Shared;
use crate::http::h1::{self, Limits};
use crate::http::{Exchange, Redial, Redialled};
use crate::own_addresses::Watched;

/// For anything that is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const VALUE: &str = "sk-the-real-value";
pub(super) const FOREIGN_VALUE: &str = "sk-of-another-host";

/// Keeps events, and loses them when told.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: Mutex<Vec<Event>>,
    pub(super) broken: AtomicBool,
}

impl Audit for Log {
    fn record(&self, event: &Event) -> Result<(), AuditLost> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(AuditLost::new("the disk is full"));
        }
        self.events.lock().unwrap().push(event.clone());
        Ok(())
    }
}

/// A guest's view of the world.
pub(super) struct Bench {
    pub(super) origin: Origin,
    pub(super) shared: Arc<Shared>,
    pub(super) log: Arc<Log>,
    /// What the guest has instead of [`VALUE`], for `api.example.com`, in bodies too.
    pub(super) placeholder: String,
    /// What the guest has instead of [`FOREIGN_VALUE`], for `foreign.example.com`.
    pub(super) foreign: String,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Rules::default(), None, false)
    }

    pub(super) fn with(rules: Rules, callbacks: Option<PathBuf>, scrub: bool) -> Self {
        let secrets = secrets(scrub);
        let of = |name: &str| {
            let found = secrets.env().find(|(own, _)| own.as_str() == name);
            found.expect("a secret").1.as_str().to_owned()
        };
        let (placeholder, foreign) = (of("API_KEY"), of("FOREIGN_KEY"));
        let policy = Policy::new(PolicyConfig {
            allowed_hosts: ["api.example.com", "other.example.com"]
                .map(|p| p.parse().unwrap())
                .into(),
            secrets,
            ..PolicyConfig::default()
        });
        let log = Arc::new(Log::default());
        let own = Watched::new().unwrap();
        let shared = Arc::new(Shared::new(policy, own, log.clone(), rules, callbacks));
        Self { origin: Origin::start(&["api.example.com"]), shared, log, placeholder, foreign }
    }

    /// An exchange of a connection to `api.example.com:443`.
    pub(super) fn exchange(&self) -> Exchange {
        Exchange {
            shared: Arc::clone(&self.shared),
            connection: Connection {
                names: vec!["api.example.com".parse().unwrap()],
                address: SocketAddr::from(([198, 19, 0, 1], 443)),
                sni: Some("api.example.com".parse().unwrap()),
                bound: true,
            },
            tls: true,
            flow: 1,
            proxy: None,
        }
    }

    /// A connection over HTTP/1.1.
    pub(super) async fn connect(&self) -> Guest {
        self.connect_as(self.exchange()).await
    }

    pub(super) async fn connect_as(&self, exchange: Exchange) -> Guest {
        self.connect_within(Limits::default(), exchange).await
    }

    pub(super) async fn connect_within(&self, limits: Limits, exchange: Exchange) -> Guest {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let to = self.origin.http();
        let read = Arc::new(AtomicU64::new(0));
        let upstream =
            Counting { inner: TcpStream::connect(to).await.unwrap(), read: read.clone() };
        let server =
            tokio::spawn(h1::serve_within(limits, far, Box::new(upstream), Dial(to), exchange));
        Guest { io: near, read: Vec::new(), server, from_upstream: read }
    }

    /// A connection over HTTP/1.1, with another server than the [origin](Self::origin).
    pub(super) fn connect_to(&self, upstream: DuplexStream) -> Guest {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let redial = Dial(self.origin.http());
        let server = tokio::spawn(h1::serve(far, Box::new(upstream), redial, self.exchange()));
        Guest { io: near, read: Vec::new(), server, from_upstream: Arc::default() }
    }

    /// Every request of the trail, with what was decided.
    pub(super) fn requests(&self) -> Vec<(String, Decision, Option<String>)> {
        let of = |event: &Event| match event {
            Event::Request { path, decision, reason, .. } => {
                Some((path.clone(), *decision, reason.as_ref().map(ToString::to_string)))
            }
            _ => None,
        };
        self.events().iter().filter_map(of).collect()
    }

    /// Status and error of every response of the trail.
    pub(super) fn responses(&self) -> Vec<(u16, Option<String>)> {
        let of = |event: &Event| match event {
            Event::Response { status, error, .. } => {
                Some((*status, error.as_ref().map(ToString::to_string)))
            }
            _ => None,
        };
        self.events().iter().filter_map(of).collect()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.log.events.lock().unwrap().clone()
    }
}

fn secrets(scrub: bool) -> Secrets {
    let spec = |name: &str, value: &str, host: &str| {
        let name: SecretName = name.parse().unwrap();
        let value = SecretValue::new(value.as_bytes()).unwrap();
        let mut spec = SecretSpec::new(name, value, vec![host.parse().unwrap()]);
        spec.body = true;
        spec.scrub = scrub;
        spec
    };
    let specs = vec![
        spec("API_KEY", VALUE, "api.example.com"),
        spec("FOREIGN_KEY", FOREIGN_VALUE, "foreign.example.com"),
    ];
    let mut seed = 0;
    let mut entropy = || {
        seed += 1;
        [seed; 16]
    };
    Secrets::new(specs, &mut entropy).unwrap()
}

/// Connects to the origin again.
#[derive(Debug)]
pub(super) struct Dial(SocketAddr);

impl Redial for Dial {
    fn redial(&mut self) -> Redialled<'_> {
        Box::pin(async {
            let stream = TcpStream::connect(self.0).await?;
            Ok(Box::new(stream) as crate::engine::stream::BoxedStream)
        })
    }
}

/// The guest's end of a connection.
pub(super) struct Guest {
    pub(super) io: DuplexStream,
    read: Vec<u8>,
    pub(super) server: JoinHandle<io::Result<()>>,
    /// Bytes that were read from the first connection to the outside.
    pub(super) from_upstream: Arc<AtomicU64>,
}

/// Counts what is read.
struct Counting {
    inner: TcpStream,
    read: Arc<AtomicU64>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::SeqCst);
        result
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Guest {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        bounded(self.io.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads on until the text has come, and gives all up to its end.
    pub(super) async fn until(&mut self, text: &str) -> String {
        loop {
            let at = self.read.windows(text.len()).position(|w| w == text.as_bytes());
            if let Some(at) = at {
                let taken: Vec<u8> = self.read.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let mut more = [0; 4096];
            let n = bounded(self.io.read(&mut more)).await.unwrap();
            let seen = String::from_utf8_lossy(&self.read);
            assert_ne!(n, 0, "the connection ended before {text:?}, after {seen:?}");
            self.read.extend_from_slice(&more[..n]);
        }
    }

    /// Reads exactly so many bytes.
    pub(super) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            let mut more = vec![0; 64 * 1024];
            let n = bounded(self.io.read(&mut more)).await.unwrap();
            assert_ne!(n, 0, "the connection ended");
            self.read.extend_from_slice(&more[..n]);
        }
        self.read.drain(..length).collect()
    }

    /// A head and its body, by their length or chunks.
    pub(super) async fn response(&mut self) -> (String, Vec<u8>) {
        let head = self.until("\r\n\r\n").await;
        let low = head.to_ascii_lowercase();
        if low.contains("transfer-encoding: chunked") {
            let mut body = Vec::new();
            loop {
                let line = self.until("\r\n").await;
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                if size == 0 {
                    self.until("\r\n").await;
                    return (head, body);
                }
                body.extend(self.exactly(size).await);
                self.until("\r\n").await;
            }
        }
        let length = low.split("content-length: ").nth(1).and_then(|r| r.split("\r\n").next());
        let body = self.exactly(length.map_or(0, |l| l.parse().unwrap())).await;
        (head, body)
    }

    /// Everything to the end of the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.read);
        bounded(self.io.read_to_end(&mut rest)).await.unwrap();
        rest
    }

    /// Ends the connection and gives what serving it came to.
    pub(super) async fn close(self) -> io::Result<()> {
        drop(self.io);
        bounded(self.server).await.unwrap()
    }
}

/// Fails a test that would wait for ever.
pub(super) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("waited too long")
}

/// Waits until something has happened that nobody tells of.
pub(super) async fn eventually(what: impl Debug, mut happened: impl FnMut() -> bool) {
    let mut step = tokio::time::interval(Duration::from_millis(2));
    for _ in 0..10_000 {
        if happened() {
            return;
        }
        step.tick().await;
    }
    panic!("never happened: {what:?}");
}
