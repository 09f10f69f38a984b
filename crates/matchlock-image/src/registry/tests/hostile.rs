//! Registries that mean harm.

use std::sync::atomic::{AtomicUsize, Ordering};

use matchlock_testkit::registry::{FakeRegistry, Reply};

use super::rig::*;
use crate::registry::{Credentials, DialError, Manifest, RedirectProblem, RegistryError};

const PLAIN: &str = r#"{"r.example": {"plain_http": true}}"#;

#[tokio::test]
async fn redirects_are_followed_to_other_hosts() {
    let (registry, cdn) = (stocked(), stocked());
    let digest = cdn.put_blob(b"a layer");
    registry.script(|request| {
        request.path().contains("/blobs/").then(|| Reply::redirect("http://cdn.example/b?sig=1"))
    });
    cdn.script(|_| Some(Reply::ok(b"a layer")));
    let hosts = Hosts::default().public("r.example", &registry).public("cdn.example", &cdn);
    let rig = hosts.rig_with(registries(PLAIN), Credentials::none());
    assert_eq!(rig.blob("r.example/app", &digest, 0).await.expect("a blob").1, b"a layer");
    assert_eq!(cdn.targets(), ["/b?sig=1"]);
    assert_eq!(cdn.requests()[0].header("host"), Some("cdn.example"));
}

#[tokio::test]
async fn a_public_registry_does_not_redirect_to_private_addresses() {
    let (registry, inner) = (stocked(), stocked());
    let places = [
        "http://inner.example/",
        "http://127.0.0.1:1/",
        "http://10.0.0.1/",
        "https://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://localhost/",
    ];
    for place in places {
        registry.script(move |_| Some(Reply::redirect(place)));
        let hosts = Hosts::default().public("r.example", &registry);
        let hosts = hosts.private("inner.example", &inner).private("localhost", &inner);
        let rig = hosts.rig_with(registries(PLAIN), Credentials::none());
        let error = rig.manifest("r.example/app").await.expect_err(place);
        let refused =
            matches!(error, RegistryError::Connect { source: DialError::NotPublic(_), .. });
        assert!(refused, "{place}: {error:?}");
    }
    assert_eq!(inner.requests().len(), 0);
}

#[tokio::test]
async fn a_private_registry_may_redirect_within_its_network() {
    let (registry, inner) = (stocked(), stocked());
    registry.script(|_| Some(Reply::redirect("http://inner.example/v2/app/manifests/latest")));
    let hosts = Hosts::default().private("r.example", &registry).private("inner.example", &inner);
    let rig = hosts.rig_with(registries(PLAIN), Credentials::none());
    rig.manifest("r.example/app").await.expect("a manifest");
}

#[tokio::test]
async fn redirects_end() {
    let registry = stocked();
    let count = AtomicUsize::new(0);
    registry.script(move |_| {
        let next = count.fetch_add(1, Ordering::SeqCst);
        Some(Reply::redirect(&format!("/v2/app/manifests/{next}")))
    });
    let rig = Hosts::default().rig();
    let image = format!("{}/app", registry.address());
    let error = rig.manifest(&image).await.expect_err("a loop");
    let too_many = RedirectProblem::TooMany;
    assert!(
        matches!(error, RegistryError::Redirect { problem, .. } if problem == too_many),
        "{error}"
    );
    assert_eq!(registry.requests().len(), 6);
    for nowhere in ["", "file:///etc/passwd", "http://user:pw@r.example/", "gopher:x"] {
        registry.script(move |_| Some(Reply::status(302).header("Location", nowhere)));
        let error = rig.manifest(&image).await.expect_err(nowhere);
        assert!(!chain(&error).contains("pw"), "{error}");
        if !nowhere.is_empty() {
            let invalid = RedirectProblem::Invalid;
            assert!(
                matches!(error, RegistryError::Redirect { problem, .. } if problem == invalid),
                "{error}"
            );
        }
    }
    registry.script(|_| Some(Reply::status(302)));
    let error = rig.manifest(&image).await.expect_err("no location");
    assert!(matches!(error, RegistryError::Redirect { .. }), "{error}");
}

