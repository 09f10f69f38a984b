//! Who is shown what.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use matchlock_testkit::registry::{Auth, FakeRegistry, Grants, Reply};
use serde_json::json;

use super::rig::*;
use crate::registry::{ChallengeProblem, Credentials, DeniedHint, DialError, RegistryError};

/// Must never be seen.
const CANARY: &str = "hunter2-canary";
const PLAIN: &str = r#"{"r.example": {"plain_http": true}}"#;

/// A `config.json` with a directory around it.
struct Docker {
    directory: tempfile::TempDir,
}

impl Docker {
    fn new(config: &serde_json::Value) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.json");
        std::fs::write(path, config.to_string()).expect("written");
        Self { directory }
    }

    fn user(registry: &str) -> Self {
        Self::new(&json!({"auths": {registry: {"username": "me", "password": CANARY}}}))
    }

    fn credentials(&self) -> Credentials {
        let path: &Path = self.directory.path();
        Credentials::docker(path.join("config.json"), path.as_os_str().to_owned())
    }
}

fn password() -> Grants {
    Grants::Password { user: "me".into(), password: CANARY.into() }
}

fn bearer(realm: &str, grants: Grants) -> Auth {
    Auth::Bearer { realm: realm.into(), grants }
}

fn authorizations(registry: &FakeRegistry) -> Vec<Option<String>> {
    let requests = registry.requests();
    requests.iter().map(|request| request.header("authorization").map(str::to_owned)).collect()
}

#[tokio::test]
async fn basic_credentials_go_to_who_asks_for_them() {
    let registry = stocked();
    registry.require(Auth::Basic { user: "me".into(), password: CANARY.into() });
    let docker = Docker::user("r.example");
    let hosts = Hosts::default().public("r.example", &registry);
    let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
    rig.manifest("r.example/app").await.expect("a manifest");
    rig.manifest("r.example/app").await.expect("a manifest");
    let shown = authorizations(&registry);
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[0], None);
    assert!(shown[1].is_some() && shown[1] == shown[2]);
}

#[tokio::test]
async fn an_anonymous_token_is_had_once() {
    let registry = stocked();
    registry.require(bearer("http://auth.r.example/token?x=1", Grants::Everyone));
    let hosts = Hosts::default().public("r.example", &registry);
    let rig =
        hosts.public("auth.r.example", &registry).rig_with(registries(PLAIN), Credentials::none());
    rig.manifest("r.example/app").await.expect("a manifest");
    rig.manifest("r.example/app").await.expect("a manifest");
    let path = "/v2/app/manifests/latest".to_owned();
    let token = "/token?x=1&service=fake&scope=repository%3Aapp%3Apull".to_owned();
    assert_eq!(registry.targets(), [path.clone(), token, path.clone(), path]);
    assert_eq!(authorizations(&registry)[1], None);
}

#[tokio::test]
async fn a_token_that_has_expired_is_had_anew() {
    let registry = stocked();
    registry.require(bearer("http://r.example/token", Grants::Everyone));
    let hosts = Hosts::default().public("r.example", &registry);
    let rig = hosts.rig_with(registries(PLAIN), Credentials::none());
    rig.manifest("r.example/app").await.expect("a manifest");
    let expired = AtomicUsize::new(0);
    registry.script(move |request| {
        (request.path() != "/token" && expired.fetch_add(1, Ordering::SeqCst) == 0).then(|| {
            Reply::status(401).header("WWW-Authenticate", "Bearer realm=\"http://r.example/token\"")
        })
    });
    rig.manifest("r.example/app").await.expect("a manifest");
    let tokens = registry.requests().iter().filter(|r| r.path() == "/token").count();
    assert_eq!(tokens, 2);
}

#[tokio::test]
async fn a_password_becomes_a_token_and_stays_with_the_token_server() {
    let registry = stocked();
    registry.require(bearer("http://auth.r.example/token", password()));
    let docker = Docker::user("r.example");
    let hosts = Hosts::default().public("r.example", &registry);
    let rig =
        hosts.public("auth.r.example", &registry).rig_with(registries(PLAIN), docker.credentials());
    rig.manifest("r.example/app").await.expect("a manifest");
    let requests = registry.requests();
    assert!(requests[1].target.contains("account=me"));
    assert!(requests[1].header("authorization").expect("shown").starts_with("Basic "));
    let token = format!("Bearer {}", FakeRegistry::TOKEN);
    assert_eq!(requests[2].header("authorization"), Some(token.as_str()));
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let registry = stocked();
    registry.require(bearer("http://r.example/token", Grants::Identity { token: CANARY.into() }));
    let docker = Docker::new(&json!({"auths": {"r.example": {"identitytoken": CANARY}}}));
    let hosts = Hosts::default().public("r.example", &registry);
    let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
    rig.manifest("r.example/app").await.expect("a manifest");
    let request = registry.requests().remove(1);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/token"));
    assert!(String::from_utf8_lossy(&request.body).contains("service=fake"));
}

