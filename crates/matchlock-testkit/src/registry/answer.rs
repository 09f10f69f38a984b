//! What a registry answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Auth, Content, FakeRegistry, Grants, Request};

/// An answer, and how its transfer ends.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) cut: Option<usize>,
    pub(super) stall: Option<usize>,
    pub(super) unsized_body: bool,
}

impl Reply {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            stall: None,
            unsized_body: false,
        }
    }

    /// 200 with a body.
    pub fn ok(body: &[u8]) -> Self {
        Self::status(200).body(body)
    }

    /// 307 to a place.
    pub fn redirect(location: &str) -> Self {
        Self::status(307).header("Location", location)
    }

    /// An error as registries write it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let document = json!({"errors": [{"code": code, "message": message}]});
        let reply = Self::status(status).header("Content-Type", "application/json");
        reply.body(document.to_string().as_bytes())
    }

    /// With a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Closes the connection after so many bytes of the body. 0 closes it before the head.
    #[must_use]
    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    /// Sends so many bytes of the body, then nothing more, for ever.
    #[must_use]
    pub fn stall(mut self, after: usize) -> Self {
        self.stall = Some(after);
        self
    }

    /// Without a length: the end of the connection ends the body.
    #[must_use]
    pub fn without_length(mut self) -> Self {
        self.unsized_body = true;
        self
    }
}

/// Of bytes, as references have it.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", HEXLOWER.encode(&Sha256::digest(bytes)))
}

/// The usual answer.
pub(super) fn answer(content: &Content, request: &Request) -> Reply {
    if request.path() == "/token" {
        return token(&content.auth, request);
    }
    if let Some(challenge) = challenge(&content.auth, request) {
        return challenge;
    }
    let path = request.path().strip_prefix("/v2/").unwrap_or_default();
    if let Some((_, digest)) = path.split_once("/blobs/") {
        return match content.blobs.get(digest) {
            Some(bytes) => blob(bytes, request.header("range").filter(|_| !content.no_ranges)),
            None => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        };
    }
    let Some((repository, name)) = path.split_once("/manifests/") else {
        return Reply::error(404, "UNSUPPORTED", "no such path");
    };
    match content.manifests.get(&(repository.to_owned(), name.to_owned())) {
        Some((media_type, bytes)) => Reply::ok(bytes)
            .header("Content-Type", media_type)
            .header("Docker-Content-Digest", &digest(bytes)),
        None if content.manifests.keys().any(|(known, _)| known == repository) => {
            Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        }
        None => Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
    }
}

fn blob(bytes: &[u8], range: Option<&str>) -> Reply {
    let from =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        None => Reply::ok(bytes),
        Some(from) if from >= bytes.len() => Reply::status(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::status(206).header("Content-Range", &range).body(&bytes[from..])
        }
    }
}

/// Set if the request does not show what it has to.
fn challenge(auth: &Auth, request: &Request) -> Option<Reply> {
    let (wanted, challenge) = match auth {
        Auth::Anonymous => return None,
        Auth::Basic { user, password } => {
            (basic(user, password), "Basic realm=\"fake\"".to_owned())
        }
        Auth::Bearer { realm, .. } => {
            let repository = request.path().trim_start_matches("/v2/");
            let repository = repository.split("/blobs/").next().unwrap_or_default();
            let repository = repository.split("/manifests/").next().unwrap_or_default();
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"fake\",scope=\"repository:{repository}:pull\""
            );
            (format!("Bearer {}", FakeRegistry::TOKEN), challenge)
        }
    };
    let denied = || Reply::error(401, "UNAUTHORIZED", "authentication required");
    (request.header("authorization") != Some(wanted.as_str()))
        .then(|| denied().header("WWW-Authenticate", &challenge))
}

fn token(auth: &Auth, request: &Request) -> Reply {
    let Auth::Bearer { grants, .. } = auth else { return Reply::status(404) };
    let granted = match grants {
        Grants::Everyone => true,
        Grants::Password { user, password } => {
            request.header("authorization") == Some(basic(user, password).as_str())
        }
        Grants::Identity { token } => {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            let mut fields = form.split('&');
            request.method == "POST"
                && form.contains("grant_type=refresh_token")
                && fields.any(|field| field == format!("refresh_token={token}"))
        }
    };
    if !granted {
        return Reply::error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    Reply::ok(json!({"token": FakeRegistry::TOKEN, "expires_in": 300}).to_string().as_bytes())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
