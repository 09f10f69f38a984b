//! First bytes of a guest, held against real servers: what one of them takes for HTTP or TLS must not
//! be what we let pass unread.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use matchlock_intercept::speech::{Detected, Sniffer};
use matchlock_testkit::{PATIENCE, repository, wait_until};

use crate::lab::NetLab;
use crate::servers::{PYTHON, Program};

cases![no_server_of_the_web_serves_what_passes_unread];

/// For a server that says nothing and does not end.
const SILENCE: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: evil.example.net\r\nConnection: close\r\n\r\n";
/// A ClientHello of TLS 1.2, for evil.example.net, that every server here answers.
const HELLO: &[u8] = b"\x16\x03\x01\0\x6a\x01\0\0\x66\x03\x03abcdefghijklmnopqrstuvwxyzabcdef\0\
    \0\x06\xc0\x2b\xc0\x2c\xc0\x2f\x01\0\0\x37\
    \0\0\0\x15\0\x13\0\0\x10evil.example.net\0\x0a\0\x04\0\x02\0\x17\0\x0b\0\x02\x01\0\
    \0\x0d\0\x0c\0\x0a\x04\x03\x05\x03\x08\x04\x04\x01\x02\x01";

/// What may stand before a request or a hello.
const BEFORE: &[&[u8]] = &[
    b"",
    b"\r\n",
    b"\r\n\r\n ",
    b"\0",
    b"\x01",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x85",
    b"\xa0",
    b"\xef\xbb\xbf",
    b"\x10\x1f\x02",
    b"\x15\x03\x01\0\x02\x01\x64",
    b"\x15\x03\x01\0\x02\x01\x5a\x15\x03\x01\0\x02\x01\x5a",
    b"\x14\x03\x03\0\x01\x01",
    b"\x17\x03\x03\0\x01\0",
    b"\x18\x03\x03\0\x03\x01\0\0",
    b"SSH-2.0-x\r\n",
    b"@RSYNCD: 31.0\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"AMQP\0\0\x09\x01",
    b"\x10\x0c\0\x04MQTT\x05\x02\0\x3c\0\0",
    b"\x04\0\0\x01\x05\0\0\0\0",
];

/// First lines with a place for the method.
fn requests() -> Vec<Vec<u8>> {
    let methods = [1, 31, 32, 33, 64, 65, 300].map(|length| b"A".repeat(length));
    let odd = [&b"G@T"[..], b"(GET", b"SSH-2.0-x", b"003egit-upload-pack", b"AMQP", b"*1", b"get"];
    let methods = methods.into_iter().chain(odd.map(<[u8]>::to_vec));
    let rests = [
        &b" / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b" /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\t/ HTTP/1.0\r\n\r\n",
        b" / http/1.1\r\nHost: a\r\n\r\n",
        b" /\r\n",
    ];
    methods.flat_map(|method| rests.map(|rest| [&method, rest].concat())).collect()
}

/// The seeds of the fuzz target, and what is made here.
fn flights() -> Vec<Vec<u8>> {
    let seeds = std::fs::read_dir(repository().join("fuzz/corpus/speech")).expect("a corpus");
    let seeds = seeds.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a seed"));
    let before = |what: &'static [u8]| BEFORE.iter().map(move |start| [start, what].concat());
    seeds.chain(before(REQUEST)).chain(before(HELLO)).chain(requests()).collect()
}

struct Server {
    name: &'static str,
    address: SocketAddr,
    _program: Option<Program>,
}

impl Server {
    /// The first bytes of the server's answer.
    fn answer(&self, flight: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(SILENCE)).expect("set");
        // It may be refused before it is all there.
        drop(stream.write_all(flight));
        drop(stream.shutdown(Shutdown::Write));
        let mut answer = vec![0; 16];
        let read = stream.read(&mut answer).unwrap_or(0);
        answer.truncate(read);
        answer
    }
}

/// Starts a program, and gives its plain and its TLS side.
fn start(lab: &NetLab, name: &'static str, ports: [u16; 2], command: &mut Command) -> Vec<Server> {
    let mut program = Some(Program::start(command));
    let sides = ports.into_iter().filter(|&port| port != 0);
    sides
        .map(|port| {
            let address = lab.at(port);
            wait_until(name, PATIENCE, || TcpStream::connect(address).ok());
            Server { name, address, _program: program.take() }
        })
        .collect()
}