#[tokio::test]
async fn a_registry_token_goes_to_the_registry() {
    let registry = stocked();
    registry.require(bearer("http://elsewhere.example/token", Grants::Everyone));
    let config = json!({"auths": {"r.example": {"registrytoken": FakeRegistry::TOKEN}}});
    let docker = Docker::new(&config);
    let hosts = Hosts::default().public("r.example", &registry);
    let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
    rig.manifest("r.example/app").await.expect("a manifest");
    assert_eq!(rig.dialed().len(), 1);
}

#[tokio::test]
async fn credentials_do_not_follow_a_realm_elsewhere() {
    let (registry, thief) = (stocked(), stocked());
    registry.require(bearer("http://thief.example/token", password()));
    thief.require(bearer("", Grants::Everyone));
    let hosts = || Hosts::default().public("r.example", &registry).public("thief.example", &thief);
    let docker = Docker::user("r.example");
    // The thief's token is good enough.
    let rig = hosts().rig_with(registries(PLAIN), docker.credentials());
    rig.manifest("r.example/app").await.expect("a manifest");
    assert_eq!(authorizations(&thief), [None]);

    // And if none is given anonymously, the user is told why.
    thief.script(|_| Some(Reply::status(401)));
    let rig = hosts().rig_with(registries(PLAIN), docker.credentials());
    let error = rig.manifest("r.example/app").await.expect_err("denied");
    let withheld =
        matches!(&error, RegistryError::Denied { hint: DeniedHint::Withheld { .. }, .. });
    assert!(withheld, "{error:?}");
    assert!(chain(&error).contains("auth_hosts"), "{error}");
    for request in thief.requests() {
        assert!(
            !format!("{request:?}").contains(CANARY) && request.header("authorization").is_none()
        );
        assert!(!request.target.contains("account"), "{}", request.target);
    }

    // The user may allow it.
    let allowed = r#"{"r.example": {"plain_http": true, "auth_hosts": ["thief.example"]}}"#;
    let rig = hosts().rig_with(registries(allowed), docker.credentials());
    rig.manifest("r.example/app").await.expect_err("denied");
    assert!(authorizations(&thief).last().expect("a request").is_some());
}

#[tokio::test]
async fn an_identity_token_does_not_follow_a_realm_elsewhere() {
    let (registry, thief) = (stocked(), stocked());
    registry.require(bearer("http://thief.example/token", Grants::Everyone));
    thief.require(bearer("", Grants::Everyone));
    let docker = Docker::new(&json!({"auths": {"r.example": {"identitytoken": CANARY}}}));
    let hosts = Hosts::default().public("r.example", &registry).public("thief.example", &thief);
    let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
    rig.manifest("r.example/app").await.expect("a manifest");
    let request = thief.requests().remove(0);
    assert_eq!((request.method.as_str(), request.body.len()), ("GET", 0));
    assert!(!format!("{request:?}").contains(CANARY));
}

#[tokio::test]
async fn authorization_does_not_follow_a_redirect_to_another_host() {
    let (registry, cdn) = (stocked(), stocked());
    let digest = cdn.put_blob(b"a layer");
    registry.require(Auth::Basic { user: "me".into(), password: CANARY.into() });
    let place = format!("http://cdn.example/v2/x/blobs/{digest}");
    registry.script(move |request| {
        let shown = request.header("authorization").is_some();
        (shown && request.path().contains("/blobs/")).then(|| Reply::redirect(&place))
    });
    let docker = Docker::user("r.example");
    let hosts = Hosts::default().public("r.example", &registry).public("cdn.example", &cdn);
    let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
    assert_eq!(rig.blob("r.example/app", &digest, 0).await.expect("a blob").1, b"a layer");
    assert_eq!(authorizations(&cdn), [None]);
    // Nor does a challenge from there lead to any.
    cdn.script(|_| Some(Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\"")));
    rig.blob("r.example/app", &digest, 0).await.expect_err("denied");
    cdn.script(|_| {
        let realm = "Bearer realm=\"http://cdn.example/token\"";
        Some(Reply::status(401).header("WWW-Authenticate", realm))
    });
    rig.blob("r.example/app", &digest, 0).await.expect_err("denied");
    assert!(authorizations(&cdn).iter().all(Option::is_none));
    assert!(cdn.requests().iter().all(|request| !request.target.contains("token")));
    // On the registry itself they stay.
    registry.script(|request| {
        (!request.path().contains("moved")).then(|| Reply::redirect("/v2/moved/manifests/latest"))
    });
    registry.put_manifest("moved", "latest", OCI_MANIFEST, b"{}");
    rig.manifest("r.example/app").await.expect("a manifest");
}

