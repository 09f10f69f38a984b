//! Which servers are asked, and how.

use matchlock_testkit::registry::{FakeRegistry, Reply};

use super::rig::*;
use crate::digest::Digest;
use crate::registry::{
    Credentials, DialError, Registries, RegistriesError, RegistryError, TlsError,
};

#[tokio::test]
async fn the_default_registry_is_at_its_own_host_over_tls() {
    let hub = stock(FakeRegistry::tls(&["registry-1.docker.io"]));
    let rig = Hosts::default().public("registry-1.docker.io", &hub).trusting(&hub).rig();
    let manifest = rig.manifest("app").await.expect("a manifest");
    assert_eq!(&manifest.bytes[..], b"{\"a\":1}");
    assert_eq!(manifest.media_type, OCI_MANIFEST);
    assert_eq!(manifest.digest, Digest::of(b"{\"a\":1}"));
    let request = hub.requests().remove(0);
    assert!(request.tls);
    assert_eq!(request.target, "/v2/library/app/manifests/latest");
    assert_eq!(request.header("host"), Some("registry-1.docker.io"));
    assert_eq!(request.header("user-agent"), Some("matchlock/test"));
    assert_eq!(request.header("authorization"), None);
    assert!(request.header("accept").expect("types").contains("image.index.v1+json"));
    assert_eq!(rig.dialed(), ["registry-1.docker.io:443"]);
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let registry = stocked();
    let rig = Hosts::default().rig();
    let image = format!("{}/app", registry.address());
    for _ in 0..3 {
        rig.manifest(&image).await.expect("a manifest");
    }
    let connections: Vec<_> = registry.requests().iter().map(|r| r.connection).collect();
    assert_eq!(connections, [connections[0]; 3]);
}

#[tokio::test]
async fn a_kept_connection_that_has_gone_stale_is_replaced() {
    let registry = stocked();
    // Each connection ends after one answer, without a word before.
    registry.script(|_| Some(Reply::ok(b"{}").header("Content-Type", OCI_MANIFEST).cut(2)));
    let rig = Hosts::default().rig();
    let image = format!("{}/app", registry.address());
    for _ in 0..5 {
        rig.manifest(&image).await.expect("a manifest");
    }
    assert!(rig.waits().is_empty());
}

