//! A client that is the same for both ways, over HTTP/1.1 and HTTP/2.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::world::Way;

/// One thread: the client's share of the machine is the same whichever way it goes.
pub(super) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("no event loop")
}

/// Makes TLS sessions on one way.
#[derive(Clone)]
pub(super) struct Client {
    connector: TlsConnector,
    way: Way,
}

impl Client {
    /// For one protocol. Sessions are not resumed, so every handshake is a whole one.
    pub(super) fn new(way: Way, alpn: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(way.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), way })
    }

    /// A session with a host, from the connection to the end of the handshake.
    pub(super) async fn connect(&self, host: &str) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.way.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let connected = self.connector.connect(name, stream).await;
        connected.with_context(|| format!("no session with {host}, {}", self.way.name))
    }
}

/// A connection over HTTP/1.1.
pub(super) struct Http1 {
    stream: TlsStream<TcpStream>,
    buffer: BytesMut,
    authority: String,
}

impl Http1 {
    pub(super) async fn open(client: &Client, host: &str, port: u16) -> Result<Self> {
        let stream = client.connect(host).await?;
        Ok(Self { stream, buffer: BytesMut::new(), authority: format!("{host}:{port}") })
    }

    /// A request and its whole answer, which tells its length.
    pub(super) async fn get(&mut self, path: &str) -> Result<()> {
        self.send(path).await?;
        let head = self.until(b"\r\n\r\n").await?;
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        });
        let mut left: usize =
            length.with_context(|| format!("an answer without length: {head}"))?;
        loop {
            let taken = left.min(self.buffer.len());
            self.buffer.advance(taken);
            left -= taken;
            if left == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    pub(super) async fn send(&mut self, path: &str) -> Result<()> {
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n",
            self.authority
        );
        self.stream.write_all(head.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads on until these bytes have come, and gives all up to their end; a head has to say 200.
    pub(super) async fn until(&mut self, end: &[u8]) -> Result<String> {
        loop {
            let at = self.buffer.windows(end.len()).position(|window| window == end);
            if let Some(at) = at {
                let text = self.buffer.split_to(at + end.len());
                let text = String::from_utf8_lossy(&text).into_owned();
                let refused = text.starts_with("HTTP/") && !text.starts_with("HTTP/1.1 200");
                ensure!(!refused, "the answer is {text}");
                return Ok(text);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection has ended");
        Ok(())
    }
}

/// A connection over HTTP/2.
#[derive(Clone)]
pub(super) struct Http2 {
    requests: SendRequest<Bytes>,
    origin: String,
}

impl Http2 {
    pub(super) async fn open(client: &Client, host: &str, port: u16) -> Result<Self> {
        let stream = client.connect(host).await?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { requests, origin: format!("https://{host}:{port}") })
    }

    /// A request and its whole answer.
    pub(super) async fn get(&mut self, path: &str) -> Result<()> {
        let request = Request::get(format!("{}{path}", self.origin))
            .header("user-agent", "bench")
            .body(())
            .context("not a request")?;
        let mut requests = self.requests.clone().ready().await?;
        let (response, _) = requests.send_request(request, true)?;
        let response = response.await?;
        if response.status() != 200 {
            bail!("the answer is {}", response.status());
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data?.len())?;
        }
        Ok(())
    }
}
