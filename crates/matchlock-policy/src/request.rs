//! Decisions about one HTTP request on a connection that is open already.

use std::net::SocketAddr;

use crate::decision::{Allowed, Denied};
use crate::host::{Endpoint, Host};
use crate::name::HostName;
use crate::policy::Policy;

/// What is known of the connection that a request came on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The names that the dialled address stands for; empty for a flow to an address.
    pub names: Vec<HostName>,
    /// What the guest dialled.
    pub address: SocketAddr,
    /// The server name of the guest's TLS handshake, if there was one.
    pub sni: Option<HostName>,
    /// Whether `names` are all that the address stands for, because they come from our synthetic
    /// DNS or `--add-host`. Otherwise the guest may have resolved any name to the address.
    pub bound: bool,
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    /// The request is for another host than its connection: status 421 (RFC 9110 15.5.20).
    #[error("request for {authority} on a connection to {connection}")]
    Misdirected {
        /// What the request asks for.
        authority: Endpoint,
        /// What the connection is to.
        connection: Endpoint,
    },
    /// The policy does not allow the host: status 403.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Policy {
    /// Whether a request for `authority` may be forwarded. To be asked for every request, with the
    /// policy of that moment.
    ///
    /// The authority must be the host that the connection is to and, in TLS, the server name, at
    /// the port that was dialled; and a flow must be allowed there. A connection that is not
    /// [`bound`](Connection::bound) is to whatever host its first witness says, the server name or
    /// else the authority: dial by the [`Allowed`], never the address that the guest gave.
    ///
    /// # Errors
    /// When the authority is not what the connection is to, or the policy denies it.
    pub fn request(
        &self,
        connection: &Connection,
        authority: &Endpoint,
    ) -> Result<Allowed, RequestRefused> {
        let sni_agrees = match &connection.sni {
            Some(sni) => authority.host.name() == Some(sni),
            None => true,
        };
        let port_agrees = authority.port == connection.address.port();
        if !sni_agrees || !port_agrees || !self.is_of(connection, &authority.host) {
            let connection = connection.endpoint();
            return Err(RequestRefused::Misdirected { authority: authority.clone(), connection });
        }
        Ok(self.connect(authority)?)
    }

    /// Whether `host` is one that the connection is to, apart from the server name.
    fn is_of(&self, connection: &Connection, host: &Host) -> bool {
        let ip = connection.address.ip();
        match host {
            _ if !connection.bound => true,
            Host::Name(name) => connection.names.contains(name),
            // An address of `--add-host` is a real one, which the guest may name as well.
            Host::Ip(_) => {
                let is_real = connection.names.is_empty() || !self.names_of_added(ip).is_empty();
                is_real && *host == Host::Ip(ip)
            }
        }
    }
}

impl Connection {
    /// The best description of where the connection goes.
    fn endpoint(&self) -> Endpoint {
        let name = self.sni.as_ref().or(self.names.first());
        let host = name.map_or(Host::Ip(self.address.ip()), |name| Host::Name(name.clone()));
        Endpoint { host, port: self.address.port() }
    }
}
