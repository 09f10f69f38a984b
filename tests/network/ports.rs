//! Published ports.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use matchlock_testkit::{PATIENCE, ReservedPort, Running};

use crate::lab::NetLab;
use crate::servers::PYTHON;

cases![
    a_web_server_of_the_sandbox_is_reached_through_its_ports,
    each_side_of_a_forward_may_end_before_the_other,
    a_port_that_cannot_be_had_is_an_error_before_the_sandbox_starts,
];

/// One that speaks until the client ends; the other speaks first and ends, and tells what it hears.
const SERVER: &str = "
import socket
first, second = (socket.create_server(('127.0.0.1', port)) for port in (8000, 9000))
print('listening', flush=True)
peer, _ = first.accept()
data = peer.makefile('rb').read()
peer.sendall(data.upper())
peer.close()
peer, _ = second.accept()
peer.sendall(b'that is all')
peer.shutdown(socket.SHUT_WR)
print('heard', len(peer.makefile('rb').read()), flush=True)
";

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn get(address: SocketAddr) -> String {
    let mut stream = connect(address);
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

fn served(lab: &NetLab, flags: &[&str], script: &str) -> Running {
    let mut running = lab.sh(flags, script).spawn();
    running.wait_for("listening", PATIENCE);
    running
}

fn a_web_server_of_the_sandbox_is_reached_through_its_ports() {
    let lab = NetLab::new();
    let reserved = [(); 2].map(|()| ReservedPort::on([127, 0, 0, 2].into()));
    let [one, two] = reserved.each_ref().map(|port| port.number().get());
    let flags =
        ["--address", "127.0.0.2", "-p", &format!("{one}:8000"), "-p", &format!("{two}:9000")];
    let script = "mkdir /tmp/web && cd /tmp/web && echo from the sandbox > page
        python3 -m http.server --bind 127.0.0.1 9000 >/dev/null 2>&1 &
        python3 -m http.server --bind 0.0.0.0 8000 >/dev/null 2>&1 &
        for port in 8000 9000; do
            until curl -s -o /dev/null http://127.0.0.1:$port/; do :; done
        done
        echo listening; sleep 1000";
    let running = served(&lab, &flags, script);
    for port in [one, two] {
        for _ in 0..3 {
            let answer = get(([127, 0, 0, 2], port).into());
            assert!(
                answer.contains("200 OK") && answer.ends_with("from the sandbox\n"),
                "{answer}"
            );
        }
        TcpStream::connect(("127.0.0.1", port)).expect_err("another address");
    }
    running.signal(rustix::process::Signal::TERM);
    let finished = running.finish(PATIENCE);
    for (port, remote) in [(one, 8000), (two, 9000)] {
        let line = format!("Forwarding 127.0.0.2:{port} -> sandbox:{remote}\n");
        assert!(finished.err().contains(&line), "{}", finished.err());
    }
}

fn each_side_of_a_forward_may_end_before_the_other() {
    let lab = NetLab::new();
    let reserved = [(); 2].map(|()| ReservedPort::new());
    let [one, two] = reserved.each_ref().map(|port| port.number().get());
    let flags = ["-p", &format!("{one}:8000"), "-p", &format!("{two}:9000")];
    let mut running = lab.argv(&flags, &[PYTHON, "-c", SERVER]).spawn();
    running.wait_for("listening", PATIENCE);

    let mut stream = connect(([127, 0, 0, 1], one).into());
    stream.write_all(b"a question").expect("written");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    assert_eq!(answer, b"A QUESTION");

    let mut stream = connect(([127, 0, 0, 1], two).into());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    assert_eq!(answer, b"that is all");
    stream.write_all(&vec![b'x'; 1_000_000]).expect("written");
    drop(stream);
    assert_eq!(running.finish(PATIENCE).expect(0).out(), "listening\nheard 1000000\n");
}

fn a_port_that_cannot_be_had_is_an_error_before_the_sandbox_starts() {
    let lab = NetLab::new();
    let held = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = held.local_addr().expect("an address").port();
    for (port, words) in [
        (format!("{busy}:80"), vec![busy.to_string()]),
        ("0:80".to_owned(), vec!["0:80".to_owned()]),
        ("80:0".to_owned(), vec!["80:0".to_owned()]),
        ("99999:80".to_owned(), vec!["99999:80".to_owned()]),
        ("http".to_owned(), vec!["http".to_owned()]),
    ] {
        let finished = lab.finish(&["-p", &port], "echo it ran");
        assert_ne!(finished.code(), 0, "{port}");
        assert_eq!(finished.out(), "", "{port}");
        for word in words {
            assert!(finished.err().contains(&word), "{port}: {}", finished.err());
        }
    }
}
