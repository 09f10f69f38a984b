//! Credentials of registries: the user's `config.json` of Docker, and the helpers that it names.
//!
//! Nothing is read before a registry asks for credentials, so a broken helper does not stand in the
//! way of public images.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::helper;
use super::secret::Secret;
use crate::reference::RegistryName;

/// Where Docker keeps the credentials of the default registry.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";
/// The same host, as keys of `auths` are compared.
const DEFAULT_KEY_HOST: &str = "index.docker.io";
/// Base64, with or without the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where credentials are looked for.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    file: Option<PathBuf>,
    search: OsString,
}

/// Credentials cannot be had. Tells no value of any.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file is there, but cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what Docker writes. What it has instead may be a password, so it is not told.
    #[error("{} is not a configuration of Docker", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
    },
    /// The `auth` of an entry is not `user:password` in Base64.
    #[error("the entry of {registry} in {} is not valid", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
    /// A helper that is no program's name, is not there, or cannot be started.
    #[error("cannot run the credential helper {name:?}")]
    HelperStart {
        /// Its name, as `docker-credential-NAME` has it.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error("the credential helper {name:?} gave no answer in time")]
    HelperTimeout {
        /// Its name.
        name: String,
    },
    /// It failed, or its answer is not what the protocol says.
    #[error("the credential helper {name:?} failed")]
    HelperFailed {
        /// Its name.
        name: String,
    },
}

/// What a registry is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User and password.
    Password { user: String, password: Secret },
    /// For the token server (`identitytoken`).
    Identity(Secret),
    /// For the registry itself (`registrytoken`).
    Registry(Secret),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Config {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
    registrytoken: Option<Secret>,
}

impl Credentials {
    /// None: all registries are asked anonymously.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of a `config.json`, which need not exist. Helpers are searched for in the directories
    /// of `search`, which has the form of the variable `PATH`.
    #[must_use]
    pub fn docker(file: PathBuf, search: OsString) -> Self {
        Self { file: Some(file), search }
    }

    /// What there is for `registry`: from its own helper, from the helper of all, from the file.
    pub(crate) async fn find(
        &self,
        registry: &RegistryName,
    ) -> Result<Option<Credential>, CredentialError> {
        let Some(path) = &self.file else { return Ok(None) };
        let text = match tokio::fs::read(path).await {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CredentialError::Read { path: path.clone(), source }),
        };
        let invalid = |_| CredentialError::Invalid { path: path.clone() };
        let config: Config = serde_json::from_slice(&text).map_err(invalid)?;
        let own = key(registry);
        let helpers = [helper_of(&config.cred_helpers, registry), config.creds_store.as_deref()];
        for name in helpers.into_iter().flatten().filter(|name| !name.is_empty()) {
            if let Some(found) = helper::get(name, &own, &self.search).await? {
                return Ok(Some(found));
            }
        }
        let broken = || CredentialError::Entry { path: path.clone(), registry: own.clone() };
        match entry_of(&config.auths, registry) {
            Some(entry) => entry.credential().map_err(|()| broken()),
            None => Ok(None),
        }
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, ()> {
        let set = |secret: &Option<Secret>| secret.clone().filter(|s| !s.reveal().is_empty());
        if let Some(token) = set(&self.identitytoken) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let Some(token) = set(&self.registrytoken) {
            return Ok(Some(Credential::Registry(token)));
        }
        if let Some(auth) = set(&self.auth) {
            let plain = BASE64.decode(auth.reveal()).map(Zeroizing::new).map_err(|_| ())?;
            let plain = std::str::from_utf8(&plain).map_err(|_| ())?;
            let (user, password) = plain.split_once(':').ok_or(())?;
            // Docker pads passwords with NUL bytes in old files.
            let password = Secret::new(password.trim_end_matches('\0').to_owned());
            return Ok(Some(Credential::Password { user: user.to_owned(), password }));
        }
        let user = self.username.clone().filter(|user| !user.is_empty());
        let both = user.zip(set(&self.password));
        Ok(both.map(|(user, password)| Credential::Password { user, password }))
    }
}

/// The name by which helpers know a registry.
fn key(registry: &RegistryName) -> String {
    match registry.is_default() {
        true => DEFAULT_KEY.to_owned(),
        false => registry.to_string(),
    }
}

fn helper_of<'a>(helpers: &'a HashMap<String, String>, registry: &RegistryName) -> Option<&'a str> {
    let wanted = compared(&key(registry))?.to_ascii_lowercase();
    let mut found = helpers.iter().filter(|(key, _)| fits(key, &wanted));
    found.next().map(|(_, name)| name.as_str())
}

fn entry_of<'a>(auths: &'a HashMap<String, Entry>, registry: &RegistryName) -> Option<&'a Entry> {
    let own = key(registry);
    let wanted = compared(&own)?.to_ascii_lowercase();
    let alike = || auths.iter().find(|(key, _)| fits(key, &wanted)).map(|(_, entry)| entry);
    auths.get(&own).or_else(alike)
}

fn fits(key: &str, wanted: &str) -> bool {
    compared(key).is_some_and(|key| key.eq_ignore_ascii_case(wanted))
}

/// The host of a key, which may be a URL. A path without a scheme is a repository in the files of
/// other tools: not the whole registry.
fn compared(key: &str) -> Option<&str> {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    let version = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
    if bare.is_none() && !version {
        return None;
    }
    match host {
        "docker.io" | "registry-1.docker.io" => Some(DEFAULT_KEY_HOST),
        host => Some(host),
    }
}
