//! Protocols other than HTTP are carried to allowed names as they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::sync::mpsc;

use matchlock_testkit::PATIENCE;
use matchlock_testkit::dns::Reply;
use matchlock_testkit::origin::{Options, Origin};

use crate::lab::{API, EVIL, NetLab};
use crate::servers::{PYTHON, Program, listen};

cases![
    a_server_that_speaks_first_is_heard,
    a_client_that_speaks_first_is_heard,
    each_side_may_end_before_the_other,
    tls_without_http_is_carried_without_secrets,
    a_closed_port_refuses_at_once,
    both_internet_protocols_lead_to_the_server,
];

const ALLOW: [&str; 2] = ["--allow-host", API];

fn python(lab: &NetLab, flags: &[&str], program: &str) -> String {
    lab.argv(flags, &[PYTHON, "-c", program]).finish().expect(0).out()
}

fn a_server_that_speaks_first_is_heard() {
    let lab = NetLab::new();
    let (told, heard) = mpsc::channel();
    listen(lab.at(25), move |mut stream| {
        stream.write_all(b"220 mail.example.com ready\r\n").expect("written");
        let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
        told.send(lines.next().expect("a line").expect("read")).expect("told");
        stream.write_all(b"250 hello\r\n").expect("written");
    });
    let program = format!(
        "import socket
s = socket.create_connection(('{API}', 25))
f = s.makefile('rwb')
print(f.readline()); f.write(b'EHLO guest\\r\\n'); f.flush(); print(f.readline(), f.read())"
    );
    let out = python(&lab, &ALLOW, &program);
    assert_eq!(out, "b'220 mail.example.com ready\\r\\n'\nb'250 hello\\r\\n' b''\n");
    assert_eq!(heard.recv_timeout(PATIENCE).expect("heard"), "EHLO guest");
    let opened = &lab.events("flow_open")[0];
    assert_eq!((&opened["host"], &opened["port"]), (&API.into(), &25.into()), "{opened}");
}

fn a_client_that_speaks_first_is_heard() {
    let lab = NetLab::new();
    listen(lab.at(5432), |mut stream| {
        let mut data = [0; 8];
        stream.read_exact(&mut data).expect("read");
        data.reverse();
        stream.write_all(&data).expect("written");
        std::io::copy(&mut stream.try_clone().expect("cloned"), &mut stream).expect("echoed");
    });
    // The request for TLS of Postgres; then a megabyte of every byte, in both directions at once.
    let program = format!(
        "import socket, threading
s = socket.create_connection(('{API}', 5432))
s.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47])); print(list(s.recv(8)))
data = bytes(range(256)) * 4096
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
back = b''
while piece := s.recv(65536): back += piece
print(back == data)"
    );
    let out = python(&lab, &ALLOW, &program);
    assert_eq!(out, "[47, 22, 210, 4, 8, 0, 0, 0]\nTrue\n");
    let closed = &lab.events("flow_close")[0];
    assert_eq!(closed["bytes_up"], (1 << 20) + 8, "{closed}");
    assert_eq!(closed["bytes_down"], (1 << 20) + 8, "{closed}");
}

fn each_side_may_end_before_the_other() {
    let lab = NetLab::new();
    let (told, heard) = mpsc::channel();
    // The answer comes after the client's end.
    listen(lab.at(7001), |mut stream| {
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("read");
        stream.write_all(&data.to_ascii_uppercase()).expect("written");
    });
    // The server ends first, and then hears.
    listen(lab.at(7002), move |mut stream| {
        stream.write_all(b"that is all").expect("written");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("read");
        told.send(data).expect("told");
    });
    let program = format!(
        "import socket
s = socket.create_connection(('{API}', 7001))
s.sendall(b'a question'); s.shutdown(socket.SHUT_WR); print(s.makefile('rb').read())
s = socket.create_connection(('{API}', 7002))
print(s.makefile('rb').read())
for _ in range(1000): s.sendall(b'x' * 1000)
s.close()"
    );
    let out = python(&lab, &ALLOW, &program);
    assert_eq!(out, "b'A QUESTION'\nb'that is all'\n");
    let data = heard.recv_timeout(PATIENCE).expect("heard");
    assert!(data == vec![b'x'; 1_000_000], "{} bytes", data.len());
}

