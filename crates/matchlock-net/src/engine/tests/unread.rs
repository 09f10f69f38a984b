//! What passes unread, and what does not.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::rig::{Identity, LOOPBACK, Rig, Setup, alert, client, handshake, listen, soon};
use crate::audit::Event;

const NAME: &str = "db.example.com";

/// What a server got, when it has answered `answer` to the first bytes and read on to the end.
async fn server(greeting: &'static [u8], answer: &'static [u8]) -> (JoinHandle<Vec<u8>>, u16) {
    let (listener, port) = listen().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.write_all(greeting).await;
        let mut got = Vec::new();
        if stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {
            let _ = stream.write_all(answer).await;
            let _ = stream.read_to_end(&mut got).await;
        }
        got
    });
    (serving, port)
}

fn rig(allow: &[&str]) -> Rig {
    let rig = Rig::sealed(allow, Vec::new());
    rig.resolve(NAME, &["127.0.0.1"]);
    rig
}

/// What comes back when the guest says this and then no more.
async fn say(guest: &mut DuplexStream, parts: &[&[u8]]) -> Vec<u8> {
    for part in parts {
        // A flow may be cut in the middle of it.
        let _ = guest.write_all(part).await;
    }
    let _ = guest.shutdown().await;
    let mut back = Vec::new();
    let _ = soon(guest.read_to_end(&mut back)).await;
    back
}

fn relayed(rig: &Rig) -> Vec<String> {
    let spoken = |event: &Event| match event {
        Event::FlowRelayed { spoken, .. } => Some(spoken.clone()),
        _ => None,
    };
    rig.audit.events().iter().filter_map(spoken).collect()
}

/// The hosts that would have to be allowed for what was refused.
fn suggested(rig: &Rig) -> Vec<String> {
    let (refusals, _) = rig.engine.shared.refusals();
    refusals.into_iter().filter_map(|refusal| refusal.suggestion?.allow_host).collect()
}