fn servers(lab: &NetLab) -> Vec<Server> {
    let (address, pem) = (lab.address.to_string(), lab.leaf_pem());
    let text = |ports: [u16; 2]| ports.map(|port| port.to_string());
    let arguments = |command: &mut Command, ports: [u16; 2]| {
        command.arg(&address).args(text(ports)).arg(&pem);
    };
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("network/programs/speech");
    let [go, java, node, python, nginx] = [[81, 444], [82, 445], [83, 446], [84, 447], [85, 448]];
    let mut all = Vec::new();

    let binary = lab.path("server");
    let mut build = Command::new("go");
    build.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
    let status = build.args(["build", "-o"]).arg(&binary).arg(programs.join("server.go")).status();
    assert!(status.expect("go runs").success());
    let mut command = Command::new(binary);
    arguments(&mut command, go);
    all.extend(start(lab, "go", go, &mut command));

    let mut command = Command::new("java");
    command.args(["-cp", "/usr/share/java/*"]).arg(programs.join("Netty.java"));
    arguments(&mut command, java);
    all.extend(start(lab, "netty", java, &mut command));

    let mut command = Command::new("node");
    command.arg(programs.join("server.mjs"));
    arguments(&mut command, node);
    all.extend(start(lab, "node", node, &mut command));

    let mut command = Command::new(PYTHON);
    command.arg(programs.join("server.py"));
    arguments(&mut command, python);
    all.extend(start(lab, "python", python, &mut command));

    let config = std::fs::read_to_string(programs.join("nginx.conf")).expect("a configuration");
    let [plain, secure] = text(nginx);
    let directory = lab.path("");
    let config = config.replace("DIR", directory.to_str().expect("UTF-8"));
    let config = config.replace("ADDRESS", &address).replace("PORT", &plain);
    let config = config.replace("SECURE", &secure).replace("PEM", &pem);
    std::fs::write(lab.path("nginx.conf"), config).expect("written");
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(lab.path("nginx.conf"));
    all.extend(start(lab, "nginx", nginx, &mut command));

    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-quiet", "-accept", &format!("{address}:449")]);
    command.args(["-cert", &pem, "-key", &pem]);
    all.extend(start(lab, "openssl", [0, 449], &mut command));
    all
}

fn is_served(answer: &[u8]) -> bool {
    let status = answer.strip_prefix(b"HTTP/1.1 ").or(answer.strip_prefix(b"HTTP/1.0 "));
    let fine = status.is_some_and(|status| matches!(status.first(), Some(b'1'..=b'3')));
    // A ServerHello, of TLS or of SSL 2.
    fine || answer.starts_with(&[0x16, 3]) || matches!(*answer, [0x80..=0xff, _, 4, ..])
}

/// Tries flights at a server; returns how many of them it served that look odd.
fn try_all(server: &Server, flights: &[Vec<u8>]) -> usize {
    let mut odd = 0;
    for flight in flights {
        let shown = flight[..flight.len().min(80)].escape_ascii();
        match Sniffer::default().at_end(flight) {
            Detected::Known(opening) => {
                // What passes before the server has answered, and what that answer does then.
                let answer = server.answer(&flight[..opening.length()]);
                let name = server.name;
                assert!(!is_served(&answer), "{name} serves {shown}");
                assert_ne!(opening.is_answered(&answer), Some(true), "{name} confirms {shown}");
            }
            Detected::Unknown | Detected::Tls => {
                odd += usize::from(is_served(&server.answer(flight)));
            }
            Detected::Http1 | Detected::Http2 | Detected::Silent => {}
        }
    }
    odd
}

fn no_server_of_the_web_serves_what_passes_unread() {
    let lab = NetLab::new();
    let (servers, flights) = (servers(&lab), flights());
    let known = flights
        .iter()
        .filter(|flight| matches!(Sniffer::default().at_end(flight), Detected::Known(_)));
    assert!(known.count() >= 20, "the closed list is tried");
    let odd: Vec<_> = std::thread::scope(|scope| {
        let flights = &flights;
        let each = |server| scope.spawn(move || try_all(server, flights));
        let tries: Vec<_> = servers.iter().map(each).collect();
        tries.into_iter().map(|each| each.join().expect("all holds")).collect()
    });
    let odd: Vec<_> = servers.iter().map(|server| server.name).zip(odd).collect();
    // The corpus is worth something: there are servers that read more than we do.
    let of =
        |name| odd.iter().filter(|(own, _)| *own == name).map(|(_, count)| count).sum::<usize>();
    assert!(of("netty") > 5 && of("go") > 1, "{odd:?}");
    for name in ["node", "python", "nginx", "openssl"] {
        assert!(of(name) > 0, "it serves TLS: {odd:?}");
    }
}