#[tokio::test]
async fn this_host_may_speak_plain_http_or_tls() {
    let (plain, secure) = (stocked(), stock(FakeRegistry::tls(&[])));
    let rig = Hosts::default().trusting(&secure).rig();
    for registry in [&plain, &secure] {
        let image = format!("{}/app", registry.address());
        rig.manifest(&image).await.expect("a manifest");
        rig.manifest(&image).await.expect("a manifest");
    }
    assert!(plain.requests().iter().all(|request| !request.tls));
    assert!(secure.requests().iter().all(|request| request.tls));
    let only = registries(&format!(r#"{{"{}": {{"plain_http": false}}}}"#, plain.address()));
    let rig = Hosts::default().rig_with(only, Credentials::none());
    let error = rig.manifest(&format!("{}/app", plain.address())).await.expect_err("no TLS");
    assert!(matches!(error, RegistryError::Tls { source: TlsError::NotTls, .. }), "{error}");
}

#[tokio::test]
async fn plain_http_is_for_whom_the_user_says() {
    let registry = stocked();
    let hosts = || Hosts::default().public("r.example", &registry);
    let error = hosts().rig().manifest("r.example:5000/app").await.expect_err("no TLS");
    assert!(matches!(error, RegistryError::Tls { source: TlsError::NotTls, .. }), "{error}");
    assert!(chain(&error).contains("plain_http"), "{}", chain(&error));
    assert_eq!(registry.requests().len(), 0);

    let plain = registries(r#"{"r.example:5000": {"plain_http": true}}"#);
    let rig = hosts().rig_with(plain, Credentials::none());
    rig.manifest("r.example:5000/app").await.expect("a manifest");
    assert_eq!(rig.dialed(), ["r.example:5000"]);
    assert_eq!(registry.requests()[0].header("host"), Some("r.example:5000"));
}

#[tokio::test]
async fn an_unknown_authority_is_told_with_what_helps() {
    let registry = stock(FakeRegistry::tls(&["r.example"]));
    let hosts = || Hosts::default().public("r.example", &registry);
    let error = hosts().rig().manifest("r.example/app").await.expect_err("not trusted");
    assert!(matches!(error, RegistryError::Tls { source: TlsError::UnknownIssuer, .. }), "{error}");
    assert!(chain(&error).contains("\"ca\""), "{}", chain(&error));

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, registry.ca_pem()).expect("written");
    let json = serde_json::json!({"r.example": {"ca": path}});
    let rig = hosts().rig_with(registries(&json.to_string()), Credentials::none());
    rig.manifest("r.example/app").await.expect("a manifest");
    // For that registry only.
    let other = Hosts::default().public("other.example", &registry);
    let rig = other.rig_with(registries(&json.to_string()), Credentials::none());
    rig.manifest("other.example/app").await.expect_err("not trusted");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let registry = stock(FakeRegistry::tls(&["r.example"]));
    let rig = Hosts::default().public("s.example", &registry).trusting(&registry).rig();
    let error = rig.manifest("s.example/app").await.expect_err("another name");
    assert!(
        matches!(error, RegistryError::Tls { source: TlsError::Certificate(_), .. }),
        "{error}"
    );
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_when_they_fail() {
    let (hub, good, empty) = (stocked(), stocked(), FakeRegistry::plain());
    good.put_manifest("hub/library/app", "latest", OCI_MANIFEST, b"{\"mirror\":1}");
    let hosts = || {
        let hosts = Hosts::default().public("registry-1.docker.io", &hub).dead("dead.example");
        hosts.public("good.example", &good).public("empty.example", &empty)
    };
    let of = |mirrors: &[&str]| {
        let entry = serde_json::json!({"docker.io": {"mirrors": mirrors, "plain_http": true}});
        registries(&entry.to_string())
    };
    let all = of(&["http://dead.example", "http://empty.example:81", "http://good.example/hub/"]);
    let rig = hosts().rig_with(all, Credentials::none());
    let manifest = rig.manifest("app").await.expect("a manifest");
    assert_eq!(&manifest.bytes[..], b"{\"mirror\":1}");
    assert_eq!(rig.dialed(), ["dead.example:80", "empty.example:81", "good.example:80"]);
    assert_eq!(empty.targets(), ["/v2/library/app/manifests/latest"]);
    assert!(rig.waits().is_empty());
    assert_eq!(hub.requests().len(), 0);

    let bad = of(&["http://dead.example", "http://empty.example"]);
    let rig = hosts().rig_with(bad, Credentials::none());
    rig.manifest("app").await.expect("a manifest");
    assert_eq!(hub.requests().len(), 1);
    let error = rig.manifest("app:none").await.expect_err("no tag");
    assert!(matches!(&error, RegistryError::NoSuchTag { tag, .. } if tag == "none"), "{error}");
}

#[tokio::test]
async fn a_mirror_that_cuts_is_left_for_the_next_server() {
    let (origin, mirror) = (stocked(), stocked());
    let blob = bytes(1000);
    let digest = origin.put_blob(&blob);
    mirror.put_blob(&blob);
    let cut = blob.clone();
    mirror.script(move |request| match request.header("range") {
        None => Some(Reply::ok(&cut).cut(400)),
        Some(_) => Some(Reply::status(206).cut(0)),
    });
    let settings =
        registries(r#"{"r.example": {"mirrors": ["http://m.example"], "plain_http": true}}"#);
    let hosts = Hosts::default().public("r.example", &origin).public("m.example", &mirror);
    let rig = hosts.rig_with(settings, Credentials::none());
    let (start, found) = rig.blob("r.example/app", &digest, 0).await.expect("a blob");
    assert_eq!((start, found == blob), (0, true));
    assert_eq!(origin.requests()[0].header("range"), Some("bytes=400-"));
}

#[tokio::test]
async fn servers_that_are_not_there() {
    let rig = Hosts::default().dead("dead.example").rig();
    let error = rig.manifest("dead.example/app").await.expect_err("refused");
    assert!(matches!(error, RegistryError::Connect { source: DialError::Refused, .. }), "{error}");
    assert_eq!(chain(&error), "cannot connect to dead.example: the connection was refused");
    let error = rig.manifest("nowhere.example/app").await.expect_err("unknown");
    assert!(chain(&error).starts_with("cannot connect to nowhere.example: the name cannot be"));
    assert!(rig.waits().is_empty());
}

#[tokio::test]
async fn what_does_not_exist_is_told_apart() {
    let registry = stocked();
    let rig = Hosts::default().rig();
    let at = registry.address();
    let error = rig.manifest(&format!("{at}/app:none")).await.expect_err("no tag");
    assert_eq!(chain(&error), format!("{at}/app has no tag \"none\""));
    let error = rig.manifest(&format!("{at}/nobody")).await.expect_err("no repository");
    assert_eq!(chain(&error), format!("{at}/nobody:latest does not exist at {at}"));
    let digest = Digest::of(b"").to_string();
    let error = rig.blob(&format!("{at}/app"), &digest, 0).await.expect_err("no blob");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[test]
fn settings_are_read_strictly() {
    let parse = |text: &str| Registries::parse(text.as_bytes());
    parse("{}").expect("no settings");
    parse(r#"{"r.example": {}}"#).expect("an empty entry");
    assert!(matches!(parse("[]"), Err(RegistriesError::Json(_))));
    assert!(matches!(parse(r#"{"r.example": {"mirror": []}}"#), Err(RegistriesError::Json(_))));
    assert!(matches!(parse(r#"{"r example": {}}"#), Err(RegistriesError::Name(_))));
    for mirror in ["mirror.example", "ftp://m.example", "https://u:p@m.example", "https://m/?a=b"] {
        let text = serde_json::json!({"r.example": {"mirrors": [mirror]}}).to_string();
        let error = parse(&text).expect_err(mirror);
        assert!(matches!(error, RegistriesError::Mirror { .. }), "{error}");
    }
    let text = r#"{"r.example": {"ca": "/nonexistent/ca.pem"}}"#;
    assert!(matches!(parse(text), Err(RegistriesError::Read { .. })));
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("registries.json");
    Registries::load(&path).expect("a file that is not there is no settings");
    std::fs::write(&path, "{").expect("written");
    assert!(Registries::load(&path).is_err());
    let ca = serde_json::json!({"r.example": {"ca": path}}).to_string();
    assert!(matches!(parse(&ca), Err(RegistriesError::Ca { .. })));
}