#[tokio::test]
async fn a_protocol_of_the_list_passes_once_both_sides_speak_it() {
    for (spoken, opening, answer) in [
        ("ssh", &b"SSH-2.0-x\r\n"[..], &b"SSH-2.0-y\r\n"[..]),
        ("redis", b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"),
        ("postgresql", b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
    ] {
        let (serving, port) = server(b"", answer).await;
        let rig = rig(&[NAME]);
        let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        let back = say(&mut guest, &[opening, b"and what follows"]).await;
        assert_eq!(back, answer, "{spoken}");
        let got = soon(serving).await.expect("it ends");
        assert_eq!(got, [opening, b"and what follows"].concat(), "{spoken}");
        assert_eq!(relayed(&rig), [spoken]);
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_it_gets_no_more_and_is_not_heard() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x15\x03\x01\0\x02\x02\x28",
        b"<html>what?</html>",
        b"what?",
    ] {
        let (serving, port) = server(b"", answer).await;
        let rig = rig(&[NAME]);
        let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        let request = b"GET /x HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        let back = say(&mut guest, &[b"*1\r\n$4\r\nPING\r\n", request]).await;
        assert_eq!(back, b"");
        assert_eq!(soon(serving).await.expect("it ends"), b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(suggested(&rig), [format!("{NAME}:{port}/tcp")]);
    }
}

#[tokio::test]
async fn what_waits_for_a_server_to_confirm_is_bounded_and_arrives() {
    const OPENING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
    // What the stream of the guest holds, and twice what is held of it.
    const MOST: usize = (256 << 10) + 2 * (64 << 10);
    let (listener, port) = listen().await;
    let (answer, answered) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut got = Vec::new();
        stream.read_buf(&mut got).await.expect("the opening");
        let _ = answered.await;
        stream.write_all(b"+PONG\r\n").await.expect("an answer");
        stream.read_to_end(&mut got).await.expect("the rest");
        got.len()
    });
    let rig = rig(&[NAME]);
    let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    guest.write_all(OPENING).await.expect("the flow is open");
    // What a thousand turns of everybody else do not take, nobody takes.
    let (mut sent, mut turns) = (0, 0);
    while turns < 1000 {
        let mut writing = pin!(guest.write(&[b'x'; 4096]));
        match poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await {
            Poll::Ready(written) => (sent, turns) = (sent + written.expect("it is open"), 0),
            Poll::Pending => turns += 1,
        }
        assert!(sent <= MOST, "{sent} bytes");
        tokio::task::yield_now().await;
    }
    let _ = answer.send(());
    assert_eq!(say(&mut guest, &[]).await, b"+PONG\r\n");
    assert_eq!(soon(serving).await.expect("it ends"), OPENING.len() + sent);
}

#[tokio::test]
async fn what_nobody_recognises_does_not_pass_unless_the_rule_says_so() {
    let odd = [
        &b"\0a question"[..],
        b"\x01GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x85GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"NICK someone\r\n",
    ];
    for bytes in odd {
        let (serving, port) = server(b"", b"HTTP/1.1 200 OK\r\n\r\n").await;
        let sealed = rig(&[NAME]);
        let mut guest = sealed.dial(NAME, port).await.expect("the flow is accepted");
        assert_eq!(say(&mut guest, &[bytes]).await, b"");
        assert_eq!(soon(serving).await.expect("it ends"), b"", "{}", bytes.escape_ascii());
        let rule = format!("{NAME}:{port}/tcp");
        assert_eq!(suggested(&sealed), std::slice::from_ref(&rule));

        let (listener, _) = (tokio::net::TcpListener::bind((LOOPBACK, port)).await, port);
        let listener = listener.expect("the port is free again");
        let echo = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
        let opened = rig(&[NAME, &rule]);
        let mut guest = opened.dial(NAME, port).await.expect("the flow is accepted");
        assert_eq!(say(&mut guest, &[bytes]).await, bytes);
        assert_eq!(relayed(&opened), ["opaque"]);
        soon(echo).await.expect("it ends");
    }
}

#[tokio::test]
async fn records_before_the_hello_end_the_flow() {
    for record in [&b"\x15\x03\x01\0\x02\x01\x64"[..], b"\x14\x03\x03\0\x01\x01", b"\x80\x2e\x01"] {
        let (serving, port) = server(b"", b"").await;
        let rig = rig(&[NAME]);
        let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        let back = say(&mut guest, &[&record[..1], &record[1..], b"\x16\x03\x01\0\x05\x01"]).await;
        assert_eq!(back.first(), Some(&0x15), "an alert: {back:?}");
        assert_eq!(soon(serving).await.expect("it ends"), b"", "{record:?}");
        assert_eq!(rig.audit.refusals(), ["the ClientHello is malformed"]);
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_passes_until_it_speaks_http() {
    let (serving, port) = server(b"220 ready\r\n", b"250 hello\r\n").await;
    let sealed = rig(&[NAME]);
    let mut guest = sealed.dial(NAME, port).await.expect("the flow is accepted");
    let mut greeting = [0; 11];
    soon(guest.read_exact(&mut greeting)).await.expect("a greeting");
    assert_eq!(say(&mut guest, &[b"EHLO a\r\n"]).await, b"250 hello\r\n");
    assert_eq!(soon(serving).await.expect("it ends"), b"EHLO a\r\n");
    assert_eq!(relayed(&sealed), ["server first"]);

    let (serving, port) = server(b"220 ready\r\n", b"HTTP/1.1 200 OK\r\n\r\nfronted").await;
    let sealed = rig(&[NAME]);
    let mut guest = sealed.dial(NAME, port).await.expect("the flow is accepted");
    soon(guest.read_exact(&mut greeting)).await.expect("a greeting");
    assert_eq!(say(&mut guest, &[b"GET / HTTP/1.1\r\n\r\n"]).await, b"");
    assert_eq!(sealed.audit.refusals(), ["the server answers in HTTP"]);
    soon(serving).await.expect("it ends");
}

#[tokio::test]
async fn a_request_of_git_is_for_the_host_that_was_dialled() {
    for (host, passes) in [(NAME, true), ("evil.example", false), ("db.example.com:1", true)] {
        let (serving, port) = server(b"", b"0004").await;
        let rig = rig(&[NAME]);
        let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        let line = format!("git-upload-pack /a.git\0host={host}\0");
        let line = format!("{:04x}{line}", line.len() + 4);
        let back = say(&mut guest, &[line.as_bytes()]).await;
        assert_eq!(back == b"0004", passes, "{host}");
        assert_eq!(!soon(serving).await.expect("it ends").is_empty(), passes, "{host}");
    }
}

/// A server of PostgreSQL with TLS, as far as a handshake goes.
async fn postgres(identity: &Identity) -> u16 {
    let (listener, port) = listen().await;
    let acceptor = identity.acceptor(&[]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8];
            let _ = stream.read_exact(&mut request).await;
            let _ = stream.write_all(b"S").await;
            if let Ok(mut session) = acceptor.accept(stream).await {
                let _ = session.write_all(b"secret").await;
                let _ = session.shutdown().await;
            }
        }
    });
    port
}

