//! What goes wrong with registries, in words for people. Nothing here holds a secret, the path of a
//! redirect, or text of a server that was shown credentials.

use super::credentials::CredentialError;
use super::dial::DialError;
use crate::digest::Digest;

/// An image could not be had from its registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry has no such repository or digest.
    #[error("{image} does not exist at {server}")]
    NotFound {
        /// The image, or the blob of it.
        image: String,
        /// Who says so.
        server: String,
    },
    /// The repository is there, the tag is not.
    #[error("{repository} has no tag {tag:?}")]
    NoSuchTag {
        /// The tag.
        tag: String,
        /// With its registry.
        repository: String,
    },
    /// Credentials are needed, or those that there are do not suffice. Many registries answer so
    /// when there is no such image.
    #[error("{server} denied access to {image}{hint}")]
    Denied {
        /// The image.
        image: String,
        /// Who says so.
        server: String,
        /// What may help.
        hint: DeniedHint,
        /// Why the credentials that are configured were not shown.
        #[source]
        credentials: Option<Box<CredentialError>>,
    },
    /// Too many requests (status 429), even after the time that the registry asked for, or that time
    /// is too long.
    #[error("{server} allows no more requests for now{}", after(*seconds))]
    RateLimited {
        /// Who says so.
        server: String,
        /// When it would allow more, if it said so.
        seconds: Option<u64>,
    },
    /// No connection.
    #[error("cannot connect to {server}")]
    Connect {
        /// Where to.
        server: String,
        /// Why.
        #[source]
        source: DialError,
    },
    /// A connection, but no TLS over it.
    #[error("no TLS with {server}")]
    Tls {
        /// Where to.
        server: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The connection ended or stood still too often.
    #[error("the connection to {server} broke")]
    Broken {
        /// Where to.
        server: String,
        /// What was said last.
        #[source]
        source: BrokenError,
    },
    /// A status that nothing here expects.
    #[error("{server} answered with status {status}{}", message.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Status {
        /// Who.
        server: String,
        /// The status.
        status: u16,
        /// What the registry says, if it was asked anonymously.
        message: Option<String>,
    },
    /// A redirect to nowhere, to a place that may not be named, or one too many.
    #[error("{server} redirects {problem}")]
    Redirect {
        /// Who.
        server: String,
        /// What is wrong with it.
        problem: RedirectProblem,
    },
    /// How to authenticate is not said, or not in a way that may be followed.
    #[error("{server} asks for credentials {problem}")]
    Challenge {
        /// Who.
        server: String,
        /// What is wrong with it.
        problem: ChallengeProblem,
    },
    /// The token server failed.
    #[error("no token from {server}")]
    Token {
        /// The token server.
        server: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// An answer of the token server that is no token.
    #[error("{server} did not answer with a token")]
    NoToken {
        /// The token server.
        server: String,
    },
    /// Not a manifest, by its media type.
    #[error("{server} did not answer with a manifest of an image but with {media_type:?}")]
    MediaType {
        /// Who.
        server: String,
        /// What it says it is.
        media_type: String,
    },
    /// More bytes than such a thing may have.
    #[error("{server} sent more than {limit} bytes for {what}")]
    TooLarge {
        /// Who.
        server: String,
        /// What was asked for.
        what: &'static str,
        /// In bytes.
        limit: usize,
    },
    /// Other bytes than were asked for.
    #[error("{server} sent {found} for {expected}")]
    Digest {
        /// Who.
        server: String,
        /// What was asked for or promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Another part of a blob than was asked for.
    #[error("{server} sent another part of the blob than it was asked for")]
    Range {
        /// Who.
        server: String,
    },
    /// A name that no request can have. Cannot happen to parsed references.
    #[error("the request to {server} cannot be written")]
    Request {
        /// Who.
        server: String,
    },
}

/// What may help against [`RegistryError::Denied`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeniedHint {
    /// There are no credentials.
    LogIn {
        /// As `docker login` takes it; empty for the default registry.
        registry: String,
    },
    /// Those that there are were shown.
    Rejected,
    /// Those that there are were not shown to the token server, since it may be anyone's.
    Withheld {
        /// The registry that they are for.
        registry: String,
        /// The token server.
        realm: String,
    },
    /// Those that there are could not be read; the source says why.
    Unreadable,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server speaks plain HTTP.
    #[error(
        "the server does not speak TLS (if it is meant to be plain HTTP, set \"plain_http\" for it in registries.json)"
    )]
    NotTls,
    /// Its certificate is of an authority that is not known here.
    #[error(
        "its certificate is of an authority that this host does not trust (set \"ca\" for it in registries.json)"
    )]
    UnknownIssuer,
    /// Something else is wrong with its certificate.
    #[error("its certificate is not valid")]
    Certificate(#[source] rustls::Error),
    /// Something else.
    #[error("the handshake failed")]
    Handshake(#[source] std::io::Error),
    /// It takes too long.
    #[error("the handshake was not completed in time")]
    Timeout,
    /// The name cannot be in a certificate, or the settings are not usable.
    #[error("TLS cannot be set up")]
    Setup,
}

/// Why an exchange or a transfer ended.
#[derive(Debug, thiserror::Error)]
pub enum BrokenError {
    /// The server closed or sent what is not HTTP.
    #[error("the exchange failed")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No byte came for a long time.
    #[error("no data for {0} seconds")]
    Idle(u64),
    /// It ended within the body.
    #[error("the transfer ended early")]
    Truncated,
}

/// What is wrong with a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectProblem {
    /// No URL, or one with user information or of another scheme.
    #[error("to nowhere")]
    Invalid,
    /// From TLS to none.
    #[error("from HTTPS to HTTP")]
    Downgrade,
    /// More than are followed.
    #[error("too often")]
    TooMany,
}

/// What is wrong with a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeProblem {
    /// Neither `Basic` nor `Bearer`.
    #[error("in no way that is known")]
    Unknown,
    /// The token server is no URL.
    #[error("of a token server that is no URL")]
    Realm,
    /// The token server has no TLS.
    #[error("of a token server without TLS")]
    InsecureRealm,
}

impl std::fmt::Display for DeniedHint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LogIn { registry } => {
                let space = if registry.is_empty() { "" } else { " " };
                write!(f, ": it does not exist or needs a login (docker login{space}{registry})")
            }
            Self::Rejected => f.write_str(": it does not exist or the credentials do not suffice"),
            Self::Withheld { registry, realm } => write!(
                f,
                ": the credentials for {registry} were not sent to its token server {realm} (allow that with \"auth_hosts\" in registries.json)"
            ),
            Self::Unreadable => f.write_str(", and its credentials could not be read"),
        }
    }
}

fn after(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" (try again in {seconds} s)")).unwrap_or_default()
}
