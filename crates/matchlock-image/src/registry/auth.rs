//! Who asks: answers to challenges, with a password or with a token (distribution spec, token
//! authentication).
//!
//! A password goes to the registry itself, or to a token server that the registry names and that is
//! of the same domain; a user can add hosts. To any other a token is asked for anonymously.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::challenge::Challenge;
use super::config::Server;
use super::credentials::{Credential, CredentialError, Credentials};
use super::dial::Reach;
use super::domain;
use super::error::{ChallengeProblem, DeniedHint, RegistryError};
use super::follow::place_of;
use super::retry::{self, Wait};
use super::secret::{self, Secret};
use super::transport::{Answer, Ask, Transport};
use super::url::{Scheme, Url, encode};
use crate::reference::RegistryName;

/// Most bytes of an answer with a token.
const MAX_TOKEN: usize = 256 * 1024;

/// Credentials, and the tokens that they gave.
#[derive(Debug)]
pub(crate) struct Auth {
    credentials: Credentials,
    known: Mutex<HashMap<(RegistryName, String), HeaderValue>>,
}

/// What to show the registry, and what to say should it deny nevertheless.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) hint: DeniedHint,
    pub(crate) unreadable: Option<Box<CredentialError>>,
}

/// Who challenges, and for what.
#[derive(Debug)]
pub(crate) struct Challenger<'a> {
    pub(crate) transport: &'a Arc<Transport>,
    pub(crate) waits: &'a dyn Wait,
    pub(crate) server: &'a Server,
    /// With the prefix of a mirror.
    pub(crate) repository: &'a str,
    /// How the connection to the server is.
    pub(crate) scheme: Scheme,
    pub(crate) reach: Reach,
}

/// A token server.
struct Realm {
    url: Url,
    service: Option<String>,
    scope: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
}

impl Auth {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, known: Mutex::default() }
    }

    /// What the server took before.
    pub(crate) fn known(&self, server: &Server, repository: &str) -> Option<HeaderValue> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(server.name.clone(), repository.to_owned())).cloned()
    }

    /// Answers a challenge.
    pub(crate) async fn grant(
        &self,
        challenger: &Challenger<'_>,
        challenge: Challenge,
    ) -> Result<Grant, RegistryError> {
        let name = &challenger.server.name;
        let (credential, unreadable) = match self.credentials.find(name).await {
            Ok(found) => (found, None),
            Err(error) => {
                tracing::warn!(registry = %name, %error, "credentials cannot be read");
                (None, Some(Box::new(error)))
            }
        };
        let hint = match (&credential, &unreadable) {
            (_, Some(_)) => DeniedHint::Unreadable,
            (None, None) => log_in(name),
            (Some(_), None) => DeniedHint::Rejected,
        };
        let mut grant = Grant { header: None, hint, unreadable };
        match (challenge, credential) {
            (_, Some(Credential::Registry(token))) => grant.header = token.bearer(),
            (Challenge::Basic, Some(Credential::Password { user, password })) => {
                grant.header = secret::basic(&user, &password);
            }
            (Challenge::Basic, _) => {}
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let scope =
                    scope.unwrap_or_else(|| format!("repository:{}:pull", challenger.repository));
                let realm = Realm { url: realm_url(challenger, &realm)?, service, scope };
                let credential = challenger.entitled(&realm, credential, &mut grant.hint);
                grant.header = challenger.token(&realm, credential.as_ref(), &grant.hint).await?;
            }
        }
        let key = (name.clone(), challenger.repository.to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &grant.header {
            Some(header) => known.insert(key, header.clone()),
            None => known.remove(&key),
        };
        Ok(grant)
    }
}