#[tokio::test]
async fn an_upgrade_to_tls_is_for_the_name_that_was_dialled() {
    let identity = Identity::new(NAME);
    let port = postgres(&identity).await;
    let rig = rig(&[NAME]);
    let config = client(identity.ca.clone(), &[]);
    for (name, alerted) in [(NAME, false), ("evil.example", true)] {
        let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        guest.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.expect("a request");
        assert_eq!(soon(guest.read_u8()).await.expect("an answer"), b'S');
        let session = handshake(config.clone(), name, guest).await;
        assert_eq!(session.is_err(), alerted, "{name}");
        if let Ok(mut session) = session {
            let mut text = String::new();
            soon(session.read_to_string(&mut text)).await.expect("it is readable");
            assert_eq!(text, "secret", "from end to end, with the server's own certificate");
        }
    }
    assert_eq!(rig.audit.refusals(), ["the server name is not the name that was dialled"]);
}

#[tokio::test]
async fn a_rule_passes_tls_through_to_the_name_that_was_dialled() {
    let identity = Identity::new(NAME);
    let (listener, port) = listen().await;
    let acceptor = identity.acceptor(&[]);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut session) = acceptor.accept(stream).await {
                let _ = session.write_all(b"untouched").await;
                let _ = session.shutdown().await;
            }
        }
    });
    let rig = rig(&[NAME, &format!("{NAME}:{port}/tls")]);
    let config = client(identity.ca.clone(), &[]);
    let guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    let mut session = handshake(config.clone(), NAME, guest).await.expect("the server's own");
    let mut text = String::new();
    soon(session.read_to_string(&mut text)).await.expect("it is readable");
    assert_eq!((&*text, relayed(&rig)), ("untouched", vec!["tls".to_owned()]));
    // Another name, and none.
    let mut nameless = config.clone();
    nameless.enable_sni = false;
    for (config, name) in [(config, "evil.example"), (nameless, NAME)] {
        let guest = rig.dial(NAME, port).await.expect("the flow is accepted");
        let error = handshake(config, name, guest).await.expect_err("a refusal");
        assert_eq!(alert(&error), Some(rustls::AlertDescription::UnrecognisedName), "{name}");
    }
    let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    let back = say(&mut guest, &[b"GET / HTTP/1.1\r\n\r\n"]).await;
    assert_eq!(back.first(), Some(&0x15), "no HTTP there: {back:?}");
}

#[tokio::test]
async fn the_open_network_lets_pass_what_nobody_recognises_unless_all_is_to_be_looked_into() {
    for (intercept, passes) in [(false, true), (true, false)] {
        let (serving, port) = server(b"", b"an answer").await;
        let setup = Setup { allow: &["*"], intercept, private: true, ..Setup::default() };
        let rig = Rig::new(setup);
        let mut guest = rig.dial_address((LOOPBACK, port).into()).await.expect("accepted");
        let back = say(&mut guest, &[b"\0a question"]).await;
        assert_eq!(back == b"an answer", passes);
        assert_eq!(!soon(serving).await.expect("it ends").is_empty(), passes);
        assert_eq!(relayed(&rig), vec!["unknown"; usize::from(passes)]);
    }
    // There too, nobody hears a web server that was spoken to in this way.
    let (serving, port) = server(b"", b"HTTP/1.1 200 OK\r\n\r\n").await;
    let rig = Rig::new(Setup { allow: &["*"], private: true, ..Setup::default() });
    let mut guest = rig.dial_address((LOOPBACK, port).into()).await.expect("accepted");
    let back = say(&mut guest, &[b"\x01GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"]).await;
    assert_eq!(back, b"");
    soon(serving).await.expect("it ends");
}

#[tokio::test]
async fn a_guest_that_says_nothing_hears_what_the_server_has_to_say() {
    let (listener, port) = listen().await;
    let serving = tokio::spawn(async move {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.expect("a connection");
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got).await;
        let _ = stream.write_all(b"the time").await;
        got
    });
    let rig = rig(&[NAME]);
    let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    assert_eq!(say(&mut guest, &[]).await, b"the time");
    assert_eq!(soon(serving).await.expect("it ends"), b"");
}
