//! Requests to a server of images: repeated while that may help, and led where the server's
//! redirects lead, but never with its credentials to another place.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use hyper::{Method, StatusCode};

use super::config::{Security, Server};
use super::dial::Reach;
use super::error::{RedirectProblem, RegistryError};
use super::retry::{self, Wait};
use super::transport::{Answer, Ask, Place, Transport};
use super::url::{Scheme, Url};

/// Redirects of one request that are followed.
const MAX_REDIRECTS: u32 = 5;

/// An answer, and what is known of who gave it.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) answer: Answer,
    /// It came from the server itself, not from where it redirected to.
    pub(crate) own: bool,
    /// For what this server names: whether it may lie on a private network.
    pub(crate) reach: Reach,
}

/// A request for something below `/v2/` of a server.
#[derive(Debug)]
pub(crate) struct Get<'a> {
    pub(crate) server: &'a Server,
    pub(crate) path: &'a str,
    pub(crate) headers: HeaderMap,
}

impl Server {
    fn place(&self) -> Place {
        Place {
            endpoint: self.endpoint.clone(),
            security: self.security,
            trust: self.name.clone(),
            reach: Reach::Any,
        }
    }
}

/// How a URL that a server named is spoken to.
pub(crate) fn place_of(url: &Url, server: &Server, reach: Reach) -> Place {
    let security = match url.scheme() {
        Scheme::Http => Security::Plain,
        Scheme::Https => Security::Tls,
    };
    Place { endpoint: url.endpoint().clone(), security, trust: server.name.clone(), reach }
}

/// Makes a request until its answer is final. Mirrors are asked once: there is somebody else.
pub(crate) async fn get(
    transport: &Arc<Transport>,
    waits: &dyn Wait,
    get: &Get<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<Followed, RegistryError> {
    let mut attempt = 1;
    loop {
        let result = follow(transport, get, authorization).await;
        let wait = match &result {
            _ if get.server.mirror => None,
            Ok(Followed { answer, .. }) => retry::after(answer.status(), answer.headers(), attempt),
            Err(RegistryError::Broken { .. }) => retry::backoff(attempt),
            Err(_) => None,
        };
        let Some(wait) = wait else { return result };
        if let Ok(followed) = result {
            followed.answer.discard().await;
        }
        tracing::debug!(server = %get.server.name, attempt, ?wait, "a request is repeated");
        waits.wait(wait).await;
        attempt += 1;
    }
}

async fn follow(
    transport: &Arc<Transport>,
    get: &Get<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<Followed, RegistryError> {
    let server = get.server;
    let mut place = server.place();
    let scheme = if server.security == Security::Plain { Scheme::Http } else { Scheme::Https };
    let url = Url::new(scheme, server.endpoint.clone(), format!("/v2/{}", get.path));
    let mut ask =
        Ask { method: Method::GET, url, headers: get.headers.clone(), body: Bytes::new() };
    let mut own = true;
    let mut reach = None;
    for _ in 0..=MAX_REDIRECTS {
        ask.headers.remove(AUTHORIZATION);
        if let Some(value) = authorization.filter(|_| own) {
            ask.headers.insert(AUTHORIZATION, value.clone());
        }
        let answer = transport.send(&place, &ask).await?;
        // What the server itself is decides about all that it leads to.
        let public = if answer.private() { Reach::Any } else { Reach::PublicOnly };
        let reach = *reach.get_or_insert(public);
        let Some(next) = redirect(&answer, &ask.url)? else {
            return Ok(Followed { answer, own, reach });
        };
        own = own && *next.endpoint() == server.endpoint && next.scheme() == answer.scheme();
        place =
            if own { Place { reach, ..server.place() } } else { place_of(&next, server, reach) };
        ask.url = next;
        answer.discard().await;
    }
    Err(RegistryError::Redirect {
        server: server.name.to_string(),
        problem: RedirectProblem::TooMany,
    })
}

/// Where an answer redirects to, if it does.
fn redirect(answer: &Answer, asked: &Url) -> Result<Option<Url>, RegistryError> {
    let redirects = matches!(
        answer.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !redirects {
        return Ok(None);
    }
    let wrong = |problem| RegistryError::Redirect { server: answer.server(), problem };
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    // The scheme is what was spoken, which on this host need not be what was tried first.
    let base = Url::new(answer.scheme(), asked.endpoint().clone(), asked.target().to_owned());
    let next = location.and_then(|location| base.join(location));
    let next = next.ok_or_else(|| wrong(RedirectProblem::Invalid))?;
    if answer.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
        return Err(wrong(RedirectProblem::Downgrade));
    }
    Ok(Some(next))
}
