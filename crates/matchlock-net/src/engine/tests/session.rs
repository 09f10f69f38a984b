//! TLS sessions on both sides: certificates, protocols, and what is not HTTP.

use std::time::{Duration, SystemTime};

use matchlock_testkit::origin::Origin;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{Identity, Rig, Setup, alert, ask, certificate, client, handshake, listen, soon};
use crate::audit::Event;

const NAME: &str = "db.example.com";

/// The guest's view of a request for `NAME` at a server with this certificate.
async fn answer_of(identity: &Identity, ca: bool) -> (String, Rig) {
    let (listener, port) = listen().await;
    let acceptor = identity.acceptor(&[]);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        // It fails, which is what is looked at.
        let _ = acceptor.accept(stream).await;
    });
    let rig = Rig::sealed(&[NAME], if ca { vec![identity.ca.clone()] } else { Vec::new() });
    rig.resolve(NAME, &["127.0.0.1"]);
    let mut session = rig.tls(NAME, port, NAME, &["h2", "http/1.1"]).await.expect("a session");
    assert_eq!(session.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    (ask(&mut session, NAME, "/").await, rig)
}

#[tokio::test]
async fn a_bad_certificate_is_told_in_words() {
    let hour = Duration::from_secs(3600);
    let stranger = Identity::new(NAME);
    let other = certificate(Origin::start(&[]).ca_pem());
    for (identity, trusted, words) in [
        (Identity::valid_until(NAME, SystemTime::now() - hour), true, "has expired"),
        (Identity::new("other.example.com"), true, "is for another name"),
    ] {
        let (answer, rig) = answer_of(&identity, trusted).await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
        assert!(answer.contains(&format!("the certificate of {NAME} {words}")), "{answer}");
        let reason = rig.audit.wait(|event| match event {
            Event::UpstreamFailed { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        assert!(reason.await.contains(words));
    }
    let (listener, port) = listen().await;
    let acceptor = stranger.acceptor(&[]);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let _ = acceptor.accept(stream).await;
    });
    let rig = Rig::sealed(&[NAME], vec![other]);
    rig.resolve(NAME, &["127.0.0.1"]);
    let mut session = rig.tls(NAME, port, NAME, &[]).await.expect("a session");
    let answer = ask(&mut session, NAME, "/").await;
    assert!(answer.contains("is from an authority that this host does not trust"), "{answer}");
}

#[tokio::test]
async fn a_guest_that_speaks_only_http2_gets_an_alert_instead() {
    let identity = Identity::new("other.example.com");
    let (listener, port) = listen().await;
    let acceptor = identity.acceptor(&["h2"]);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let _ = acceptor.accept(stream).await;
    });
    let rig = Rig::sealed(&[NAME], vec![identity.ca.clone()]);
    rig.resolve(NAME, &["127.0.0.1"]);
    let error = rig.tls(NAME, port, NAME, &["h2"]).await.expect_err("a refusal");
    assert_eq!(alert(&error), Some(rustls::AlertDescription::HandshakeFailure));
}

#[tokio::test]
async fn the_server_chooses_the_protocol() {
    for (server, guest, chosen) in [
        (&["h2", "http/1.1"][..], &["http/1.1"][..], Some("http/1.1")),
        (&["http/1.1"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["h2"], &["h2", "http/1.1"], Some("h2")),
        (&["h2"], &[], None),
        (&[], &["h2", "http/1.1"], None),
        (&["postgresql"], &["postgresql"], Some("postgresql")),
    ] {
        let identity = Identity::new(NAME);
        let (listener, port) = listen().await;
        let acceptor = identity.acceptor(server);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut session = acceptor.accept(stream).await.expect("a session");
            let _ = session.read_u8().await;
        });
        let rig = Rig::sealed(&[NAME], vec![identity.ca.clone()]);
        rig.resolve(NAME, &["127.0.0.1"]);
        let session = rig.tls(NAME, port, NAME, guest).await.expect("a session");
        let alpn = session.get_ref().1.alpn_protocol().map(String::from_utf8_lossy);
        assert_eq!(alpn.as_deref(), chosen, "{server:?} {guest:?}");
    }
}