impl Challenger<'_> {
    /// The credential, if this token server may see it.
    fn entitled(
        &self,
        realm: &Realm,
        credential: Option<Credential>,
        hint: &mut DeniedHint,
    ) -> Option<Credential> {
        let credential = credential?;
        let host = &realm.url.endpoint().host;
        let registries = self.transport.registries();
        if domain::is_same(&self.server.endpoint.host, host)
            || registries.is_auth_host(&self.server.name, host)
        {
            return Some(credential);
        }
        let registry = self.server.name.to_string();
        tracing::warn!(%registry, realm = %host, "credentials are withheld from a token server");
        *hint = DeniedHint::Withheld { registry, realm: host.to_string() };
        None
    }

    /// Asks for a token; `None` when it is refused.
    async fn token(
        &self,
        realm: &Realm,
        credential: Option<&Credential>,
        hint: &DeniedHint,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let ask = realm.ask(credential);
        let place = place_of(&realm.url, self.server, self.reach);
        let host = realm.url.endpoint().host.to_string();
        let failed =
            |source| RegistryError::Token { server: host.clone(), source: Box::new(source) };
        let answer = self.send(&place, &ask).await.map_err(failed)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::debug!(realm = %host, ?hint, "the token server refuses");
                answer.discard().await;
                return Ok(None);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let seconds = retry::asked(answer.headers()).map(|wait| wait.as_secs());
                return Err(RegistryError::RateLimited { server: host, seconds });
            }
            status => {
                let server = host.clone();
                let status = status.as_u16();
                return Err(failed(RegistryError::Status { server, status, message: None }));
            }
        }
        let text = answer.read("a token", MAX_TOKEN).await.map_err(failed)?;
        let answer: Option<TokenAnswer> = serde_json::from_slice(&text).ok();
        let token = answer.and_then(|answer| answer.token.or(answer.access_token));
        let header = token.and_then(|token| token.bearer());
        header.map(Some).ok_or(RegistryError::NoToken { server: host })
    }

    async fn send(
        &self,
        place: &super::transport::Place,
        ask: &Ask,
    ) -> Result<Answer, RegistryError> {
        let mut attempt = 1;
        loop {
            let result = self.transport.send(place, ask).await;
            let wait = match &result {
                Ok(answer) => retry::after(answer.status(), answer.headers(), attempt),
                Err(RegistryError::Broken { .. }) => retry::backoff(attempt),
                Err(_) => None,
            };
            let Some(wait) = wait else { return result };
            self.waits.wait(wait).await;
            attempt += 1;
        }
    }
}

impl Realm {
    fn ask(&self, credential: Option<&Credential>) -> Ask {
        let service = self.service.as_deref().map(|service| ("service", service));
        let scope = Some(("scope", self.scope.as_str()));
        let mut headers = HeaderMap::new();
        if let Some(Credential::Identity(token)) = credential {
            let form = form([
                Some(("grant_type", "refresh_token")),
                service,
                Some(("client_id", "matchlock")),
                scope,
                Some(("refresh_token", token.reveal())),
            ]);
            let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form_type);
            return Ask { method: Method::POST, url: self.url.clone(), headers, body: form };
        }
        let mut account = None;
        if let Some(Credential::Password { user, password }) = credential {
            account = Some(("account", user.as_str()));
            if let Some(value) = secret::basic(user, password) {
                headers.insert(AUTHORIZATION, value);
            }
        }
        let url = self.url.with_query([account, service, scope].into_iter().flatten());
        Ask { method: Method::GET, url, headers, body: Bytes::new() }
    }
}

/// The token server of a challenge. Without TLS only where the registry itself has none.
fn realm_url(challenger: &Challenger<'_>, realm: &str) -> Result<Url, RegistryError> {
    let wrong = |problem| {
        Err(RegistryError::Challenge { server: challenger.server.name.to_string(), problem })
    };
    match Url::parse(realm) {
        None => wrong(ChallengeProblem::Realm),
        Some(url) if url.scheme() == Scheme::Http && challenger.scheme == Scheme::Https => {
            wrong(ChallengeProblem::InsecureRealm)
        }
        Some(url) => Ok(url),
    }
}

/// What to say to who has no credentials.
pub(crate) fn log_in(registry: &RegistryName) -> DeniedHint {
    let registry = if registry.is_default() { String::new() } else { registry.to_string() };
    DeniedHint::LogIn { registry }
}

fn form<const N: usize>(parameters: [Option<(&str, &str)>; N]) -> Bytes {
    let mut text = String::new();
    for (name, value) in parameters.into_iter().flatten() {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        encode(value, &mut text);
    }
    Bytes::from(text)
}
