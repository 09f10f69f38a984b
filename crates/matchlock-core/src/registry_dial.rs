//! How registries are reached from this host: through its proxies, trusting whom it trusts.

use matchlock_image::registry::{BoxFuture, Dial, DialError, Dialed, Reach};
use matchlock_net::{
    CertificateDer, HostDialError, HostDialer, ProxySettings, RootCertStore, own_addresses,
};
use matchlock_policy::AddressClass;

/// Dials registries for [`Client`](matchlock_image::registry::Client).
#[derive(Debug)]
pub struct RegistryDial {
    dialer: HostDialer,
    extra: Vec<CertificateDer<'static>>,
}

impl RegistryDial {
    /// One that uses the host's proxies, and trusts `extra` authorities beside those of the host.
    #[must_use]
    pub fn new(proxies: ProxySettings, extra: Vec<CertificateDer<'static>>) -> Self {
        Self { dialer: HostDialer::new(proxies), extra }
    }
}

impl Dial for RegistryDial {
    fn dial<'a>(
        &'a self,
        host: &'a str,
        port: u16,
        reach: Reach,
    ) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move {
            let own = own_addresses().map_err(DialError::Unreachable)?;
            let public = |ip| own.classify(ip) == AddressClass::Public;
            let admit = |ip| reach == Reach::Any || public(ip);
            let dialed = self.dialer.dial(host, port, admit).await.map_err(failure)?;
            let private = dialed.address.is_some_and(|ip| !public(ip));
            Ok(Dialed { stream: dialed.stream, private })
        })
    }

    fn roots(&self) -> RootCertStore {
        matchlock_net::host_roots(self.extra.clone())
    }
}

fn failure(error: HostDialError) -> DialError {
    match error {
        HostDialError::Host(_) => DialError::Resolve(std::io::Error::other(error)),
        HostDialError::Resolve(source) => DialError::Resolve(source),
        HostDialError::Refused(ip) => DialError::NotPublic(ip),
        HostDialError::Closed => DialError::Refused,
        HostDialError::Timeout => DialError::Timeout,
        HostDialError::Unreachable(source) => DialError::Unreachable(source),
        HostDialError::Proxy(source) => DialError::Proxy(source),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn this_host_is_private_and_not_for_public_registries_to_name() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let port = listener.local_addr().expect("an address").port();
        let dial = RegistryDial::new(ProxySettings::default(), Vec::new());
        for host in ["127.0.0.1", "localhost"] {
            assert!(dial.dial(host, port, Reach::Any).await.expect("dialled").private);
            let error = dial.dial(host, port, Reach::PublicOnly).await.expect_err("private");
            assert!(matches!(error, DialError::NotPublic(ip) if ip.is_loopback()), "{error}");
        }
    }
}
