//! Another connection to where a flow goes, when the server has closed the first.

use std::io;
use std::sync::Arc;

use matchlock_policy::Denied;

use super::Engine;
use super::outside::OutsideError;
use super::plain::Session;
use super::stream::BoxedStream;
use super::target::Target;
use crate::dial::Purpose;
use crate::http::{Redial, Redialled};
use crate::tls::ALPN_H2;

/// Connects as the flow did, on the policy of that moment.
#[derive(Debug)]
pub(crate) struct Redialer {
    engine: Arc<Engine>,
    target: Target,
    session: Session,
    proxied: bool,
}

impl Redialer {
    /// `proxied` says whether the first connection is to a proxy that wants whole URIs.
    pub(crate) fn new(
        engine: Arc<Engine>,
        target: Target,
        session: Session,
        proxied: bool,
    ) -> Self {
        Self { engine, target, session, proxied }
    }

    async fn connect(&self) -> io::Result<BoxedStream> {
        let policy = self.engine.shared.policy();
        let allowed = policy.connect(self.target.allowed.endpoint()).map_err(refused)?;
        let outside = &self.engine.outside;
        let purpose = match (&self.session, self.proxied) {
            (Session::Plain, true) => Purpose::Http,
            (Session::Plain, false) => Purpose::Raw,
            (Session::Tls { .. }, _) => Purpose::Tls,
        };
        let connected = outside.dial(&policy, &allowed, purpose).await.map_err(failed)?;
        if connected.proxy.is_some() != self.proxied {
            return Err(io::Error::other("the way out has changed"));
        }
        let Session::Tls { offers, .. } = &self.session else { return Ok(connected.stream) };
        // The guest speaks HTTP/1 by now, so nothing else will do.
        let offers: Vec<_> = offers.iter().filter(|offer| *offer != ALPN_H2).cloned().collect();
        let secured = outside.secure(connected.stream, &allowed, &offers).await.map_err(failed)?;
        Ok(secured.stream)
    }
}

impl Redial for Redialer {
    fn redial(&mut self) -> Redialled<'_> {
        Box::pin(self.connect())
    }
}

fn refused(denied: Denied) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, denied)
}

fn failed(error: OutsideError) -> io::Error {
    io::Error::other(error)
}