#[tokio::test]
async fn within_tls_all_is_http() {
    let hidden = [&b"A".repeat(70)[..], b" / HTTP/1.1\r\nHost: evil.example\r\n\r\n"].concat();
    let cases = [
        (false, &b"\0question"[..]),
        (false, b"*1\r\n$4\r\nPING\r\n"),
        (false, b"\x01GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        (false, b"\x15\x03\x01\0\x02\x01\x64"),
        (false, &hidden),
        (true, b""),
    ];
    for (server_first, question) in cases {
        for alpn in [&["postgresql"][..], &[]] {
            let identity = Identity::new(NAME);
            let (listener, port) = listen().await;
            let acceptor = identity.acceptor(alpn);
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.expect("a connection");
                let mut session = acceptor.accept(stream).await.expect("a session");
                if server_first {
                    session.write_all(b"* OK ready\r\n").await.expect("a greeting");
                }
                let mut got = Vec::new();
                let _ = session.read_to_end(&mut got).await;
                got
            });
            let rig = Rig::sealed(&[NAME], vec![identity.ca.clone()]);
            rig.resolve(NAME, &["127.0.0.1"]);
            let mut session = rig.tls(NAME, port, NAME, alpn).await.expect("a session");
            session.write_all(question).await.expect("a question");
            let mut answer = Vec::new();
            let _ = soon(session.read_to_end(&mut answer)).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{question:?}");
            assert_eq!(soon(server).await.expect("it ends"), b"", "{question:?}");
        }
    }
}

#[tokio::test]
async fn http_without_a_protocol_agreed_on_is_still_http() {
    let origin = Origin::with(&matchlock_testkit::origin::Options {
        names: vec![NAME.into()],
        alpn: Vec::new(),
        ..Default::default()
    });
    let rig = Rig::sealed(&[NAME], vec![certificate(origin.ca_pem())]);
    rig.resolve(NAME, &["127.0.0.1"]);
    let port = origin.https().port();
    // Not even by a made-up protocol does another host get through.
    for alpn in [&[][..], &["made-up"]] {
        for (host, status) in [(NAME, "200"), ("evil.example", "421")] {
            let mut session = rig.tls(NAME, port, NAME, alpn).await.expect("a session");
            let answer = ask(&mut session, &format!("{host}:{port}"), "/echo").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        }
    }
}

#[tokio::test]
async fn many_hosts_each_get_a_certificate_of_their_own() {
    let origin = Origin::start(&["*.example.com"]);
    let rig = Rig::sealed(&["*.example.com"], vec![certificate(origin.ca_pem())]);
    let port = origin.https().port();
    for n in 0..100 {
        let name = format!("host{n}.example.com");
        rig.resolve(&name, &["127.0.0.1"]);
        let mut session = rig.tls(&name, port, &name, &["http/1.1"]).await.expect("a session");
        let answer = ask(&mut session, &format!("{name}:{port}"), "/status/204").await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
}

#[tokio::test]
async fn a_second_session_is_resumed() {
    let origin = Origin::start(&[NAME]);
    let rig = Rig::sealed(&[NAME], vec![certificate(origin.ca_pem())]);
    rig.resolve(NAME, &["127.0.0.1"]);
    let port = origin.https().port();
    let config = rig.client(&["http/1.1"]);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let stream = rig.dial(NAME, port).await.expect("the flow is accepted");
        let mut session = handshake(config.clone(), NAME, stream).await.expect("a session");
        ask(&mut session, &format!("{NAME}:{port}"), "/echo").await;
        kinds.push(session.get_ref().1.handshake_kind());
    }
    assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
}

#[tokio::test]
async fn every_sandbox_has_an_authority_of_its_own() {
    let origin = Origin::start(&[NAME]);
    let (one, other) = (
        Rig::sealed(&[NAME], vec![certificate(origin.ca_pem())]),
        Rig::sealed(&[NAME], vec![certificate(origin.ca_pem())]),
    );
    one.resolve(NAME, &["127.0.0.1"]);
    assert_ne!(one.engine.authority.ca_pem(), other.engine.authority.ca_pem());
    let foreign = client(certificate(other.engine.authority.ca_pem()), &[]);
    let stream = one.dial(NAME, origin.https().port()).await.expect("the flow is accepted");
    handshake(foreign, NAME, stream).await.expect_err("the other authority did not issue it");
    // Whoever wonders why gets a hint.
    let hint = async {
        while one.engine.shared.refusals().0.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(hint).await;
    assert!(one.engine.shared.refusals().0[0].reason.contains("broke off TLS"));
}

#[tokio::test]
async fn an_address_that_a_rule_names_has_a_certificate_too() {
    let origin = Origin::start(&[]);
    let ca = vec![certificate(origin.ca_pem())];
    let rig = Rig::new(Setup { allow: &["127.0.0.1"], ca, private: true, ..Setup::default() });
    let address = origin.https();
    let stream = rig.dial_address(address).await.expect("the flow is accepted");
    let config = rig.client(&["http/1.1"]);
    let mut session = handshake(config.clone(), "127.0.0.1", stream).await.expect("a session");
    let answer = ask(&mut session, &address.to_string(), "/echo").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A name has no place there.
    let stream = rig.dial_address(address).await.expect("the flow is accepted");
    let error = handshake(config, NAME, stream).await.expect_err("a refusal");
    assert_eq!(alert(&error), Some(rustls::AlertDescription::UnrecognisedName));
}
