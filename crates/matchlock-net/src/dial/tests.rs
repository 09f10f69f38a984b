//! The dialer with a real name server, real listeners and a small proxy, all on loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use matchlock_policy::{Allowed, DenyReason, Endpoint, Policy, PolicyConfig, PrivateAccess};
use matchlock_testkit::dns::{Authority, Reply};
use tokio::io::AsyncReadExt;

use super::*;
use crate::dns::{Source, Upstream as Servers};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BRIEF: Duration = Duration::from_millis(500);

fn dialer(authority: &Authority, variables: &[(&str, String)]) -> Dialer {
    let servers = Servers::new(Source::new(&[authority.address()]));
    let value =
        |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
    let proxies = ProxySettings::from_env(value).expect("settings");
    Dialer::new(Arc::new(Resolver::new(Arc::new(servers))), proxies)
}

/// Everything, and of the private addresses only these.
fn allowed(host: &str, port: u16, private: &[&str]) -> Allowed {
    let ranges = private.iter().map(|range| range.parse().expect("a network")).collect();
    let policy = Policy::new(PolicyConfig {
        allowed_hosts: ["*", &format!("host.docker.internal:{port}")]
            .map(|rule| rule.parse().expect("a pattern"))
            .to_vec(),
        private: PrivateAccess::ranges(ranges),
        ..PolicyConfig::default()
    });
    policy.connect(&Endpoint { host: host.parse().expect("a host"), port }).expect("allowed")
}

fn listener(address: impl Into<IpAddr>, port: u16) -> (TcpListener, u16) {
    let listener = TcpListener::bind((address.into(), port)).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// Whether nobody has connected.
fn is_untouched(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("an option");
    listener.accept().is_err()
}

/// Takes one connection, reads one head of HTTP and answers with `pieces`, each in a write of its
/// own; then waits for the end. Gives the head.
fn proxy(pieces: &'static [&'static [u8]]) -> (String, JoinHandle<String>) {
    let (listener, port) = listener(Ipv4Addr::LOCALHOST, 0);
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        for piece in pieces {
            stream.write_all(piece).expect("written");
        }
        if pieces.is_empty() {
            let _ = stream.read(&mut byte);
        }
        String::from_utf8(head).expect("text")
    });
    (format!("http://user:p%40ss@127.0.0.1:{port}"), thread)
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let authority = Authority::new();
    let (first, port) = listener(Ipv4Addr::LOCALHOST, 0);
    let (second, _) = listener([127, 0, 0, 2], port);
    let flip = [Reply::addresses(&["127.0.0.1"]), Reply::addresses(&["127.0.0.2"])];
    authority.script("flip.example", flip);
    let dialer = dialer(&authority, &[]);
    let allowed = allowed("flip.example", port, &["127.0.0.1/32"]);

    let upstream = dialer.dial(&allowed, &[], Purpose::Tls).await.expect("connected");
    assert_eq!(upstream.peer, SocketAddr::new(LOOPBACK, port));
    assert!(first.accept().is_ok());
    // Resolved once: one question for each family.
    assert_eq!(authority.received().len(), 2);
    // Now the name means an address that may not be reached.
    let error = dialer.dial(&allowed, &[], Purpose::Tls).await.expect_err("denied");
    let DialError::Denied(denied) = error else { panic!("{error:?}") };
    assert!(matches!(denied.reason(), DenyReason::Address(_)), "{denied}");
    assert!(is_untouched(&second) && is_untouched(&first));
}

#[test]
fn work_can_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let dialer = dialer(&Authority::new(), &[]);
    is_send(&dialer.dial(&allowed("a.example", 443, &[]), &[], Purpose::Tls));
}

#[tokio::test]
async fn of_mixed_answers_only_the_admissible_are_dialled() {
    let authority = Authority::new();
    let (good, port) = listener(Ipv4Addr::LOCALHOST, 0);
    let (bad, _) = listener([127, 0, 0, 3], port);
    let (mapped, _) = listener([127, 0, 0, 4], port);
    let answers = ["::ffff:127.0.0.4", "127.0.0.3", "0.0.0.0", "::", "127.0.0.1"];
    authority.set("mixed.example", Reply::addresses(&answers));
    let allowed = allowed("mixed.example", port, &["127.0.0.1/32"]);
    let upstream = dialer(&authority, &[]).dial(&allowed, &[], Purpose::Raw).await;
    assert_eq!(upstream.expect("connected").peer.ip(), LOOPBACK);
    assert!(good.accept().is_ok() && is_untouched(&bad) && is_untouched(&mapped));
}

