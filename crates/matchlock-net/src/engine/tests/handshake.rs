//! TLS handshakes that do not go as they should.

use std::io;
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use super::rig::{Identity, LOOPBACK, Rig, ask, client, handshake, listen, soon};
use crate::cause::Cause;
use crate::engine::secure;
use crate::engine::target::Target;
use crate::lines::Lines;
use crate::tls::provider;

const NAME: &str = "db.example.com";

/// A provider with no more than the last of its groups, which no client of ours begins with.
fn last_group() -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&provider());
    provider.kx_groups = provider.kx_groups.split_off(provider.kx_groups.len() - 1);
    Arc::new(provider)
}

/// A server that asks every client for a second hello. It tells whether handshakes came about.
async fn asking(identity: &Identity) -> (JoinHandle<io::Result<()>>, u16) {
    let (listener, port) = listen().await;
    let acceptor = identity.acceptor_with(last_group(), &[]);
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut session = acceptor.accept(stream).await?;
        session.write_all(b"untouched").await?;
        session.shutdown().await
    });
    (serving, port)
}

fn passing(port: u16) -> Rig {
    let rig = Rig::sealed(&[NAME, &format!("{NAME}:{port}/tls")], Vec::new());
    rig.resolve(NAME, &["127.0.0.1"]);
    rig
}

#[tokio::test]
async fn a_second_hello_for_the_same_name_passes_through() {
    let identity = Identity::new(NAME);
    let (serving, port) = asking(&identity).await;
    let rig = passing(port);
    let guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    let session = handshake(client(identity.ca.clone(), &[]), NAME, guest).await;
    let mut session = session.expect("the server's own");
    let kind = session.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(rustls::HandshakeKind::FullWithHelloRetryRequest));
    let mut text = String::new();
    soon(session.read_to_string(&mut text)).await.expect("it is readable");
    assert_eq!(text, "untouched");
    soon(serving).await.expect("it ends").expect("a session");
}

/// A client's session, without a connection.
fn begin(identity: &Identity) -> ClientConnection {
    let config = Arc::new(client(identity.ca.clone(), &[]));
    let name = ServerName::try_from(NAME).expect("a server name");
    ClientConnection::new(config, name).expect("a session")
}

/// What a client sends next; what it got was its cause.
async fn flight(session: &mut ClientConnection, guest: &mut DuplexStream) -> Vec<u8> {
    while !session.wants_write() {
        let mut read = Vec::new();
        assert_ne!(soon(guest.read_buf(&mut read)).await.expect("an answer"), 0);
        session.read_tls(&mut &*read).expect("it takes it");
        session.process_new_packets().expect("a handshake");
    }
    let mut sent = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut sent).expect("a vector takes all");
    }
    sent
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes());
    let at = at.expect("the name is in clear");
    [&bytes[..at], to.as_bytes(), &bytes[at + to.len()..]].concat()
}

#[tokio::test]
async fn a_second_hello_for_another_name_does_not_arrive() {
    let identity = Identity::new(NAME);
    for cut in [usize::MAX, 40] {
        let (serving, port) = asking(&identity).await;
        let rig = passing(port);
        let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        let mut session = begin(&identity);
        let first = flight(&mut session, &mut guest).await;
        guest.write_all(&first).await.expect("the flow is open");
        let second = replace(&flight(&mut session, &mut guest).await, NAME, "qq.example.net");
        let (one, other) = second.split_at(cut.min(second.len()));
        for part in [one, other] {
            // It may have been cut before.
            let _ = guest.write_all(part).await;
        }
        assert!(soon(serving).await.expect("it ends").is_err(), "no second hello has come");
        let refusals = rig.audit.refusals();
        assert_eq!(refusals, ["the server name is not the name that was dialled"], "{cut}");
    }
}

