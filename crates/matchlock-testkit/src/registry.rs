//! A registry for tests (OCI distribution spec, pulling): what is put into it, served with or without
//! TLS and authentication, and misbehaving as a script says. It remembers every request.
//!
//! ```text
//! GET /v2/<repository>/manifests/<tag or digest>
//! GET /v2/<repository>/blobs/<digest>           with Range
//! GET|POST /token                               the token server, for `Auth::Bearer`
//! ```

mod answer;
mod serve;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Runtime;

use crate::origin::Identity;
pub use answer::Reply;

/// What clients have to show.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    Anonymous,
    /// User and password in each request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token of [`FakeRegistry::TOKEN`].
    Bearer {
        /// The URL of the token server; its path is `/token` when this server is meant.
        realm: String,
        /// Who gets a token.
        grants: Grants,
    },
}

/// To whom the token server gives tokens.
#[derive(Debug, Clone)]
pub enum Grants {
    /// All.
    Everyone,
    /// Who shows user and password in Basic form.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Who posts this as a refresh token.
    Identity {
        /// The token.
        token: String,
    },
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// The number of the connection, from 0.
    pub connection: usize,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields as sent.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of the first field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

type Script = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// A running registry; it ends with the value.
pub struct FakeRegistry {
    address: SocketAddr,
    ca_pem: String,
    state: Arc<State>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct State {
    content: Mutex<Content>,
    requests: Mutex<Vec<Request>>,
    script: Mutex<Option<Script>>,
}

#[derive(Default)]
struct Content {
    auth: Auth,
    blobs: HashMap<String, Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    manifests: HashMap<(String, String), (String, Vec<u8>)>,
    no_ranges: bool,
}

impl FakeRegistry {
    /// The token that its token server gives out.
    pub const TOKEN: &str = "token-of-the-fake-registry";

    /// Starts one that speaks plain HTTP.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn plain() -> Self {
        Self::start(None)
    }

    /// Starts one that speaks TLS, with a certificate for `names`, 127.0.0.1 and ::1.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn tls(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        Self::start(Some(Identity::new(&names, &["http/1.1".to_owned()])))
    }

    fn start(identity: Option<Identity>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            crate::origin::listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let (acceptor, ca_pem) = match identity {
            Some(identity) => (Some(identity.acceptor), identity.ca_pem),
            None => (None, String::new()),
        };
        runtime.spawn(serve::accept(listener, acceptor, Arc::clone(&state)));
        Self { address, ca_pem, state, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate authority of its certificate, as PEM; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Keeps a blob, in all repositories; returns its digest.
    pub fn put_blob(&self, bytes: &[u8]) -> String {
        let digest = answer::digest(bytes);
        self.content().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Keeps other bytes for a digest than it is of.
    pub fn tamper(&self, digest: &str, bytes: &[u8]) {
        self.content().blobs.insert(digest.to_owned(), bytes.to_vec());
    }

    /// Keeps a manifest or an index under a tag and under its digest, which it returns.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> String {
        let digest = answer::digest(bytes);
        for name in [tag, &digest] {
            let key = (repository.to_owned(), name.to_owned());
            self.content().manifests.insert(key, (media_type.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// Asks for authentication from now on.
    pub fn require(&self, auth: Auth) {
        self.content().auth = auth;
    }

    /// Answers with whole blobs from now on, whatever range is asked for.
    pub fn ignore_ranges(&self) {
        self.content().no_ranges = true;
    }

    /// Lets `script` answer first; where it gives `None`, the usual answer follows. It does not see
    /// what authentication thinks of the request.
    pub fn script(&self, script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        *lock(&self.state.script) = Some(Box::new(script));
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state.requests).clone()
    }

    /// The targets of all requests so far.
    pub fn targets(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.target).collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        lock(&self.state.content)
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for FakeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRegistry").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