#[tokio::test]
async fn the_second_family_is_tried_when_the_first_refuses() {
    let authority = Authority::new();
    let (_listener, port) = listener(Ipv4Addr::LOCALHOST, 0);
    authority.set("both.example", Reply::addresses(&["127.0.0.1", "::1"]));
    let allowed = allowed("both.example", port, &["127.0.0.1/32", "::1/128"]);
    let upstream = dialer(&authority, &[]).dial(&allowed, &[], Purpose::Raw).await;
    assert_eq!(upstream.expect("connected").peer.ip(), LOOPBACK);
}

#[tokio::test]
async fn failures_tell_what_happened() {
    let authority = Authority::new();
    authority.set("closed.example", Reply::addresses(&["127.0.0.1"]));
    authority.set("private.example", Reply::addresses(&["10.0.0.1", "fd00::1"]));
    authority.set("silent.example", Reply::silence());
    // Bound, so that no other test gets the port, but nobody listens.
    let closed = tokio::net::TcpSocket::new_v4().expect("a socket");
    closed.bind(SocketAddr::new(LOOPBACK, 0)).expect("bound");
    let port = closed.local_addr().expect("an address").port();
    let mut dialer = dialer(&authority, &[]);
    let loopback = ["127.0.0.1/32"];
    let failure = async |dialer: &Dialer, host: &str| {
        let allowed = allowed(host, port, &loopback);
        dialer.dial(&allowed, &[], Purpose::Raw).await.expect_err(host)
    };
    let error = failure(&dialer, "closed.example").await;
    assert!(matches!(error, DialError::Connect(ConnectError::Refused)), "{error:?}");
    let error = failure(&dialer, "private.example").await;
    assert!(matches!(error, DialError::Denied(_)), "{error:?}");
    let error = failure(&dialer, "gone.example").await;
    assert_eq!(error.to_string(), "cannot resolve gone.example");
    let cause = std::error::Error::source(&error).expect("a cause");
    assert_eq!(cause.to_string(), "gone.example does not exist");
    dialer.limit = BRIEF;
    let error = failure(&dialer, "silent.example").await;
    assert!(matches!(error, DialError::Connect(ConnectError::Timeout)), "{error:?}");
}

/// With the bound that everybody has; the clock is the test's own.
#[tokio::test(start_paused = true)]
async fn dialling_ends_after_its_time() {
    let authority = Authority::new();
    let (_silent, port) = listener(Ipv4Addr::LOCALHOST, 0);
    let dialer = dialer(&authority, &[("ALL_PROXY", format!("http://127.0.0.1:{port}"))]);
    let allowed = allowed("api.example.com", 443, &[]);
    let start = tokio::time::Instant::now();
    let error = dialer.dial(&allowed, &[], Purpose::Tls).await.expect_err("no tunnel");
    assert!(matches!(error, DialError::Proxy(TunnelError::Timeout)), "{error:?}");
    assert_eq!(tokio::time::Instant::now().duration_since(start).as_secs(), 10);
}

