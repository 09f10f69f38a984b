//! TLS to the outside.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use matchlock_policy::Host;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Roots;

/// For a whole handshake with the outside.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// The client of all TLS sessions that leave a sandbox: it verifies, always.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    provider: Arc<CryptoProvider>,
    roots: Roots,
    /// Made at the first use, or by [`Self::warm_up`]: reading the roots takes time.
    config: OnceLock<Result<ClientConfig, Unusable>>,
}

impl UpstreamTls {
    pub(crate) fn new(provider: Arc<CryptoProvider>, roots: Roots) -> Self {
        Self { provider, roots, config: OnceLock::new() }
    }

    /// Reads the roots if that has not happened yet. Blocks.
    pub(crate) fn warm_up(&self) {
        self.config();
    }

    /// Makes a session over a connection, with a server that proves to be `host`.
    pub(crate) async fn connect<S>(
        self: &Arc<Self>,
        stream: S,
        host: &Host,
        alpn: &[Vec<u8>],
    ) -> Result<TlsStream<S>, UpstreamTlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.config_async().await?;
        config.alpn_protocols = alpn.to_vec();
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name(host)?, stream);
        match tokio::time::timeout(HANDSHAKE, connecting).await {
            Ok(result) => result.map_err(|error| UpstreamTlsError::from_io(error, host)),
            Err(_) => Err(UpstreamTlsError::Timeout),
        }
    }

    async fn config_async(self: &Arc<Self>) -> Result<ClientConfig, UpstreamTlsError> {
        if self.config.get().is_none() {
            let this = Arc::clone(self);
            // A panic in there is seen again by the call below.
            let _ = tokio::task::spawn_blocking(move || this.warm_up()).await;
        }
        Ok(self.config().clone()?)
    }

    fn config(&self) -> &Result<ClientConfig, Unusable> {
        self.config.get_or_init(|| client_config(&self.provider, &self.roots))
    }
}

/// A TLS session with the outside did not come about. The texts may be shown to the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamTlsError {
    #[error("the certificate of {host} {problem}")]
    Certificate {
        host: Host,
        problem: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the server refused the TLS handshake ({0})")]
    Alert(&'static str),
    #[error("the server has no TLS version or cipher in common with us")]
    Incompatible(#[source] io::Error),
    #[error("the server does not speak TLS as it should")]
    Misbehaved(#[source] io::Error),
    #[error("the connection broke in the TLS handshake")]
    Broken(#[source] io::Error),
    #[error("the server did not complete the TLS handshake in time")]
    Timeout,
    #[error("{0} is not a name that a certificate can have")]
    Name(Host, #[source] InvalidDnsNameError),
    #[error("this host trusts no certificate authority")]
    NoRoots,
    #[error("TLS is not usable on this host")]
    Unusable,
}

impl UpstreamTlsError {
    fn from_io(error: io::Error, host: &Host) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            None => Self::Broken(error),
            Some(rustls::Error::InvalidCertificate(wrong)) => {
                Self::Certificate { host: host.clone(), problem: problem(wrong), source: error }
            }
            Some(rustls::Error::NoCertificatesPresented) => {
                Self::Certificate { host: host.clone(), problem: "is missing", source: error }
            }
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(name(*alert)),
            Some(rustls::Error::NoApplicationProtocol) => {
                Self::Alert(name(AlertDescription::NoApplicationProtocol))
            }
            Some(rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13,
            )) => Self::Incompatible(error),
            Some(rustls::Error::PeerIncompatible(_)) => Self::Incompatible(error),
            Some(_) => Self::Misbehaved(error),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Unusable {
    NoRoots,
    Tls,
}

impl From<Unusable> for UpstreamTlsError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::NoRoots => Self::NoRoots,
            Unusable::Tls => Self::Unusable,
        }
    }
}

fn client_config(provider: &Arc<CryptoProvider>, roots: &Roots) -> Result<ClientConfig, Unusable> {
    let store = roots.load();
    if store.is_empty() {
        return Err(Unusable::NoRoots);
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|_| Unusable::NoRoots)?;
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|_| Unusable::Tls)?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn server_name(host: &Host) -> Result<ServerName<'static>, UpstreamTlsError> {
    match host {
        Host::Ip(ip) => Ok(ServerName::from(ip.to_canonical())),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned())
            .map_err(|error| UpstreamTlsError::Name(host.clone(), error)),
    }
}

fn problem(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => "is not valid yet",
        E::NotValidForName | E::NotValidForNameContext { .. } => "is for another name",
        E::UnknownIssuer => "is from an authority that this host does not trust",
        E::Revoked => "is revoked",
        E::BadSignature => "has a wrong signature",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "is not meant for a server",
        _ => "is not usable",
    }
}

/// What kind of error it is, without the texts and the names of the peer that it may hold.
pub(crate) fn describe(error: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    match error {
        E::AlertReceived(alert) => name(*alert),
        E::InvalidCertificate(wrong) => problem(wrong),
        E::NoCertificatesPresented => "there is no certificate",
        E::NoApplicationProtocol => "no application protocol in common",
        E::PeerIncompatible(_) => "nothing in common with the peer",
        E::PeerMisbehaved(_) | E::PeerSentOversizedRecord => "the peer breaks the rules of TLS",
        E::DecryptError => "a record cannot be decrypted",
        E::InvalidMessage(_) | E::InappropriateMessage { .. } => "a message of TLS is malformed",
        E::InappropriateHandshakeMessage { .. } => "a message of the handshake is out of turn",
        _ => "TLS failed",
    }
}

/// The name of an alert (RFC 8446, section 6).
fn name(alert: AlertDescription) -> &'static str {
    alert.as_str().unwrap_or("an unknown alert")
}
