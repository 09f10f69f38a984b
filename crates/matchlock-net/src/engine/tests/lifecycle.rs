//! How flows begin and end.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{LOOPBACK, Rig, Setup, listen, soon};
use crate::audit::{Decision, Event};

const NAME: &str = "git.example.com";

async fn rig() -> (Rig, tokio::net::TcpListener, u16) {
    let (listener, port) = listen().await;
    let rig = Rig::sealed(&[NAME], Vec::new());
    rig.resolve(NAME, &["127.0.0.1"]);
    (rig, listener, port)
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_recorded() {
    let rig = Rig::sealed(&[NAME], Vec::new());
    assert!(rig.dial("evil.example", 443).await.is_none());
    assert!(rig.dial_address((LOOPBACK, 443).into()).await.is_none());
    assert!(rig.dns.received().is_empty(), "no query leaves for a name that is not allowed");
    let denied = rig.audit.events().into_iter().filter(|event| {
        matches!(event, Event::FlowOpen { decision: Decision::Denied, rule, .. } if rule == "allow-list")
    });
    assert_eq!(denied.count(), 2);
    let (refusals, _) = rig.engine.shared.refusals();
    assert_eq!(refusals[0].host, "evil.example");
    assert_eq!(refusals[0].port, Some(443));
    let suggestion = refusals[0].suggestion.as_ref().expect("a rule");
    assert_eq!(suggestion.allow_host.as_deref(), Some("evil.example"));
}

#[tokio::test]
async fn a_name_with_an_address_that_may_not_be_reached_is_refused() {
    let rig = Rig::sealed(&[NAME], Vec::new());
    rig.resolve(NAME, &["10.0.0.5", "169.254.169.254"]);
    assert!(rig.dial(NAME, 443).await.is_none());
    let [reason] = &rig.audit.refusals()[..] else { panic!("one refusal") };
    assert!(reason.contains("10.0.0.5"), "{reason}");
    let (refusals, _) = rig.engine.shared.refusals();
    assert!(refusals[0].suggestion.as_ref().is_some_and(|s| s.allow_private.is_some()));
}

#[tokio::test]
async fn a_closed_port_is_refused() {
    let (rig, listener, port) = rig().await;
    drop(listener);
    assert!(rig.dial(NAME, port).await.is_none());
    let reason = rig.audit.wait(|event| match event {
        Event::UpstreamFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.await.contains("refused"));
}

#[tokio::test]
async fn a_server_that_speaks_first_is_relayed_with_half_closes() {
    let (rig, listener, port) = rig().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.write_all(b"SSH-2.0-server\r\n").await.expect("a banner");
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.expect("the guest's end arrives");
        stream.write_all(b"after your end").await.expect("an answer");
        question
    });
    let mut guest = rig.dial(NAME, port).await.expect("the flow is accepted");
    let mut banner = [0; 16];
    soon(guest.read_exact(&mut banner)).await.expect("the banner comes first");
    guest.write_all(b"SSH-2.0-client\r\n").await.expect("a question");
    guest.shutdown().await.expect("an end");
    let mut answer = String::new();
    soon(guest.read_to_string(&mut answer)).await.expect("an answer and an end");
    assert_eq!(answer, "after your end");
    assert_eq!(soon(server).await.expect("the server ends well"), b"SSH-2.0-client\r\n");
    let counted = rig.audit.wait(|event| match event {
        Event::FlowClose { bytes_up, bytes_down, .. } => Some((*bytes_up, *bytes_down)),
        _ => None,
    });
    assert_eq!(counted.await, (16, 30));
}

#[tokio::test]
async fn a_lost_event_closes_the_network() {
    let (rig, listener, port) = rig().await;
    let mut running = rig.dial(NAME, port).await.expect("the flow is accepted");
    let (_server, _) = soon(listener.accept()).await.expect("a connection");
    rig.audit.fail();
    assert!(rig.dial(NAME, port).await.is_none(), "what cannot be recorded may not be");
    assert!(rig.engine.shared.is_closed());
    let mut rest = Vec::new();
    let _ = soon(running.read_to_end(&mut rest)).await;
    assert!(running.write_all(b"x").await.is_err(), "what runs is cut off");
    assert!(rig.dial(NAME, port).await.is_none());
}

#[tokio::test]
async fn a_policy_that_is_withdrawn_ends_what_it_allowed() {
    let (rig, listener, port) = rig().await;
    let mut running = rig.dial(NAME, port).await.expect("the flow is accepted");
    let (_server, _) = soon(listener.accept()).await.expect("a connection");
    let (policy, _) =
        rig.engine.shared.policy().with_added(&["other.example".parse().expect("a pattern")]);
    rig.engine.shared.replace_policy(policy.clone());
    running.write_all(b"still there").await.expect("another rule changes nothing");
    let (policy, _) = policy.with_removed(&[NAME.to_owned()]);
    rig.engine.shared.replace_policy(policy);
    let mut rest = Vec::new();
    let _ = soon(running.read_to_end(&mut rest)).await;
    assert!(running.write_all(b"x").await.is_err());
    assert!(rig.dial(NAME, port).await.is_none());
}

#[tokio::test]
async fn added_hosts_are_dialled_at_their_address() {
    let (listener, port) = listen().await;
    let rig = Rig::new(Setup {
        allow: &["internal.example"],
        private: true,
        add_hosts: &[("internal.example", "127.0.0.1"), ("unlisted.example", "127.0.0.9")],
        ..Setup::default()
    });
    let _guest = rig.dial_address((LOOPBACK, port).into()).await.expect("the flow is accepted");
    soon(listener.accept()).await.expect("a connection");
    assert!(rig.dial_address(([127, 0, 0, 9], port).into()).await.is_none());
    assert!(rig.dns.received().is_empty());
}

#[tokio::test]
async fn questions_are_answered_over_tcp() {
    let rig = Rig::sealed(&[NAME], Vec::new());
    let (mut guest, near) = tokio::io::duplex(4096);
    let serving =
        tokio::spawn(super::super::resolver::serve(Arc::clone(&rig.engine), Box::new(near)));
    // A question for A of git.example.com, with recursion desired.
    let mut query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    query.extend(b"\x03git\x07example\x03com\x00\x00\x01\x00\x01");
    for _ in 0..2 {
        guest.write_u16(query.len() as u16).await.expect("a length");
        guest.write_all(&query).await.expect("a question");
        let length = soon(guest.read_u16()).await.expect("a length");
        let mut answer = vec![0; length.into()];
        soon(guest.read_exact(&mut answer)).await.expect("an answer");
        assert_eq!(answer[..2], [0x12, 0x34]);
        assert_eq!(answer[answer.len() - 4..][..2], [198, 19]);
    }
    drop(guest);
    soon(serving).await.expect("no panic").expect("a good end");
    assert!(matches!(&rig.audit.events()[0], Event::Dns { name, .. } if name == NAME));
}
