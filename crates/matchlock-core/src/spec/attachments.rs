//! What goes with a description and cannot be written down.

use std::fmt;
use std::path::PathBuf;

use matchlock_api::Event;
use matchlock_image::store::{RootImage, Store};
use matchlock_intercept::hooks::Rules;
use matchlock_net::ProxySettings;
use matchlock_policy::Secrets;
use tokio::sync::mpsc;

use super::SecretRule;
use crate::volume::Attached;

/// Open files, values of secrets, and what the host knows for itself.
#[derive(Debug, Default)]
pub struct Attachments {
    /// The files of the image; `None` for the host's own system.
    pub root: Option<Box<RootImage>>,
    /// Where the image is kept for a sandbox that is kept.
    pub images: Option<Store>,
    /// The disks of the description, locked, in its order.
    pub disks: Vec<Attached>,
    /// The secrets of the description.
    pub secrets: SecretValues,
    /// Proxies between the host and the network; their addresses may hold passwords.
    pub proxy: ProxySettings,
    /// Rules that block and change requests.
    pub rules: Rules,
    /// Unix socket that answers the rules' callbacks.
    pub callback_socket: Option<PathBuf>,
    /// Who is told of exchanges while they happen. It misses what it has no room for.
    pub observer: Option<mpsc::Sender<Event>>,
}

/// Secrets with their values, which are wiped when the last copy goes and have no text.
#[derive(Clone, Default)]
pub struct SecretValues(Secrets);

impl SecretValues {
    /// What a description says of them.
    #[must_use]
    pub fn rules(&self) -> Vec<SecretRule> {
        self.0.iter().map(SecretRule::of).collect()
    }

    pub(crate) fn secrets(&self) -> Secrets {
        self.0.clone()
    }
}

impl From<Secrets> for SecretValues {
    fn from(secrets: Secrets) -> Self {
        Self(secrets)
    }
}

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|secret| &secret.name)).finish()
    }
}
