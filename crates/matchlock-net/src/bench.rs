//! The proxy without a sandbox around it, for measurements: guests are plain TCP clients.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use matchlock_policy::HostName;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::engine::Engine;
use crate::engine::stream::BoxedStream;
use crate::engine::tcp::{self, Pending};
use crate::network::{self, NetConfig, NetError};
use crate::stack::Addressing;

/// A proxy whose clients count as a guest that dialled the host they came for.
///
/// With `add_hosts` in the policy a host need not be known to a name server.
pub struct Proxy {
    engine: Arc<Engine>,
    runtime: Runtime,
}

impl Proxy {
    /// Starts one that listens nowhere yet.
    ///
    /// # Errors
    ///
    /// As [`Network::start`](crate::Network::start).
    pub fn start(config: NetConfig) -> Result<Self, NetError> {
        let engine = network::engine(config, &Addressing::default(), true)?;
        let runtime = network::runtime()?;
        engine.warm_up();
        Ok(Self { engine, runtime })
    }

    /// Listens on the loopback interface, for guests of `name` and `port`.
    ///
    /// # Errors
    ///
    /// The host has no port for it.
    pub fn listen(&self, name: HostName, port: u16) -> io::Result<SocketAddr> {
        let listener = self.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let engine = Arc::clone(&self.engine);
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_stream(Arc::clone(&engine), stream, name.clone(), port));
            }
        });
        Ok(address)
    }

    /// The certificate that guests have to trust, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.engine.authority.ca_pem()
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// Serves a stream as the flow of a guest that dialled a name.
async fn serve_stream(engine: Arc<Engine>, stream: TcpStream, name: HostName, port: u16) {
    // Otherwise small records wait for acknowledgements, which a user-space stack does not do.
    let _ = stream.set_nodelay(true);
    let Some(address) = engine.address_of(&name) else { return };
    tcp::run(engine, Direct { stream, destination: (address, port).into() }).await;
}

struct Direct {
    stream: TcpStream,
    destination: SocketAddr,
}

impl Pending for Direct {
    fn destination(&self) -> SocketAddr {
        self.destination
    }

    fn accept(self) -> impl Future<Output = io::Result<BoxedStream>> + Send {
        let stream: BoxedStream = Box::new(self.stream);
        std::future::ready(Ok(stream))
    }

    fn refuse(self) {}
}
