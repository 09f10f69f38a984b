//! What a sandbox reaches of the network, from outside of it.

use std::io::{Read, Write};
use std::net::TcpListener;

use matchlock_testkit::Lab;
use serde_json::Value;

/// Sends a line to each port of the host in turn and prints the answer or the error.
const CLIENT: &str = "
import socket, sys
for name, port in (arg.rsplit(':', 1) for arg in sys.argv[1:]):
    try:
        peer = socket.create_connection((name, int(port)), timeout=60)
        peer.sendall(b'hello'); peer.shutdown(socket.SHUT_WR)
        print(peer.makefile().read())
    except OSError as error:
        print(type(error).__name__)
";

#[test]
fn a_service_of_the_host_is_reached_by_its_exact_name_and_port_only() {
    let lab = Lab::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = server.local_addr().expect("bound").port();
    let other = TcpListener::bind("127.0.0.1:0").expect("bind");
    let other_port = other.local_addr().expect("bound").port();
    let serving = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().expect("accept");
        let mut received = String::new();
        peer.read_to_string(&mut received).expect("read");
        peer.write_all(received.to_uppercase().as_bytes()).expect("write");
    });
    let allowed = format!("host.matchlock.internal:{port}");
    let refused = format!("host.matchlock.internal:{other_port}");
    let argv = ["python3", "-c", CLIENT, &allowed, &refused, "evil.example.com:443"];
    // The client's word is in no protocol that is recognised.
    let rule = format!("{allowed}/tcp");
    let finished = lab.run(&["--allow-host", &rule, "--json"], &argv).finish().expect(0);
    assert_eq!(finished.out(), "HELLO\nConnectionRefusedError\ngaierror\n");
    serving.join().expect("served");
    other.set_nonblocking(true).expect("non-blocking");
    assert!(other.accept().is_err(), "nobody came");

    let err = finished.err();
    let report: Value = serde_json::from_str(err.lines().last().expect("a report")).expect("JSON");
    let list = report["refused"].as_array().expect("an array");
    let allow_with = |host: &str| {
        let refusal = list.iter().find(|refusal| refusal["host"] == host);
        refusal.map(|refusal| refusal["allow_with"].clone()).unwrap_or_default()
    };
    assert_eq!(allow_with("evil.example.com"), "--allow-host evil.example.com");
    let flag = format!("--allow-host host.matchlock.internal:{other_port}");
    assert_eq!(allow_with("host.matchlock.internal"), flag, "{err}");
}

#[test]
fn without_a_flag_nothing_is_reached_and_no_name_is_known() {
    let lab = Lab::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = server.local_addr().expect("bound").port();
    let targets = ["host.matchlock.internal", "127.0.0.1", "198.18.0.1", "10.0.0.1", "example.com"]
        .map(|host| format!("{host}:{port}"));
    let argv: Vec<&str> =
        ["python3", "-c", CLIENT].into_iter().chain(targets.iter().map(String::as_str)).collect();
    let finished = lab.run(&[], &argv).finish().expect(0);
    let refused = "ConnectionRefusedError\n";
    assert_eq!(finished.out(), format!("gaierror\n{refused}{refused}{refused}gaierror\n"));
    server.set_nonblocking(true).expect("non-blocking");
    assert!(server.accept().is_err(), "nobody came");
}
