//! The name that was dialled, the SNI and the authority of every request have to agree.

use bytes::Bytes;
use matchlock_testkit::origin::Origin;
use rustls::AlertDescription;

use super::rig::{Rig, alert, ask, certificate, soon};

const DIALLED: &str = "api.example.com";
const OTHER: &str = "www.example.com";
const EVIL: &str = "evil.example";

fn rig() -> (Origin, Rig) {
    let origin = Origin::start(&[DIALLED, OTHER, EVIL]);
    let rig = Rig::sealed(&[DIALLED, OTHER], vec![certificate(origin.ca_pem())]);
    for name in [DIALLED, OTHER, EVIL] {
        rig.resolve(name, &["127.0.0.1"]);
    }
    (origin, rig)
}

#[tokio::test]
async fn only_the_dialled_name_gets_through_over_http1() {
    let (origin, rig) = rig();
    let port = origin.https().port();
    for sni in [DIALLED, OTHER, EVIL] {
        for host in [DIALLED, OTHER, EVIL] {
            let session = rig.tls(DIALLED, port, sni, &["http/1.1"]).await;
            if sni != DIALLED {
                let error = session.expect_err("another SNI is refused");
                assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName), "{sni}");
                continue;
            }
            let mut session = session.expect("the SNI is right");
            let response = ask(&mut session, &format!("{host}:{port}"), "/echo").await;
            let status = if host == DIALLED { "HTTP/1.1 200" } else { "HTTP/1.1 421" };
            assert!(response.starts_with(status), "{sni} {host}: {response}");
        }
    }
    let hosts: Vec<_> =
        origin.requests().iter().map(|r| r.header("host").map(str::to_owned)).collect();
    assert_eq!(hosts, [Some(format!("{DIALLED}:{port}"))]);
}

#[tokio::test]
async fn a_later_request_cannot_change_the_host() {
    let (origin, rig) = rig();
    let port = origin.https().port();
    let mut session = rig.tls(DIALLED, port, DIALLED, &["http/1.1"]).await.expect("a session");
    let twice = format!(
        "GET /echo HTTP/1.1\r\nHost: {DIALLED}:{port}\r\n\r\n\
         GET /echo HTTP/1.1\r\nHost: {OTHER}:{port}\r\n\r\n"
    );
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    session.write_all(twice.as_bytes()).await.expect("the requests are sent");
    let mut responses = Vec::new();
    let _ = soon(session.read_to_end(&mut responses)).await;
    let responses = String::from_utf8_lossy(&responses);
    assert!(responses.starts_with("HTTP/1.1 200"), "{responses}");
    assert!(responses.contains("HTTP/1.1 421"), "{responses}");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn only_the_dialled_name_gets_through_over_http2() {
    let (origin, rig) = rig();
    let port = origin.https().port();
    let session = rig.tls(DIALLED, port, DIALLED, &["h2", "http/1.1"]).await.expect("a session");
    assert_eq!(session.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut requests, connection) = soon(h2::client::handshake(session)).await.expect("HTTP/2");
    tokio::spawn(connection);
    for (host, status) in [(DIALLED, 200), (OTHER, 421), (EVIL, 421), (DIALLED, 200)] {
        let request = http::Request::get(format!("https://{host}:{port}/echo"));
        let request = request.body(()).expect("a request");
        requests = soon(requests.ready()).await.expect("the connection stands");
        let (response, _) = requests.send_request(request, true).expect("a stream");
        let mut response = soon(response).await.expect("a response");
        assert_eq!(response.status(), status, "{host}");
        while let Some(data) = soon(response.body_mut().data()).await {
            let _: Bytes = data.expect("the body is whole");
        }
    }
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn plain_http_is_held_to_the_dialled_name_too() {
    let (origin, rig) = rig();
    let port = origin.http().port();
    for (host, status) in [(DIALLED, 200), (OTHER, 421), (EVIL, 421)] {
        let mut stream = rig.dial(DIALLED, port).await.expect("the flow is accepted");
        let response = ask(&mut stream, &format!("{host}:{port}"), "/echo").await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {response}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_hello_without_a_name_is_refused() {
    let (origin, rig) = rig();
    let stream = rig.dial(DIALLED, origin.https().port()).await.expect("the flow is accepted");
    let mut client = rig.client(&["http/1.1"]);
    client.enable_sni = false;
    let error = super::rig::handshake(client, DIALLED, stream).await.expect_err("a refusal");
    assert_eq!(alert(&error), Some(AlertDescription::UnrecognisedName));
    assert_eq!(rig.audit.refusals(), ["there is no server name"]);
    let (refusals, _) = rig.engine.shared.refusals();
    assert_eq!(refusals[0].host, DIALLED);
}
