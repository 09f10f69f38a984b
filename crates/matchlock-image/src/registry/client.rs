//! The client: servers in turn, challenges, and what the answers mean.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, RANGE,
};

use super::auth::{Auth, Challenger, Grant};
use super::blob::BlobStream;
use super::challenge;
use super::config::{Registries, Server};
use super::credentials::Credentials;
use super::dial::Dial;
use super::error::{ChallengeProblem, RegistryError};
use super::follow::{self, Followed, Get};
use super::meaning::{content_range, media_type, refused, text};
use super::retry::{Clock, Wait};
use super::transport::{Answer, Transport};
use crate::digest::Digest;
use crate::reference::Reference;

/// What the registry says the digest of its answer is (distribution spec, "Pulling manifests").
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The types that are asked for.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// A client of all registries. Cheap to clone; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
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

#[derive(Debug)]
pub(crate) struct Shared {
    transport: Arc<Transport>,
    auth: Auth,
    pub(crate) waits: Arc<dyn Wait>,
}

/// A blob whose bytes are about to come.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) answer: Answer,
    pub(crate) start: u64,
    pub(crate) total: Option<u64>,
    /// Its place among the servers of the registry.
    pub(crate) server: usize,
}

impl Manifest {
    /// Most bytes (the distribution spec, "Pushing Manifests", has 4 MiB as the least to support).
    pub const MAX: usize = 4 * 1024 * 1024;
}

impl Client {
    /// A client that names itself `user_agent` and connects to nothing yet.
    #[must_use]
    pub fn new(
        dial: Arc<dyn Dial>,
        registries: Registries,
        credentials: Credentials,
        user_agent: &str,
    ) -> Self {
        Self::with_waits(dial, registries, credentials, user_agent, Arc::new(Clock))
    }

    /// The same with another clock for the time between attempts.
    #[must_use]
    pub fn with_waits(
        dial: Arc<dyn Dial>,
        registries: Registries,
        credentials: Credentials,
        user_agent: &str,
        waits: Arc<dyn Wait>,
    ) -> Self {
        let transport = Arc::new(Transport::new(dial, registries, user_agent));
        Self { shared: Arc::new(Shared { transport, auth: Auth::new(credentials), waits }) }
    }

    /// The manifest or index that `image` names.
    ///
    /// # Errors
    /// [`RegistryError`]: that of the registry itself, when its mirrors fail too.
    pub async fn manifest(&self, image: &Reference) -> Result<Manifest, RegistryError> {
        self.shared.manifest(image).await
    }

    /// The blob `digest` of the repository of `image`, from byte `from` on if the server can do that:
    /// see [`BlobStream::start`].
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn blob(
        &self,
        image: &Reference,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobStream, RegistryError> {
        BlobStream::open(Arc::clone(&self.shared), image.clone(), *digest, from).await
    }
}

impl Shared {
    async fn manifest(&self, image: &Reference) -> Result<Manifest, RegistryError> {
        let servers = self.transport.registries().servers(image.registry());
        let mut last = None;
        for server in &servers {
            match self.manifest_of(server, image).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => last = Some(skipped(server, error)),
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::Request { server: image.to_string() }))
    }

    async fn manifest_of(
        &self,
        server: &Server,
        image: &Reference,
    ) -> Result<Manifest, RegistryError> {
        let path = format!("manifests/{}", image.identifier());
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
        let answer = self.get(server, image, &path, headers, &[StatusCode::OK]).await?;
        let (headers, server) = (answer.headers().clone(), answer.server());
        let bytes = answer.read("a manifest", Manifest::MAX).await?;
        let digest = Digest::of(&bytes);
        let promised = text(&headers, &CONTENT_DIGEST).and_then(|text| text.parse().ok());
        for expected in image.digest().copied().into_iter().chain(promised) {
            if expected != digest {
                return Err(RegistryError::Digest { server, expected, found: digest });
            }
        }
        let media_type = media_type(&headers, &bytes)
            .map_err(|media_type| RegistryError::MediaType { server, media_type })?;
        Ok(Manifest { bytes, media_type, digest })
    }

