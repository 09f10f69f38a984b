//! How the host's side of the network is reached: proxies, services of the host, added names,
//! certificates that are not in order, and no network at all.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use matchlock_testkit::dns::Reply;
use matchlock_testkit::origin::{Options, Origin};

use crate::lab::{API, NetLab, fresh_address};
use crate::servers::{answer_all, listen, read_head};

cases![
    the_proxy_of_the_host_is_used_unless_the_host_excepts_a_name,
    a_service_of_the_host_needs_a_rule_with_its_port,
    an_added_name_leads_to_its_address,
    an_untrusted_server_is_told_of,
    without_a_network_there_is_only_loopback,
];

/// A proxy that connects everybody to one address and keeps the heads that it got.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to(target: SocketAddr) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let address = listen(([127, 0, 0, 1], 0).into(), move |mut stream| {
            let head = read_head(&mut stream);
            kept.lock().expect("heads").push(head.clone());
            if head.starts_with("CONNECT ") {
                connect(stream, target);
            } else {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nby proxy\n";
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }
}

fn connect(mut guest: TcpStream, target: SocketAddr) {
    let Ok(mut server) = TcpStream::connect(target) else { return };
    drop(guest.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n"));
    let (mut from, mut to) = (server.try_clone().expect("two"), guest.try_clone().expect("two"));
    let down = std::thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(std::net::Shutdown::Write));
    });
    drop(std::io::copy(&mut guest, &mut server));
    drop(server.shutdown(std::net::Shutdown::Write));
    drop(down.join());
}

fn the_proxy_of_the_host_is_used_unless_the_host_excepts_a_name() {
    let direct = "direct.example.com";
    let lab = NetLab::with(&[API, direct]);
    let proxy = Proxy::to(lab.at(443));
    let url = format!("http://user:pass@{}", proxy.address);
    let script = format!(
        "env | grep -i proxy
         curl -sS -H \"X-Key: $KEY\" https://{API}/status/200
         curl -sS -H \"X-Key: $KEY\" http://{API}/plain
         curl -sS https://{direct}/status/200"
    );
    let flags = ["--secret", &format!("KEY=a-real-value@{API}"), "--allow-host", direct];
    let run = lab.sh(&flags, &script).env("HTTPS_PROXY", &url).env("HTTP_PROXY", &url);
    let finished = run.env("http_proxy", &url).env("NO_PROXY", direct).finish().expect(0);
    assert_eq!(finished.out(), "statusby proxy\nstatus");
    let heads = proxy.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(heads[0].starts_with(&format!("CONNECT {API}:443 HTTP/1.1\r\n")), "{heads:?}");
    assert!(!heads[0].contains("a-real-value"), "{heads:?}");
    let plain = format!("GET http://{API}/plain HTTP/1.1\r\n");
    assert!(heads[1].starts_with(&plain) && heads[1].contains("a-real-value"), "{heads:?}");
    for head in &heads {
        assert!(head.to_lowercase().contains("proxy-authorization: basic "), "{head}");
    }
    let names: Vec<_> = lab.dns.received().into_iter().map(|query| query.name).collect();
    assert!(names.iter().all(|name| name == direct), "the proxy resolves: {names:?}");
    assert_eq!(lab.origin.requests()[0].header("x-key"), Some("a-real-value"));
}

fn a_service_of_the_host_needs_a_rule_with_its_port() {
    let lab = NetLab::new();
    let open = answer_all(([127, 0, 0, 1], 0).into(), "open\n").port();
    let other = answer_all(([127, 0, 0, 1], 0).into(), "other\n").port();
    let script = format!(
        "for host in host.matchlock.internal host.docker.internal; do
             for port in {open} {other}; do
                 curl -s --max-time 60 http://$host:$port/ || echo no
             done
         done
         curl -s --max-time 60 http://127.0.0.1:{open}/ || echo no
         curl -s --max-time 60 http://198.18.0.1:{open}/ || echo no"
    );
    for (rule, expected) in [
        (format!("host.matchlock.internal:{open}"), "open\nno\nno\nno\nno\nno\n"),
        (format!("host.docker.internal:{open}"), "no\nno\nopen\nno\nno\nno\n"),
        (format!("*,{API}"), "no\nno\nno\nno\nno\nno\n"),
    ] {
        assert_eq!(lab.out(&["--allow-host", &rule], &script), expected, "{rule}");
    }
}

fn an_added_name_leads_to_its_address() {
    let (added, denied) = ("added.example.com", "denied.example.com");
    let alone = "alone.example.com";
    let lab = NetLab::with(&[API, added]);
    lab.dns.set(added, Reply::addresses(&["11.200.200.200"]));
    let address = lab.address;
    let flags = [
        "--allow-host",
        added,
        "--add-host",
        &format!("{added}:{address}"),
        "--add-host",
        &format!("{denied}:{address}"),
        "--add-host",
        &format!("{alone}:11.201.0.1"),
    ];
    let script = format!(
        "grep -c '{address}' /etc/hosts
         curl -sS https://{added}/status/200
         curl -sS http://{added}/status/200; echo
         curl -s -o /dev/null -w '%{{http_code}}\n' http://{denied}/
         curl -s --max-time 60 http://{alone}/ || echo no"
    );
    assert_eq!(lab.out(&flags, &script), "2\nstatusstatus\n421\nno\n");
    assert_eq!(lab.dns.received(), [], "nobody was asked");
    assert_eq!(lab.origin.requests().len(), 2);
}

fn an_untrusted_server_is_told_of() {
    let name = "untrusted.example.com";
    let lab = NetLab::new();
    let address = fresh_address();
    let at = |port| SocketAddr::new(address.into(), port);
    let other = Origin::with(&Options {
        names: vec![name.to_owned()],
        http: at(80),
        https: at(443),
        ..Options::default()
    });
    let wrong = "wrong.example.com";
    lab.dns.set(name, Reply::addresses(&[&address.to_string()]));
    lab.dns.set(wrong, Reply::addresses(&[&lab.address.to_string()]));
    let script = format!(
        "for version in --http1.1 --http2; do for host in {name} {wrong}; do
             curl -sS $version -w ' %{{http_code}}\\n' -H \"X-Key: $KEY\" https://$host/
         done; done"
    );
    let secret = format!("KEY=a-real-value@{name},{wrong}");
    let out = lab.out(&["--secret", &secret], &script);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    for line in lines {
        assert!(line.starts_with("Failed to connect") && line.ends_with(" 502"), "{out}");
        assert!(line.contains("certificate"), "{out}");
    }
    assert_eq!((lab.origin.requests().len(), other.requests().len()), (0, 0));
    assert_eq!(lab.events("upstream_failed").len(), 4);
}

fn without_a_network_there_is_only_loopback() {
    let lab = NetLab::new();
    let script = format!(
        "ls /sys/class/net; ls /sys/bus/virtio/drivers/virtio_net 2>/dev/null | grep -c virtio
         curl -s https://{API}/; echo $?; test -e /etc/ssl/certs/matchlock-ca.crt || echo no CA"
    );
    let out = lab.out(&["--no-network"], &script);
    assert!(out.starts_with("lo\n0\n") && out.contains("\n6\n"), "{out}");
    assert_eq!(lab.dns.received(), []);
}
