//! HTTP exchanges between the guest and the outside.
//!
//! A connection of the guest is served by [`h1`] or [`h2`]; what may pass and what becomes of it is
//! the same for both. [`judge`] decides about the head of a request, on the policy of that moment,
//! and puts secrets in; [`upload`] watches its body; [`answer`] applies hooks to the response, and
//! [`download`] to its body; [`record`] tells the audit trail. Bodies are streamed: what is held of
//! one is bounded by the buffers named here, whatever its length.

mod answer;
mod callback;
mod download;
pub(crate) mod h1;
pub(crate) mod h2;
mod held;
mod interim;
mod judge;
mod local;
mod record;
#[cfg(test)]
mod tests;
mod upload;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use matchlock_intercept::headers::HeaderValue;
use matchlock_policy::Connection;

use crate::engine::Shared;
use crate::engine::stream::BoxedStream;

pub(crate) use answer::Stop;
pub(crate) use callback::CallError;
pub(crate) use download::DownloadError;
pub(crate) use h1::{ReceiveError, SendError};
pub(crate) use h2::{Budget, Failure, MalformedHead};
pub(crate) use held::Room;
pub(crate) use interim::TooManyInterims;

/// A head that has begun must be complete after this: a guest cannot hold a connection by a byte
/// now and then.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection on which nothing is asked for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Bodies up to this length are held back when a change makes their length unknown, so that it can
/// be told; longer ones go without one.
const HELD_BODY: usize = 1 << 20;

/// What the exchanges of one connection have in common.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) shared: Arc<Shared>,
    /// What is known of the connection that the requests come on. It must say where all of them go.
    pub(crate) connection: Connection,
    /// Whether it is TLS, on both sides.
    pub(crate) tls: bool,
    /// The number of the flow, for the audit trail.
    pub(crate) flow: u64,
    /// Set when the upstream is an HTTP proxy that is asked for whole URIs.
    pub(crate) proxy: Option<ProxyHop>,
}

impl Exchange {
    /// A request says itself what it is for, and the upstream was dialled before it: unless the
    /// connection tells where it goes, a secret could go elsewhere.
    fn check(&self) -> io::Result<()> {
        if self.connection.bound || self.connection.sni.is_some() {
            return Ok(());
        }
        Err(io::Error::other("nothing says where the connection goes"))
    }
}

/// An HTTP proxy between us and the origin.
#[derive(Clone, Debug)]
pub(crate) struct ProxyHop {
    /// The value of `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What [`Redial::redial`] gives.
pub(crate) type Redialled<'a> = Pin<Box<dyn Future<Output = io::Result<BoxedStream>> + Send + 'a>>;

/// Connects once more to where the first connection went: to the same host, decided and checked anew.
pub(crate) trait Redial: Send {
    fn redial(&mut self) -> Redialled<'_>;
}
