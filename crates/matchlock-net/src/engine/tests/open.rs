//! With the public network open, the guest may know an address by any name: it proves nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use matchlock_testkit::origin::Origin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use super::super::handler::question;
use super::super::udp::{self, Replies, SESSIONS, Verdict};
use super::rig::{LOOPBACK, Rig, Setup, ask, certificate, handshake, listen, soon};

const NAME: &str = "api.example.com";

/// An address with nobody behind it that would answer as the real server does.
async fn decoy(port: u16) -> (TcpListener, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 2], port));
    (TcpListener::bind(address).await.expect("the port is free there"), address)
}

#[tokio::test]
async fn tls_lands_at_the_address_of_the_name() {
    let origin = Origin::start(&[NAME]);
    let port = origin.https().port();
    let (_decoy, address) = decoy(port).await;
    let ca = vec![certificate(origin.ca_pem())];
    let rig = Rig::new(Setup { allow: &["*"], ca, private: true, ..Setup::default() });
    rig.resolve(NAME, &["127.0.0.1"]);
    for dialled in [address, origin.https()] {
        let stream = rig.dial_address(dialled).await.expect("the flow is accepted");
        let config = rig.client(&["http/1.1"]);
        let mut session = handshake(config, NAME, stream).await.expect("a session");
        let answer = ask(&mut session, &format!("{NAME}:{port}"), "/echo").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // The second flow went to the right address already.
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn http_lands_at_the_address_of_the_name() {
    let origin = Origin::start(&[NAME]);
    let port = origin.http().port();
    let (_decoy, address) = decoy(port).await;
    let rig = Rig::new(Setup { allow: &["*"], private: true, ..Setup::default() });
    rig.resolve(NAME, &["127.0.0.1"]);
    let mut stream = rig.dial_address(address).await.expect("the flow is accepted");
    let answer = ask(&mut stream, &format!("{NAME}:{port}"), "/echo").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_name_with_a_private_address_is_refused_there_too() {
    let origin = Origin::start(&[NAME]);
    let rig = Rig::new(Setup { allow: &["*"], private: true, ..Setup::default() });
    rig.resolve(NAME, &["10.0.0.5"]);
    let mut stream = rig.dial_address(origin.http()).await.expect("the flow is accepted");
    let answer = ask(&mut stream, &format!("{NAME}:{}", origin.http().port()), "/echo").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn without_interception_bytes_are_bytes() {
    let (listener, port) = listen().await;
    let rig = Rig::new(Setup { public: true, private: true, ..Setup::default() });
    let mut guest = rig.dial_address((LOOPBACK, port).into()).await.expect("accepted");
    let (mut server, _) = soon(listener.accept()).await.expect("a connection");
    guest.write_all(b"GET / HTTP/1.1\r\n").await.expect("it is written");
    let mut got = [0; 16];
    soon(server.read_exact(&mut got)).await.expect("it arrives as it was");
    assert_eq!(&got, b"GET / HTTP/1.1\r\n");
    let private = Rig::new(Setup { public: true, ..Setup::default() });
    assert!(private.dial_address((LOOPBACK, port).into()).await.is_none());
}

#[derive(Clone)]
struct Back(mpsc::UnboundedSender<Vec<u8>>);

impl Replies for Back {
    fn send(&self, payload: &[u8]) {
        let _ = self.0.send(payload.to_vec());
    }
}

#[tokio::test]
async fn datagrams_go_there_and_back() {
    let server = UdpSocket::bind((LOOPBACK, 0)).await.expect("a port");
    let address = server.local_addr().expect("an address");
    let rig = Rig::new(Setup { public: true, private: true, ..Setup::default() });
    let (back, mut replies) = mpsc::unbounded_channel();
    let guest = SocketAddr::from(([198, 18, 0, 2], 4000));
    for question in [&b"one"[..], b"two"] {
        let sent = udp::relay(
            &rig.engine,
            (guest, address),
            Bytes::copy_from_slice(question),
            Back(back.clone()),
        );
        assert_eq!(sent, Verdict::Taken);
        let mut buffer = [0; 16];
        let (length, from) = soon(server.recv_from(&mut buffer)).await.expect("a datagram");
        assert_eq!(&buffer[..length], question);
        server.send_to(b"answer", from).await.expect("an answer");
        assert_eq!(soon(replies.recv()).await.as_deref(), Some(&b"answer"[..]));
    }
    let opened = rig.audit.events().len();
    assert_eq!(opened, 1, "one session for both");
}

#[tokio::test]
async fn datagrams_beyond_all_sessions_are_dropped() {
    let server = UdpSocket::bind((LOOPBACK, 0)).await.expect("a port");
    let address = server.local_addr().expect("an address");
    let rig = Rig::new(Setup { public: true, private: true, ..Setup::default() });
    let (back, _replies) = mpsc::unbounded_channel();
    let send = |port: u16| {
        let guest = SocketAddr::from(([198, 18, 0, 2], port));
        udp::relay(&rig.engine, (guest, address), Bytes::from_static(b"x"), Back(back.clone()))
    };
    let sessions = u16::try_from(SESSIONS).expect("few");
    let mut sockets = HashSet::new();
    for port in 1..=sessions {
        assert_eq!(send(port), Verdict::Taken);
        sockets.insert(soon(server.recv_from(&mut [0; 16])).await.expect("a datagram").1);
    }
    assert_eq!(sockets.len(), SESSIONS, "a socket for each");
    assert_eq!(send(sessions + 1), Verdict::Taken);
    assert_eq!(rig.audit.events().len(), SESSIONS, "no session was opened for one more");
    // Those that there are go on.
    assert_eq!(send(1), Verdict::Taken);
    let (_, from) = soon(server.recv_from(&mut [0; 16])).await.expect("a datagram");
    assert!(sockets.contains(&from));
}

#[tokio::test]
async fn questions_beyond_those_that_are_being_answered_are_dropped() {
    // For A of a.example.com, with recursion desired.
    let query = Bytes::from_static(
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x03com\x00\x00\x01\x00\x01",
    );
    let rig = Rig::sealed(&[NAME], Vec::new());
    let (back, mut replies) = mpsc::unbounded_channel();
    let all = rig.engine.questions.try_acquire_many(256).expect("none is being answered");
    question(&rig.engine, query.clone(), Back(back.clone()));
    assert_eq!(rig.audit.events().len(), 0);
    drop(all);
    question(&rig.engine, query, Back(back));
    let answer = soon(replies.recv()).await.expect("an answer");
    assert_eq!(answer[..2], [0x12, 0x34]);
    assert_eq!(rig.audit.events().len(), 1, "the first was dropped, and not answered later");
    assert!(rig.engine.questions.try_acquire_many(257).is_err(), "no more than so many");
}

#[tokio::test]
async fn datagrams_that_could_hide_something_are_refused() {
    let (back, _replies) = mpsc::unbounded_channel();
    let guest = SocketAddr::from(([198, 18, 0, 2], 4000));
    let send = |rig: &Rig, port| {
        let pair = (guest, SocketAddr::from(([127, 0, 0, 1], port)));
        udp::relay(&Arc::clone(&rig.engine), pair, Bytes::new(), Back(back.clone()))
    };
    let sealed = Rig::sealed(&[NAME], Vec::new());
    let open = Rig::new(Setup { allow: &["*"], private: true, ..Setup::default() });
    let private = Rig::new(Setup { public: true, ..Setup::default() });
    assert_eq!(send(&sealed, 123), Verdict::Refused);
    assert_eq!(send(&open, 443), Verdict::Refused);
    assert_eq!(send(&open, 853), Verdict::Refused);
    assert_eq!(send(&private, 123), Verdict::Refused);
    // The same again is no news.
    assert_eq!(send(&sealed, 123), Verdict::Refused);
    assert_eq!(sealed.audit.events().len(), 1);
}