    /// Opens a blob at the first server that has it, from number `first` on.
    pub(crate) async fn open(
        &self,
        image: &Reference,
        digest: &Digest,
        from: u64,
        first: usize,
    ) -> Result<Opened, RegistryError> {
        let servers = self.transport.registries().servers(image.registry());
        let first = first.min(servers.len().saturating_sub(1));
        let mut last = None;
        for (number, server) in servers.iter().enumerate().skip(first) {
            match self.blob_of(server, image, digest, from).await {
                Ok(opened) => return Ok(Opened { server: number, ..opened }),
                Err(error) => last = Some(skipped(server, error)),
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::Request { server: image.to_string() }))
    }

    async fn blob_of(
        &self,
        server: &Server,
        image: &Reference,
        digest: &Digest,
        from: u64,
    ) -> Result<Opened, RegistryError> {
        let path = format!("blobs/{digest}");
        let whole = &[StatusCode::OK];
        if from > 0 {
            let mut headers = HeaderMap::new();
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-")) {
                headers.insert(RANGE, range);
            }
            let taken =
                &[StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];
            let answer = self.get(server, image, &path, headers, taken).await?;
            match answer.status() {
                StatusCode::OK => return Ok(opened(answer)),
                StatusCode::PARTIAL_CONTENT => return continued(answer, from),
                _ => answer.discard().await,
            }
        }
        let answer = self.get(server, image, &path, HeaderMap::new(), whole).await?;
        Ok(opened(answer))
    }

    /// Asks a server, and answers its challenge. What it says is an error unless its status is one
    /// of `taken`.
    async fn get(
        &self,
        server: &Server,
        image: &Reference,
        path: &str,
        headers: HeaderMap,
        taken: &[StatusCode],
    ) -> Result<Answer, RegistryError> {
        let repository = format!("{}{}", server.prefix, image.repository());
        let get = Get { server, path: &format!("{repository}/{path}"), headers };
        let known = self.auth.known(server, &repository);
        let mut anonymous = known.is_none();
        let mut followed = self.ask(&get, known.as_ref()).await?;
        let mut grant = None;
        if followed.answer.status() == StatusCode::UNAUTHORIZED && followed.own {
            let given = self.challenged(server, &repository, &followed).await?;
            if let Some(header) = &given.header {
                anonymous = false;
                followed.answer.discard().await;
                followed = self.ask(&get, Some(header)).await?;
            }
            grant = Some(given);
        }
        let status = followed.answer.status();
        if taken.contains(&status) {
            return Ok(followed.answer);
        }
        Err(refused(followed.answer, server, image, grant, anonymous).await)
    }

    async fn ask(
        &self,
        get: &Get<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Followed, RegistryError> {
        follow::get(&self.transport, &*self.waits, get, authorization).await
    }

    async fn challenged(
        &self,
        server: &Server,
        repository: &str,
        followed: &Followed,
    ) -> Result<Grant, RegistryError> {
        let unknown = || RegistryError::Challenge {
            server: server.name.to_string(),
            problem: ChallengeProblem::Unknown,
        };
        let challenge = challenge::choose(followed.answer.headers()).ok_or_else(unknown)?;
        let challenger = Challenger {
            transport: &self.transport,
            waits: &*self.waits,
            server,
            repository,
            scheme: followed.answer.scheme(),
            reach: followed.reach,
        };
        self.auth.grant(&challenger, challenge).await
    }
}

/// The failure of a mirror is only told to whoever debugs.
fn skipped(server: &Server, error: RegistryError) -> RegistryError {
    if server.mirror {
        tracing::debug!(mirror = %server.name, %error, "a mirror does not help");
    }
    error
}

/// A whole blob.
fn opened(answer: Answer) -> Opened {
    let total = text(answer.headers(), &CONTENT_LENGTH).and_then(|length| length.parse().ok());
    Opened { answer, start: 0, total, server: 0 }
}

/// The rest of a blob, from `from` on (RFC 9110 section 14.4).
fn continued(answer: Answer, from: u64) -> Result<Opened, RegistryError> {
    let range = text(answer.headers(), &CONTENT_RANGE).and_then(content_range);
    match range {
        Some((first, total)) if first == from => {
            Ok(Opened { answer, start: from, total, server: 0 })
        }
        _ => Err(RegistryError::Range { server: answer.server() }),
    }
}