#[tokio::test]
async fn a_tunnel_is_asked_for_by_name_and_loses_no_byte() {
    let cases: [&'static [&'static [u8]]; 3] = [
        &[b"HTTP/1.1 200 Connection established\r\nX-A: b\r\n\r\nSSH-2.0-x\r\n"],
        &[b"HTTP/1.0 200\r\n\r", b"\nSSH-2.0-x\r\n"],
        &[b"H", b"TTP/1.1 299 \r", b"\n\r", b"\n", b"SSH-", b"2.0-x\r\n"],
    ];
    for (pieces, purpose) in cases.into_iter().zip([Purpose::Tls, Purpose::Raw, Purpose::Tls]) {
        let authority = Authority::new();
        let (url, thread) = proxy(pieces);
        let dialer = dialer(&authority, &[("HTTPS_PROXY", url)]);
        let allowed = allowed("api.example.com", 8443, &[]);
        let upstream = dialer.dial(&allowed, &[], purpose).await.expect("a tunnel");
        assert!(upstream.via_proxy.is_none());
        let mut stream = upstream.stream;
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting).await.expect("read");
        assert_eq!(greeting, "SSH-2.0-x\r\n");
        let head = thread.join().expect("the proxy");
        let expected = "CONNECT api.example.com:8443 HTTP/1.1\r\nHost: api.example.com:8443\r\n\
            Proxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n";
        assert_eq!(head, expected);
        assert_eq!(authority.received(), []);
    }
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel() {
    let authority = Authority::new();
    let failure = async |pieces: &'static [&'static [u8]]| {
        let (url, thread) = proxy(pieces);
        let mut dialer = dialer(&authority, &[("ALL_PROXY", url)]);
        if pieces.is_empty() {
            dialer.limit = BRIEF;
        }
        let allowed = allowed("api.example.com", 443, &[]);
        let error = dialer.dial(&allowed, &[], Purpose::Tls).await.expect_err("no tunnel");
        thread.join().expect("the proxy");
        let DialError::Proxy(error) = error else { panic!("{error:?}") };
        error
    };
    let error = failure(&[b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"]).await;
    assert!(matches!(error, TunnelError::Credentials), "{error:?}");
    let error = failure(&[b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"]).await;
    assert!(matches!(error, TunnelError::Refused(503)), "{error:?}");
    let garbage: [&'static [&'static [u8]]; 2] =
        [&[b"SSH-2.0-x\r\n"], &[b"HTTP/1.1 2000 x\r\n\r\n"]];
    for garbage in garbage {
        let error = failure(garbage).await;
        assert!(matches!(error, TunnelError::NotHttp), "{error:?}");
    }
    let error = failure(&[b"HTTP/1.1 200"]).await;
    assert!(matches!(error, TunnelError::Closed(_)), "{error:?}");
    let error = failure(&[]).await;
    assert!(matches!(error, TunnelError::Timeout), "{error:?}");
    assert_eq!(authority.received(), []);
}

#[tokio::test]
async fn plain_http_goes_to_the_proxy_in_absolute_form() {
    let authority = Authority::new();
    let (listener, port) = listener(Ipv4Addr::LOCALHOST, 0);
    let url = format!("http://user:p%40ss@localhost:{port}");
    let dialer = dialer(&authority, &[("http_proxy", url)]);
    let allowed = allowed("api.example.com", 80, &[]);
    let upstream = dialer.dial(&allowed, &[], Purpose::Http).await.expect("the proxy");
    let form = upstream.via_proxy.expect("the form of requests");
    let authorization = form.authorization.expect("credentials");
    assert_eq!(authorization.value(), "Basic dXNlcjpwQHNz");
    assert_eq!(upstream.peer.port(), port);
    assert!(listener.accept().is_ok());
    assert_eq!(authority.received(), []);
}

#[tokio::test]
async fn what_goes_past_the_proxy() {
    let authority = Authority::new();
    authority.set("direct.example", Reply::addresses(&["127.0.0.1"]));
    let (target, port) = listener(Ipv4Addr::LOCALHOST, 0);
    let (proxy, proxy_port) = listener(Ipv4Addr::LOCALHOST, 0);
    let url = format!("http://127.0.0.1:{proxy_port}");
    let variables = [("ALL_PROXY", url), ("no_proxy", ".direct.example".to_owned())];
    let dialer = dialer(&authority, &variables);
    let hosts: [(&str, &[IpAddr]); 4] = [
        ("127.0.0.1", &[]),
        ("host.docker.internal", &[]),
        ("direct.example", &[]),
        ("db.test", &[LOOPBACK]),
    ];
    for (host, added) in hosts {
        let allowed = allowed(host, port, &["127.0.0.1/32"]);
        let upstream = dialer.dial(&allowed, added, Purpose::Raw).await.expect(host);
        assert_eq!(upstream.peer, SocketAddr::new(LOOPBACK, port), "{host}");
        assert!(target.accept().is_ok());
    }
    assert!(is_untouched(&proxy));
    assert!(authority.received().iter().all(|query| query.name == "direct.example"));
}
