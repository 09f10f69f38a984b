//! A guest that sends whatever it likes after the preface, before a server that keeps the rules.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use matchlock_intercept::hooks::Rules;
use matchlock_policy::{
    Connection, HostName, Policy, PolicyConfig, SecretSpec, SecretValue, Secrets,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::audit::{Audit, AuditLost, Decision, Event};
use crate::engine::Shared;
use crate::http::Exchange;
use crate::own_addresses::Watched;

const HOST: &str = "api.example.com";
const VALUE: &str = "sk-the-real-value";
const FOREIGN_VALUE: &str = "sk-of-another-host";

/// The seeds hold these, so that the guest can use them.
const PLACEHOLDER: &str = "PLACEHOLDER-OF-API";
const FOREIGN: &str = "PLACEHOLDER-OF-OTHER";

/// The connection preface (RFC 9113 section 3.4) with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Requests that the trail has as allowed.
#[derive(Debug, Default)]
struct Allowed(Mutex<usize>);

impl Audit for Allowed {
    fn record(&self, event: &Event) -> Result<(), AuditLost> {
        if let Event::Request { decision: Decision::Allowed, .. } = event {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        Ok(())
    }
}

/// The first byte chooses the pieces in which the others arrive. Whatever they are: what the server
/// receives is for the host of the connection, was recorded as allowed before, and holds neither a
/// secret of another host nor a placeholder for one.
///
/// # Panics
/// When that does not hold.
pub fn http2(input: &[u8]) {
    let Some((&pieces, frames)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let allowed = Arc::new(Allowed::default());
    let own = Watched::new().expect("interfaces");
    let audit = Arc::clone(&allowed) as Arc<dyn Audit>;
    let shared = Shared::new(policy(), own, audit, Rules::default(), None);
    let exchange = Exchange {
        shared: Arc::new(shared),
        connection: Connection {
            names: vec![name(HOST)],
            address: SocketAddr::from(([198, 19, 0, 1], 443)),
            sni: Some(name(HOST)),
            bound: true,
        },
        tls: true,
        flow: 1,
        proxy: None,
    };
    runtime.block_on(async {
        let (guest, ours) = tokio::io::duplex(64 * 1024);
        let (upstream, server) = tokio::io::duplex(64 * 1024);
        let server = tokio::spawn(serve(server, allowed));
        let served = tokio::spawn(super::serve(ours, Box::new(upstream), exchange));
        say(guest, frames, usize::from(pieces) + 1).await;
        let served = served.await;
        assert!(!served.is_err_and(|error| error.is_panic()), "the guest's side panicked");
        server.await.expect("the rules hold");
    });
}

/// Sends everything and reads what comes, to the end of both.
async fn say(guest: DuplexStream, frames: &[u8], piece: usize) {
    let (mut from, mut to) = tokio::io::split(guest);
    let frames = [PREFACE, frames].concat();
    let sending = async {
        for piece in frames.chunks(piece) {
            if to.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(to.shutdown().await);
    };
    let mut answers = Vec::new();
    let _ = tokio::join!(sending, from.read_to_end(&mut answers));
}

/// A server that answers every request, and checks it.
async fn serve(stream: DuplexStream, allowed: Arc<Allowed>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut received = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        received += 1;
        let recorded = *allowed.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(received <= recorded, "{received} requests, {recorded} of them recorded");
        // In the guest's spelling, which may have capitals.
        let authority =
            request.uri().authority().and_then(|authority| authority.host().parse().ok());
        assert_eq!(authority, Some(name(HOST)));
        for (name, value) in request.headers() {
            for foreign in [FOREIGN_VALUE, FOREIGN] {
                let holds =
                    |bytes: &[u8]| bytes.windows(foreign.len()).any(|w| w == foreign.as_bytes());
                assert!(!holds(value.as_bytes()) && !holds(name.as_str().as_bytes()), "{name:?}");
            }
        }
        if let Ok(mut body) = respond.send_response(http::Response::new(()), false) {
            drop(body.send_data(Bytes::from_static(b"answer"), true));
        }
    }
}

fn policy() -> Policy {
    let spec = |name: &str, value: &str, placeholder: &str, host: &str| {
        let value = SecretValue::new(value.as_bytes()).expect("a value");
        let hosts = vec![host.parse().expect("a pattern")];
        let mut spec = SecretSpec::new(name.parse().expect("a name"), value, hosts);
        spec.placeholder = Some(placeholder.to_owned());
        spec.body = true;
        spec
    };
    let specs = vec![
        spec("API", VALUE, PLACEHOLDER, HOST),
        spec("OTHER", FOREIGN_VALUE, FOREIGN, "other.example.com"),
    ];
    let secrets = Secrets::new(specs, &mut || [0; 16]).expect("no overlap");
    let allowed_hosts = vec![HOST.parse().expect("a pattern")];
    Policy::new(PolicyConfig { allowed_hosts, secrets, ..PolicyConfig::default() })
}

fn name(text: &str) -> HostName {
    text.parse().expect("a name")
}