fn tls_without_http_is_carried_without_secrets() {
    let lab = NetLab::new();
    let (address, pem) = (lab.address.to_string(), lab.leaf_pem());
    let server = include_str!("programs/serve_tls.py");
    let silent = Program::python(server, &[&address, "6697", &pem, ""]);
    let greets = Program::python(server, &[&address, "993", &pem, "* OK IMAP ready"]);
    let program = format!(
        "import os, socket, ssl
context = ssl.create_default_context()
for port in 6697, 993:
    s = context.wrap_socket(socket.create_connection(('{API}', port)), server_hostname='{API}')
    f = s.makefile('rwb')
    if port == 993: print(f.readline())
    f.write(b'login ' + os.environ['KEY'].encode() + b'\\n'); f.flush()
    print(f.readline() == b'LOGIN ' + os.environ['KEY'].upper().encode() + b'\\n')
    f.write(b'quit\\n'); f.flush(); print(f.read())
    s.close()"
    );
    let secret = format!("KEY=a-real-value@{API}");
    let out = python(&lab, &["--secret", &secret], &program);
    assert_eq!(out, "True\nb'QUIT\\n'\nb'* OK IMAP ready\\n'\nTrue\nb'QUIT\\n'\n");
    for server in [silent, greets] {
        server.wait_for("received quit");
        let said = server.said().join("\n");
        assert!(said.contains("login SANDBOX_SECRET_"), "{said}");
        assert!(!said.contains("a-real-value"), "{said}");
    }
}

fn a_closed_port_refuses_at_once() {
    let lab = NetLab::new();
    let program = format!(
        "import errno, socket, time
for host, port in ('{API}', 81), ('{API}', 8443), ('11.9.9.9', 443), ('{EVIL}', 443):
    began = time.monotonic()
    try: socket.create_connection((host, port), 60); print('connected')
    except OSError as error:
        print(errno.errorcode.get(error.errno, error.errno), time.monotonic() - began < 10)"
    );
    let out = python(&lab, &ALLOW, &program);
    let lines: Vec<&str> = out.lines().collect();
    let refused = "ECONNREFUSED True";
    assert_eq!(lines[..3], [refused; 3], "{out}");
    // The name is not known.
    assert_eq!(lines[3], "-2 True", "{out}");
    assert!(lab.dns.received().iter().all(|query| query.name == API), "{:?}", lab.dns.received());
}

fn both_internet_protocols_lead_to_the_server() {
    let lab = NetLab::new();
    let six = "six.example.com";
    let any = SocketAddr::new(Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1).into(), 0);
    let other = Origin::with(&Options {
        names: vec![six.to_owned()],
        http: any,
        https: any,
        ..Options::default()
    });
    lab.trust(&other);
    lab.dns.set(six, Reply::addresses(&["2a00::1"]));
    let (tls, plain) = (other.https().port(), other.http().port());
    let script = format!(
        "for family in -4 -6; do
             curl -sS $family https://{API}/status/200
             curl -sS $family http://{API}/status/200
             curl -sS $family https://{six}:{tls}/status/200
             curl -sS $family http://{six}:{plain}/status/200; echo
         done
         getent ahosts {six} | grep -c STREAM"
    );
    let out = lab.out(&["--allow-host", &format!("{API},{six}")], &script);
    assert_eq!(out, format!("{0}\n{0}\n2\n", "status".repeat(4)));
    assert_eq!((lab.origin.requests().len(), other.requests().len()), (4, 4));
}
