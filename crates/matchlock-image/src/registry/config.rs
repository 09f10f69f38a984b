//! What the user says of registries: `registries.json`.
//!
//! ```json
//! {
//!   "docker.io": { "mirrors": ["https://mirror.example/hub"] },
//!   "registry.example:5000": { "plain_http": true },
//!   "registry.example": { "ca": "/etc/example/ca.pem", "auth_hosts": ["login.example.org"] }
//! }
//! ```

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use matchlock_policy::{AddressClass, Endpoint, Host, classify};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::url::{Scheme, Url};
use crate::reference::RegistryName;

/// The host that serves the default registry.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// Settings of registries by their names. The default has none.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    settings: HashMap<RegistryName, Settings>,
}

/// Settings of one registry.
#[derive(Debug, Clone, Default)]
struct Settings {
    mirrors: Vec<Url>,
    plain_http: Option<bool>,
    ca: Vec<CertificateDer<'static>>,
    auth_hosts: Vec<Host>,
}

/// The settings of registries are not usable.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file, or a certificate that it names.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not JSON, or other fields than there are.
    #[error("the settings of registries are not valid")]
    Json(#[source] serde_json::Error),
    /// The key of an entry.
    #[error("{0:?} is not the name of a registry")]
    Name(String),
    /// A mirror of an entry.
    #[error("{registry}: a mirror must be a URL like https://mirror.example")]
    Mirror {
        /// The entry.
        registry: RegistryName,
    },
    /// A host of an entry that may get its credentials.
    #[error("{registry}: {host:?} is not the name of a host")]
    AuthHost {
        /// The entry.
        registry: RegistryName,
        /// What it has.
        host: String,
    },
    /// The file that `ca` names.
    #[error("{registry}: {} holds no certificate in PEM", path.display())]
    Ca {
        /// The entry.
        registry: RegistryName,
        /// The file.
        path: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    mirrors: Vec<String>,
    plain_http: Option<bool>,
    ca: Option<PathBuf>,
    #[serde(default)]
    auth_hosts: Vec<String>,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// TLS only.
    Tls,
    /// No TLS, as the user said.
    Plain,
    /// On this host: TLS, or none if the server does not speak it.
    Loopback,
}

/// A server that has the images of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// As settings and credentials know it.
    pub(crate) name: RegistryName,
    pub(crate) endpoint: Endpoint,
    pub(crate) security: Security,
    /// Before the repository, with a slash behind it; empty but for mirrors.
    pub(crate) prefix: String,
    pub(crate) mirror: bool,
}

impl Registries {
    /// Reads the file at `path`; if there is none, there are no settings.
    ///
    /// # Errors
    /// The file, or a certificate that it names, is not readable or not valid.
    pub fn load(path: &Path) -> Result<Self, RegistriesError> {
        match std::fs::read(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(RegistriesError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// As [`Registries::load`].
    pub fn parse(text: &[u8]) -> Result<Self, RegistriesError> {
        let entries: HashMap<String, Entry> =
            serde_json::from_slice(text).map_err(RegistriesError::Json)?;
        let settings = entries.into_iter().map(|(name, entry)| {
            let name: RegistryName = name.parse().map_err(|_| RegistriesError::Name(name))?;
            let settings = Settings::read(&name, entry)?;
            Ok((name, settings))
        });
        Ok(Self { settings: settings.collect::<Result<_, _>>()? })
    }

    /// The servers to ask for images of `registry`, in order: mirrors, then itself.
    pub(crate) fn servers(&self, registry: &RegistryName) -> Vec<Server> {
        let mirrors = self.settings.get(registry).map_or(&[][..], |settings| &settings.mirrors);
        let mut servers: Vec<_> = mirrors.iter().filter_map(Server::mirror).collect();
        servers.push(self.own(registry));
        servers
    }

    fn own(&self, registry: &RegistryName) -> Server {
        let plain = self.settings.get(registry).and_then(|settings| settings.plain_http);
        let host = match DEFAULT_HOST.parse() {
            Ok(host) if registry.is_default() => host,
            _ => registry.host().clone(),
        };
        let security = match plain {
            Some(true) => Security::Plain,
            None if is_loopback(&host) => Security::Loopback,
            _ => Security::Tls,
        };
        let default_port = if security == Security::Plain { 80 } else { 443 };
        let endpoint = Endpoint::new(host, registry.port().unwrap_or(default_port));
        let name = registry.clone();
        Server { name, endpoint, security, prefix: String::new(), mirror: false }
    }

    /// Authorities for `server`, beside those of the host.
    pub(crate) fn ca(&self, server: &RegistryName) -> &[CertificateDer<'static>] {
        self.settings.get(server).map_or(&[], |settings| &settings.ca)
    }

    /// Whether the user lets credentials for `server` go to `host`.
    pub(crate) fn is_auth_host(&self, server: &RegistryName, host: &Host) -> bool {
        self.settings.get(server).is_some_and(|settings| settings.auth_hosts.contains(host))
    }
}

impl Settings {
    fn read(registry: &RegistryName, entry: Entry) -> Result<Self, RegistriesError> {
        let mirror = |text: &String| {
            let url = Url::parse(text).filter(|url| !url.target().contains('?'));
            url.ok_or_else(|| RegistriesError::Mirror { registry: registry.clone() })
        };
        let auth_host = |host: &String| {
            let invalid =
                |_| RegistriesError::AuthHost { registry: registry.clone(), host: host.clone() };
            host.parse().map_err(invalid)
        };
        Ok(Self {
            mirrors: entry.mirrors.iter().map(mirror).collect::<Result<_, _>>()?,
            plain_http: entry.plain_http,
            ca: entry.ca.map(|path| certificates(registry, path)).transpose()?.unwrap_or_default(),
            auth_hosts: entry.auth_hosts.iter().map(auth_host).collect::<Result<_, _>>()?,
        })
    }
}

impl Server {
    fn mirror(url: &Url) -> Option<Self> {
        let (scheme, endpoint) = (url.scheme(), url.endpoint().clone());
        let port = Some(endpoint.port).filter(|&port| port != scheme.default_port());
        let name = RegistryName::new(endpoint.host.clone(), port)?;
        let security = match scheme {
            Scheme::Http => Security::Plain,
            Scheme::Https => Security::Tls,
        };
        let prefix = match url.target().trim_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        };
        Some(Self { name, endpoint, security, prefix, mirror: true })
    }
}

/// Whether only this host can be meant.
pub(crate) fn is_loopback(host: &Host) -> bool {
    match (host.ip(), host.name()) {
        (Some(ip), _) => is_loopback_address(ip),
        (None, Some(name)) => name.labels().next_back() == Some("localhost"),
        (None, None) => false,
    }
}

fn is_loopback_address(ip: IpAddr) -> bool {
    classify(ip) == AddressClass::Loopback
}

fn certificates(
    registry: &RegistryName,
    path: PathBuf,
) -> Result<Vec<CertificateDer<'static>>, RegistriesError> {
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(RegistriesError::Read { path, source }),
    };
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(RegistriesError::Ca { registry: registry.clone(), path }),
    }
}