#[tokio::test]
async fn a_second_hello_that_nobody_asked_for_ends_the_flow() {
    let identity = Identity::new(NAME);
    let (serving, port) = asking(&identity).await;
    let rig = passing(port);
    let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    let mut session = begin(&identity);
    let first = flight(&mut session, &mut guest).await;
    let other = replace(&first, NAME, "qq.example.net");
    guest.write_all(&[first, other].concat()).await.expect("the flow is open");
    assert!(soon(serving).await.expect("it ends").is_err());
    assert_eq!(rig.audit.refusals(), ["the ClientHello is malformed"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_go_on_with_its_handshake_is_given_up() {
    let rig = Rig::sealed(&[NAME], Vec::new());
    let names = vec![NAME.parse().expect("a host name")];
    let policy = rig.engine.shared.policy();
    let target = Target::decide(&policy, (LOOPBACK, 443).into(), names).expect("it is allowed");
    let (_guest, near) = tokio::io::duplex(1024);
    let accepted = secure::accept(&rig.engine, &target, Box::new(near), None).await;
    let error = accepted.err().expect("there is no session");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_go_on_with_its_handshake_is_given_up() {
    let rig = Rig::sealed(&[NAME], vec![Identity::new(NAME).ca]);
    let names = vec![NAME.parse().expect("a host name")];
    let policy = rig.engine.shared.policy();
    let target = Target::decide(&policy, (LOOPBACK, 443).into(), names).expect("it is allowed");
    let (_server, near) = tokio::io::duplex(64 * 1024);
    let secured = rig.engine.outside.secure(Box::new(near), &target.allowed, &[]).await;
    let cause = Cause::of(&secured.err().expect("there is no session")).to_string();
    assert!(cause.contains("did not complete the TLS handshake in time"), "{cause}");
}

/// What could be the value of a secret that a server was shown.
const CANARY: &str = "sk-canary-of-a-server";

#[tokio::test]
async fn of_a_server_of_tls_no_word_is_kept() {
    let record = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).expect("a record").to_be_bytes();
        [&[kind, 3, 3][..], &length, content].concat()
    };
    let mut answers = vec![
        CANARY.as_bytes().to_vec(),
        format!("HTTP/1.1 400 {CANARY}\r\n\r\n").into_bytes(),
        record(21, &[2, 200]),
        record(21, CANARY.as_bytes()),
        record(22, CANARY.as_bytes()),
        record(23, CANARY.as_bytes()),
        record(22, &[&[2, 0, 0, 21][..], CANARY.as_bytes()].concat()),
    ];
    // Every alert that there is, and those that there are not.
    answers.extend((0..=255).step_by(5).map(|alert| record(21, &[2, alert])));
    let name = format!("{CANARY}.example.com");
    for answer in answers.into_iter().map(Some).chain([None]) {
        let lines = Lines::default();
        let _logging = tracing::subscriber::set_default(lines.clone());
        let identity = Identity::new(&name);
        let acceptor = identity.acceptor(&[]);
        let (listener, port) = listen().await;
        let what = answer.as_ref().map(|answer| answer.escape_ascii().to_string());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let Some(answer) = answer else {
                // A certificate that is full of it.
                return drop(acceptor.accept(stream).await);
            };
            let _ = stream.read_buf(&mut Vec::new()).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let rig = Rig::sealed(&[NAME], vec![identity.ca.clone()]);
        rig.resolve(NAME, &["127.0.0.1"]);
        let mut session = rig.tls(NAME, port, NAME, &["http/1.1"]).await.expect("a session");
        let answer = ask(&mut session, NAME, "/").await;
        drop(session);
        soon(serving).await.expect("it ends");
        let (refusals, events) = (rig.engine.shared.refusals(), rig.audit.events());
        let kept = format!("{answer} {refusals:?} {events:?} {}", lines.text());
        assert!(answer.starts_with("HTTP/1.1 502"), "{what:?}: {answer}");
        assert!(!kept.contains("canary"), "{what:?}: {kept}");
    }
}