#[tokio::test]
async fn a_mirror_gets_its_own_credentials_only() {
    let (registry, mirror) = (stocked(), stocked());
    mirror.require(Auth::Basic { user: "me".into(), password: CANARY.into() });
    let settings =
        registries(r#"{"r.example": {"mirrors": ["http://m.example"], "plain_http": true}}"#);
    let hosts = || Hosts::default().public("r.example", &registry).public("m.example", &mirror);
    let docker = Docker::user("r.example");
    let rig = hosts().rig_with(settings.clone(), docker.credentials());
    rig.manifest("r.example/app").await.expect("from the registry");
    assert_eq!(authorizations(&mirror), [None]);
    let docker = Docker::user("m.example");
    let rig = hosts().rig_with(settings, docker.credentials());
    rig.manifest("r.example/app").await.expect("from the mirror");
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn realms_that_may_not_be() {
    let registry = stock(FakeRegistry::tls(&["r.example"]));
    let hosts = || Hosts::default().public("r.example", &registry).trusting(&registry);
    let docker = Docker::user("r.example");
    for (realm, problem) in [
        ("http://auth.r.example/token", ChallengeProblem::InsecureRealm),
        ("nonsense", ChallengeProblem::Realm),
        ("https://me:pw@r.example/token", ChallengeProblem::Realm),
        ("file:///etc/passwd", ChallengeProblem::Realm),
    ] {
        registry.require(bearer(realm, Grants::Everyone));
        let rig = hosts().rig_with(registries("{}"), docker.credentials());
        let error = rig.manifest("r.example/app").await.expect_err(realm);
        let found = match &error {
            RegistryError::Challenge { problem, .. } => Some(*problem),
            _ => None,
        };
        assert_eq!(found, Some(problem), "{error:?}");
    }
    registry.script(|_| Some(Reply::status(401).header("WWW-Authenticate", "Negotiate")));
    let error = hosts().rig().manifest("r.example/app").await.expect_err("unknown");
    assert!(
        matches!(error, RegistryError::Challenge { problem: ChallengeProblem::Unknown, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_public_registry_names_no_private_realm() {
    let (registry, inner) = (stocked(), stocked());
    inner.require(bearer("", Grants::Everyone));
    for realm in ["http://inner.example/token", "http://169.254.169.254/", "http://127.0.0.1:1/"] {
        registry.require(bearer(realm, Grants::Everyone));
        let hosts =
            Hosts::default().public("r.example", &registry).private("inner.example", &inner);
        let rig = hosts.rig_with(registries(PLAIN), Credentials::none());
        let error = rig.manifest("r.example/app").await.expect_err(realm);
        let RegistryError::Token { source, .. } = &error else { panic!("{error:?}") };
        let refused =
            matches!(**source, RegistryError::Connect { source: DialError::NotPublic(_), .. });
        assert!(refused, "{error:?}");
    }
    assert_eq!(inner.requests().len(), 0);
}

#[tokio::test]
async fn a_token_server_that_fails_is_told() {
    let registry = stocked();
    registry.require(bearer("http://r.example/token", Grants::Everyone));
    let hosts = || Hosts::default().public("r.example", &registry);
    let tried = |reply: Reply| {
        registry.script(move |request| (request.path() == "/token").then(|| reply.clone()));
        let rig = hosts().rig_with(registries(PLAIN), Credentials::none());
        async move { rig.manifest("r.example/app").await.expect_err("no token") }
    };
    let error = tried(Reply::ok(b"{}")).await;
    assert!(matches!(error, RegistryError::NoToken { .. }), "{error}");
    let error = tried(Reply::ok(b"{\"token\": \"a\\r\\nX: y\"}")).await;
    assert!(matches!(error, RegistryError::NoToken { .. }), "{error}");
    let error = tried(Reply::ok(&vec![b' '; 1 << 20])).await;
    assert!(matches!(error, RegistryError::Token { .. }), "{error}");
    let error = tried(Reply::redirect("http://r.example/other")).await;
    assert_eq!(chain(&error), "no token from r.example: r.example answered with status 307");
    let error = tried(Reply::status(429).header("Retry-After", "900")).await;
    assert!(matches!(error, RegistryError::RateLimited { seconds: Some(900), .. }), "{error}");
}

#[tokio::test]
async fn denials_say_what_helps() {
    let registry = stocked();
    let hosts = || Hosts::default().public("r.example", &registry);
    registry.require(Auth::Basic { user: "me".into(), password: "other".into() });
    let rig = hosts().rig_with(registries(PLAIN), Credentials::none());
    let error = rig.manifest("r.example/app").await.expect_err("denied");
    assert!(chain(&error).ends_with("(docker login r.example)"), "{error}");
    let docker = Docker::user("r.example");
    let rig = hosts().rig_with(registries(PLAIN), docker.credentials());
    let error = rig.manifest("r.example/app").await.expect_err("denied");
    assert!(matches!(error, RegistryError::Denied { hint: DeniedHint::Rejected, .. }), "{error}");
    let docker = Docker::new(&json!({"credsStore": "missing"}));
    let rig = hosts().rig_with(registries(PLAIN), docker.credentials());
    let error = rig.manifest("r.example/app").await.expect_err("denied");
    assert!(chain(&error).contains("credential helper \"missing\""), "{}", chain(&error));
}

/// Takes everything that is logged, for the thread that logs it. One for the whole process: what a
/// place in the code is worth is remembered for all threads, so one of a single test would miss what
/// another test has passed before.
#[derive(Debug)]
struct Log;

thread_local! {
    static LOGGED: RefCell<String> = const { RefCell::new(String::new()) };
}

impl Log {
    fn start() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Self).expect("the only one"));
    }

    fn field(field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        LOGGED.with_borrow_mut(|text| *text += &format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Self::field);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Self::field);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Everything that could be shown, from every failure that has seen a secret.
#[tokio::test]
async fn no_secret_is_ever_shown() {
    Log::start();
    let registry = stocked();
    let echo = |request: &matchlock_testkit::registry::Request| {
        let shown = request.header("authorization").unwrap_or_default().to_owned();
        Reply::error(500, "ECHO", &format!("{CANARY} {shown} {}", request.target))
    };
    registry.require(bearer("http://r.example/token", password()));
    registry.script(move |request| {
        let shown = request.header("authorization").is_some();
        shown.then(|| echo(request))
    });
    let docker = Docker::user("r.example");
    let hosts = Hosts::default().public("r.example", &registry);
    let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
    let mut seen = format!("{rig:?} {:?}", docker.credentials());
    let error = rig.manifest("r.example/app").await.expect_err("an echo");
    seen += &format!("{error:?} {}", chain(&error));
    let echo_bearer = Arc::new(move |request: &matchlock_testkit::registry::Request| {
        request.header("authorization")?.starts_with("Bearer").then(|| echo(request))
    });
    registry.script(move |request| echo_bearer(request));
    let error = rig.manifest("r.example/app").await.expect_err("an echo");
    seen += &format!("{error:?} {} {rig:?}", chain(&error));
    // What is logged on the way, and a helper and an entry that are broken, with it.
    for config in [
        json!({"credsStore": CANARY.replace('-', "/")}),
        json!({"auths": {"r.example": {"auth": CANARY}}}),
    ] {
        let docker = Docker::new(&config);
        let hosts = Hosts::default().public("r.example", &registry);
        let rig = hosts.rig_with(registries(PLAIN), docker.credentials());
        let error = rig.manifest("r.example/app").await.expect_err("denied");
        assert!(matches!(error, RegistryError::Denied { .. }), "{error:?}");
        seen += &format!("{error:?} {}", chain(&error));
    }
    let logged = LOGGED.take();
    assert!(logged.contains("credentials cannot be read"), "{logged}");
    assert!(logged.contains("a request is repeated"), "{logged}");
    seen += &logged;
    let encoded = "bWU6aHVudGVyMi1jYW5hcnk";
    for secret in [CANARY, encoded, FakeRegistry::TOKEN] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    // The requests did carry them.
    let sent = format!("{:?}", registry.requests());
    assert!(sent.contains(encoded) && sent.contains(FakeRegistry::TOKEN), "{sent}");
}