#[tokio::test]
async fn https_does_not_become_http() {
    let registry = stock(FakeRegistry::tls(&["r.example"]));
    registry.script(|_| Some(Reply::redirect("http://r.example/")));
    let rig = Hosts::default().public("r.example", &registry).trusting(&registry).rig();
    let error = rig.manifest("r.example/app").await.expect_err("a downgrade");
    let downgrade = RedirectProblem::Downgrade;
    assert!(
        matches!(error, RegistryError::Redirect { problem, .. } if problem == downgrade),
        "{error}"
    );
}

#[tokio::test]
async fn a_manifest_is_not_larger_than_manifests_are() {
    for length in [true, false] {
        let registry = stocked();
        registry.script(move |_| {
            let huge = Reply::ok(&vec![b' '; Manifest::MAX + 1]);
            let huge = huge.header("Content-Type", OCI_MANIFEST);
            Some(if length { huge } else { huge.without_length() })
        });
        let rig = Hosts::default().rig();
        let error = rig.manifest(&format!("{}/app", registry.address())).await.expect_err("huge");
        assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_manifest_by_its_type_is_refused() {
    let registry = stocked();
    let rig = Hosts::default().rig();
    let image = format!("{}/app:t", registry.address());
    for (field, body, expected) in [
        ("text/html; charset=utf-8", "<html>", None),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "{}", None),
        ("application/json", "{}", None),
        ("application/json", r#"{"mediaType": "text/html"}"#, None),
        (
            "application/json",
            r#"{"mediaType": "application/vnd.oci.image.index.v1+json"}"#,
            Some("application/vnd.oci.image.index.v1+json"),
        ),
        ("Application/VND.oci.image.manifest.v1+JSON; charset=utf-8", "{}", Some(OCI_MANIFEST)),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "{}",
            Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ),
    ] {
        registry.put_manifest("app", "t", field, body.as_bytes());
        let result = rig.manifest(&image).await;
        match expected {
            Some(expected) => assert_eq!(result.expect("a manifest").media_type, expected),
            None => {
                let error = result.expect_err(field);
                assert!(matches!(error, RegistryError::MediaType { .. }), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_manifest_is_what_its_digest_says() {
    let registry = stocked();
    let rig = Hosts::default().rig();
    let at = registry.address();
    let digest = registry.put_manifest("app", "t", OCI_MANIFEST, b"{}");
    let by_digest = format!("{at}/app@{digest}");
    assert_eq!(rig.manifest(&by_digest).await.expect("a manifest").digest.to_string(), digest);
    let other = || Reply::ok(b"{\"other\":1}").header("Content-Type", OCI_MANIFEST);
    registry.script(move |_| Some(other()));
    let error = rig.manifest(&by_digest).await.expect_err("tampered");
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    rig.manifest(&format!("{at}/app:t")).await.expect("nothing was promised");
    let promised = digest.clone();
    registry.script(move |_| Some(other().header("Docker-Content-Digest", &promised)));
    let error = rig.manifest(&format!("{at}/app:t")).await.expect_err("not as promised");
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn heads_have_an_end() {
    let registry = stocked();
    registry.script(|_| Some(Reply::ok(b"x").header("X-Long", &"x".repeat(200_000))));
    let rig = Hosts::default().rig();
    let image = format!("{}/app", registry.address());
    let error = rig.manifest(&image).await.expect_err("long");
    assert!(matches!(error, RegistryError::Broken { .. }), "{error}");
    registry.script(|_| {
        Some((0..1000).fold(Reply::ok(b"x"), |reply, n| reply.header(&format!("X-{n}"), "x")))
    });
    let error = rig.manifest(&image).await.expect_err("many");
    assert!(matches!(error, RegistryError::Broken { .. }), "{error}");
}
