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

/// A proxy of which every client is a guest that dialled one host.
///
/// With `add_hosts` in the policy the host need not be known to a name server.
pub struct Proxy {
    engine: Arc<Engine>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Proxy {
    /// Listens on the loopback interface, for guests of `name` and `port`.
    ///
    /// # Errors
    ///
    /// As [`Network::start`](crate::Network::start).
    pub fn start(config: NetConfig, name: HostName, port: u16) -> Result<Self, NetError> {
        let engine = network::engine(config, &Addressing::default(), true)?;
        let runtime = network::runtime()?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .map_err(NetError::Socket)?;
        let address = listener.local_addr().map_err(NetError::Socket)?;
        let guests = Arc::clone(&engine);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve_stream(Arc::clone(&guests), stream, name.clone(), port));
            }
        });
        engine.warm_up();
        Ok(Self { engine, address, _runtime: runtime })
    }

    /// Where guests connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that guests have to trust, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.engine.authority.ca_pem()
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
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
