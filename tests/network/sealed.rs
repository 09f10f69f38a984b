//! With no flag nothing leaves, whatever root of the guest sends.

use matchlock_testkit::{PATIENCE, Pty};
use serde_json::{Value, json};

use crate::lab::{API, EVIL, FRAMES, NetLab, Traps};

cases![
    no_name_resolves_and_no_question_leaves,
    every_connection_is_refused_at_once,
    datagrams_are_refused_at_once,
    only_the_gateway_answers_pings_and_other_protocols_go_nowhere,
    forged_frames_reach_nobody_and_the_network_goes_on,
    a_router_that_the_guest_invents_changes_nothing,
    floods_are_bounded_and_the_network_goes_on,
    a_relay_in_the_guest_gets_no_more_than_its_parent,
    what_was_refused_is_told_in_every_place,
    without_a_network_there_is_no_device,
];

/// All values of a JSON object are this one.
#[track_caller]
fn assert_all(seen: &Value, wanted: &str) {
    let others = seen.as_object().expect("an object").iter().filter(|(_, got)| *got != wanted);
    assert_eq!(others.collect::<Vec<_>>(), [], "wanted {wanted}");
}

fn no_name_resolves_and_no_question_leaves() {
    let lab = NetLab::shared(&[], &[API, EVIL]);
    let seen = lab.python(
        &[],
        r"
names = ['api.example.com', 'evil.example.net', 'host.matchlock.internal', 'localhost.example',
         'metadata.google.internal', 'a' * 60 + '.evil.example.net', 'xn--nxasmq6b.example']
kinds = {'A': 1, 'NS': 2, 'NULL': 10, 'PTR': 12, 'MX': 15, 'TXT': 16, 'AAAA': 28, 'SRV': 33,
         'SVCB': 64, 'HTTPS': 65, 'IXFR': 251, 'AXFR': 252, 'ANY': 255, 'CAA': 257, 'odd': 65280}
for name in names:
    for kind, number in kinds.items():
        seen[f'{name} {kind}'] = ask(name, number)
    seen[f'{name} over TCP'] = ask(name, 1, over_tcp=True)
    seen[f'{name} IPv6'] = ask(name, 28, server=GATEWAY6)
seen['reverse'] = ask('4.3.2.11.in-addr.arpa', 12)
",
        &[],
    );
    assert_all(&seen, "3/0");
    assert_eq!(lab.dns.received(), [], "no question may leave");
    let events = lab.events("dns");
    assert_eq!(events.len(), seen.as_object().expect("an object").len(), "each is recorded");
    assert!(events.iter().all(|event| event["decision"] == "denied"), "{events:?}");
    let rules = events.iter().filter(|event| event["rule"] == "default egress deny").count();
    assert_eq!(rules, events.len());
}

fn every_connection_is_refused_at_once() {
    let lab = NetLab::shared(&[], &[API, EVIL]);
    let traps = Traps::new();
    let origin = lab.address.to_string();
    let seen = lab.python(
        &[],
        r"
origin, trap = sys.argv[1], int(sys.argv[2])
targets = [
    (origin, 443), (origin, 80), (origin, 853), ('8.8.8.8', 53), ('1.1.1.1', 853), ('1.1.1.1', 443),
    ('10.0.0.1', 80), ('172.16.0.1', 22), ('192.168.1.1', 80), ('100.64.0.1', 80),
    ('169.254.169.254', 80), ('169.254.170.2', 80), ('100.100.100.200', 80), ('198.18.0.3', 80),
    ('198.19.0.1', 443), ('192.0.2.1', 80), ('198.51.100.7', 80), ('203.0.113.7', 80),
    (GATEWAY, trap), (GATEWAY, 22), (GATEWAY, 80), (GATEWAY, 443), (GATEWAY, 8080),
    ('2a00::1', 443), ('2001:4860:4860::8888', 53), (GATEWAY6, trap), (GATEWAY6, 80),
    ('fd00:ec2::254', 80), ('fd6d:6c6b:0:1::1', 443), ('::ffff:' + origin, 443),
    ('64:ff9b::a9fe:a9fe', 80), ('64:ff9b::b07:1', 443), ('2002:b07:1::1', 443),
    ('2001:0:b07:1::1', 443), ('::11.7.0.1', 443), ('fec0::1', 80), ('2a00::1', trap),
    ('2001:db8::1', 80), ('11.0.0.1', trap), (origin, trap)]
for host, port in targets:
    seen[f'{host} {port}'] = tcp(host, port)
",
        &[&origin, &traps.port()],
    );
    let odd = ["::11.7.0.1 443", "fec0::1 80"];
    let mut seen = seen;
    for name in odd {
        // The guest's own kernel may have no route to what is deprecated.
        let got = seen.as_object_mut().expect("an object").remove(name).expect("tried");
        assert!(got == "ECONNREFUSED" || got == "ENETUNREACH" || got == "EINVAL", "{name}: {got}");
    }
    assert_all(&seen, "ECONNREFUSED");
    traps.assert_untouched();
    assert_eq!((lab.origin.connections(), lab.dns.received().len()), (0, 0));
    let flows = lab.events("flow_open");
    assert!(flows.iter().all(|flow| flow["decision"] == "denied"), "{flows:?}");
    let recorded = |address: &str| flows.iter().any(|flow| flow["address"] == address);
    assert!(recorded(&origin) && recorded("169.254.169.254") && recorded("2a00::1"), "{flows:?}");
    let resolve = format!("{API}:443:{origin}");
    let script = format!("curl -sS --resolve {resolve} https://{API}/; echo $?");
    assert_eq!(lab.out(&[], &script), "7\n", "a name in the guest opens nothing");
    assert_eq!(lab.origin.connections(), 0);
}

fn datagrams_are_refused_at_once() {
    let lab = NetLab::shared(&["--allow-host", API], &[API, EVIL]);
    let traps = Traps::new();
    let origin = lab.address.to_string();
    let seen = lab.python(
        &["--allow-host", API],
        r"
origin, trap = sys.argv[1], int(sys.argv[2])
quic = bytes([0xc0, 0, 0, 0, 1, 8]) + bytes(1194)
name = lookup('api.example.com')[0]
for host in [origin, '8.8.8.8', '1.1.1.1', '10.0.0.1', '169.254.169.254', GATEWAY, name,
             '2001:4860:4860::8888', 'fd00:ec2::254', GATEWAY6, '2a00::1']:
    for port in (443, 853, 123, 4500, trap):
        seen[f'{host} {port}'] = udp(host, port, quic)
for host in ('8.8.8.8', '2001:4860:4860::8888', '11.0.0.1', origin, name):
    seen[f'DNS at {host}'] = udp(host, 53, question('evil.example.net', 1))
for port in range(1, 1024):
    if port != 53:
        seen[f'gateway {port}'] = udp(GATEWAY, port)
",
        &[&origin, &traps.port()],
    );
    assert_all(&seen, "ECONNREFUSED");
    traps.assert_untouched();
    assert_eq!((lab.origin.connections(), lab.dns.received().len()), (0, 0));
    let flows = lab.events("flow_open");
    let quic = flows.iter().find(|flow| flow["protocol"] == "udp" && flow["port"] == 443);
    assert_eq!(quic.expect("recorded")["decision"], "denied");
}

fn only_the_gateway_answers_pings_and_other_protocols_go_nowhere() {
    let lab = NetLab::new();
    let origin = lab.address.to_string();
    let program = format!(
        "{FRAMES}{}",
        r"
def ping(host, payload=b'tunnel' * 20):
    kind, number = (socket.IPPROTO_ICMPV6, 128) if ':' in host else (socket.IPPROTO_ICMP, 8)
    head = struct.pack('>BBHHH', number, 0, 0, 77, 1)
    if number == 8:
        head = struct.pack('>BBHHH', 8, 0, checksum(head + payload), 77, 1)
    def work():
        with socket.socket(family(host), socket.SOCK_RAW, kind) as raw:
            raw.settimeout(2)
            raw.sendto(head + payload, (host, 0))
            while True:
                got, who = raw.recvfrom(65535)
                if who[0] == host and payload in got:
                    return 'echo'
    return outcome(work)

for host in (GATEWAY, GATEWAY6):
    seen[host] = ping(host)
silent = {host: ping(host) for host in (sys.argv[1], '8.8.8.8', '169.254.169.254', '198.19.0.1',
                                        '2a00::1', 'fd00:ec2::254')}
for protocol in (2, 4, 41, 47, 50, 51, 88, 89, 94, 103, 112, 115, 132, 136, 253, 254):
    for host in (sys.argv[1], GATEWAY):
        def work():
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as raw:
                raw.settimeout(0.1)
                raw.sendto(b'\0' * 64, (host, 0))
                return raw.recv(65535).hex()
        silent[f'{protocol} {host}'] = outcome(work)
seen['silent'] = silent
# The largest ping that the gateway echoes is no larger than a packet may be.
seen['long'] = ping(GATEWAY, b'x' * 1400)
seen['after'] = ask('evil.example.net')
"
    );
    let seen = lab.python(&["--privileged"], &program, &[&origin]);
    assert_eq!((&seen["198.18.0.1"], &seen["fd6d:6c6b::1"]), (&json!("echo"), &json!("echo")));
    assert_eq!((&seen["long"], &seen["after"]), (&json!("echo"), &json!("3/0")));
    let silent = seen["silent"].as_object().expect("an object");
    let heard: Vec<_> = silent.iter().filter(|(_, got)| *got != "timeout").collect();
    assert_eq!(heard, [], "nothing answers");
    assert_eq!((lab.origin.connections(), lab.dns.received().len()), (0, 0));
}

fn forged_frames_reach_nobody_and_the_network_goes_on() {
    let lab = NetLab::new();
    let program = format!(
        "{FRAMES}{}",
        r"
link = Link()
name = lookup('api.example.com')
v4 = next(a for a in name if ':' not in a)
v6 = next(a for a in name if ':' in a)
tcp_answer = lambda port: lambda f: f[12:14] == b'\x08\0' and f[23] == 6 and \
    f[36:38] == struct.pack('>H', port)
tcp6_answer = lambda port: lambda f: f[12:14] == b'\x86\xdd' and f[20] == 6 and \
    f[56:58] == struct.pack('>H', port)

# From other senders.
stranger = bytes.fromhex('02deadbeef01')
link.send(ipv4(GUEST, v4, 6, segment(GUEST, v4, 443, source_port=41001)), source=stranger)
for source in ('198.18.0.3', '10.0.0.1', '127.0.0.1', '0.0.0.0', '224.0.0.1', v4, GATEWAY):
    link.send(ipv4(source, v4, 6, segment(source, v4, 443, source_port=41001)))
seen['other sources'] = link.heard(tcp_answer(41001))

# In fragments, whole ones first and then such that overlap or never end.
syn = segment(GUEST, v4, 443, source_port=41002)
link.send(ipv4(GUEST, v4, 6, syn[:8], more=True))
link.send(ipv4(GUEST, v4, 6, syn[8:], offset=8))
link.send(ipv4(GUEST, v4, 6, syn[:16], more=True, number=8))
link.send(ipv4(GUEST, v4, 6, syn[8:], offset=8, number=8))
for number in range(2000):
    link.send(ipv4(GUEST, v4, 6, syn[:8], more=True, number=number))
seen['fragments'] = link.heard(tcp_answer(41002))
who = 'fd6d:6c6b::2'
syn = segment(who, v6, 443, source_port=41003)
fragment = lambda data, offset, more: bytes([6, 0]) + struct.pack('>HI', offset | more, 9) + data
link.send(ipv6(who, v6, 44, fragment(syn[:8], 0, 1)), 0x86DD)
link.send(ipv6(who, v6, 44, fragment(syn[8:], 8, 0)), 0x86DD)
link.send(ipv6(who, v6, 44, fragment(syn, 0, 0)), 0x86DD)

# Behind extension headers: hop-by-hop, routing, destination options, and many of them.
options = bytes([6, 0, 1, 4, 0, 0, 0, 0])
for kind in (0, 43, 60, 51, 50, 135, 139, 140):
    link.send(ipv6(who, v6, kind, options + syn), 0x86DD)
link.send(ipv6(who, v6, 60, bytes([60, 0, 1, 4, 0, 0, 0, 0]) * 100 + options + syn), 0x86DD)
link.send(ipv6('fe80::1', v6, 6, segment('fe80::1', v6, 443, source_port=41003)), 0x86DD)
link.send(ipv6('::ffff:198.18.0.2', v6, 6, segment('::2', v6, 443, source_port=41003)), 0x86DD)
seen['IPv6'] = link.heard(tcp6_answer(41003))

# Source routes, wrong lengths, versions and sums, odd frames.
good = ipv4(GUEST, v4, 6, segment(GUEST, v4, 443, source_port=41004))
routed = struct.pack('>BBHHHBBH', 0x48, 0, 52, 9, 0, 64, 6, 0) + packed(GUEST) + packed(v4)
routed += bytes([0x83, 11, 4]) + packed('11.7.0.1') + packed('8.8.8.8') + b'\0'
routed = routed[:10] + struct.pack('>H', checksum(routed)) + routed[12:]
link.send(routed + segment(GUEST, v4, 443, source_port=41004))
for cut in range(len(good)):
    link.send(good[:cut])
for place in range(20):
    link.send(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1:])
for kind in (0, 0x0801, 0x8100, 0x88A8, 0x8863, 0x8864, 0x88CC, 0xFFFF):
    link.send(b'\0\x02\x08\0' + good, kind)
link.send(good, target=stranger)
link.send(segment(GUEST, v4, 443, flags=0x12), 0x0806)
routed_heard = link.heard(tcp_answer(41004))
seen['broken'] = routed_heard
for count in range(3000):
    link.send(os.urandom(1 + count % 1400), (0x0800, 0x86DD, 0x0806)[count % 3])
seen['status'] = status('https://api.example.com/')
",
    );
    let seen = lab.python(&["--privileged", "--allow-host", API], &program, &[]);
    assert_eq!(seen["other sources"], 0, "{seen}");
    assert_eq!(seen["status"], "200", "the network goes on: {seen}");
    // Fragments that make up a packet may be put together; none of the others makes a connection.
    assert_eq!((&seen["IPv6"], &seen["broken"]), (&json!(0), &json!(0)), "{seen}");
    assert_eq!(seen["fragments"], 0, "{seen}");
    let opened = lab.events("flow_open");
    let allowed = opened.iter().filter(|flow| flow["decision"] == "allowed");
    assert_eq!(allowed.count(), 1, "the last one only: {opened:?}");
    assert_eq!(lab.origin.connections(), 1);
}

fn a_router_that_the_guest_invents_changes_nothing() {
    let lab = NetLab::new();
    let traps = Traps::new();
    let program = format!(
        "{FRAMES}{}",
        r"
link = Link()
trap = int(sys.argv[1])
all_nodes = 'ff02::1'
multicast = bytes.fromhex('333300000001')
prefix = struct.pack('>BBBBIII', 3, 4, 64, 0xC0, 3600, 3600, 0) + packed('2a00::')
advert = struct.pack('>BBHII', 64, 0, 1800, 0, 0) + prefix
for source in ('fe80::bad', 'fe80::1', 'fd6d:6c6b::1'):
    link.send(ipv6(source, all_nodes, 58, icmpv6(source, all_nodes, 134, advert)), 0x86DD,
              target=multicast)
# The gateway and a host are here, says the guest, unasked and as an answer.
stranger = bytes.fromhex('02deadbeef01')
for target in (GATEWAY6, 'fd6d:6c6b::2', '2a00::1', 'fe80::1'):
    body = struct.pack('>I', 0x60000000) + packed(target) + bytes([2, 1]) + stranger
    link.send(ipv6(target, all_nodes, 58, icmpv6(target, all_nodes, 136, body)), 0x86DD,
              target=multicast)
    body = struct.pack('>I', 0) + packed(target) + bytes([1, 1]) + stranger
    link.send(ipv6('fe80::bad', target, 58, icmpv6('fe80::bad', target, 135, body)), 0x86DD)
for ip in (GATEWAY, GUEST, '11.7.0.1', '8.8.8.8'):
    arp = struct.pack('>HHBBH', 1, 0x0800, 6, 4, 2) + stranger + packed(ip) + link.own + packed(GUEST)
    link.send(arp, 0x0806, source=stranger)
    link.send(arp, 0x0806, target=b'\xff' * 6)
who = '2a00::5'
link.send(ipv6(who, '2a00::1', 6, segment(who, '2a00::1', trap)), 0x86DD)
link.send(ipv6('fe80::2', 'fe80::1', 6, segment('fe80::2', 'fe80::1', trap)), 0x86DD)
seen['answers'] = link.heard(lambda f: f[12:14] == b'\x86\xdd' and f[20] == 6)
scope = socket.if_nametoindex(link.name)
for host in ('fe80::1', 'ff02::1', 'ff02::2', 'fe80::a9fe:a9fe'):
    def work():
        stream = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        stream.settimeout(1)
        stream.connect((host, trap, 0, scope))
        return 'open'
    seen[host] = outcome(work)
seen['status'] = status('https://api.example.com/')
"
    );
    let flags = ["--privileged", "--allow-host", API];
    let seen = lab.python(&flags, &program, &[&traps.port()]);
    assert_eq!((&seen["status"], &seen["answers"]), (&json!("200"), &json!(0)), "{seen}");
    for host in ["fe80::1", "ff02::1", "ff02::2", "fe80::a9fe:a9fe"] {
        assert_ne!(seen[host], "open", "{seen}");
    }
    traps.assert_untouched();
}

fn floods_are_bounded_and_the_network_goes_on() {
    let lab = NetLab::new();
    let program = format!(
        "{FRAMES}{}",
        r"
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
link = Link()
v4 = next(a for a in lookup('api.example.com') if ':' not in a)
for port in range(1024, 65536, 4):
    link.send(ipv4(GUEST, v4, 6, segment(GUEST, v4, 443, source_port=port)))
seen['after SYNs'] = status('https://api.example.com/')
streams = []
for _ in range(5000):
    stream = socket.socket()
    stream.setblocking(False)
    stream.connect_ex((v4, 80))
    streams.append(stream)
import select
poll, states, end = select.poll(), {'open': 0, 'refused': 0}, time.monotonic() + 60
waiting = {stream.fileno(): stream for stream in streams}
for number in waiting:
    poll.register(number, select.POLLOUT)
while waiting and time.monotonic() < end:
    for number, _ in poll.poll(1000):
        poll.unregister(number)
        failed = waiting.pop(number).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        states['refused' if failed else 'open'] += 1
seen['states'] = states | {'waiting': len(waiting)}
for stream in streams:
    stream.close()
for attempt in range(30):
    seen['after sockets'] = status('https://api.example.com/')
    if seen['after sockets'] == '200':
        break
    time.sleep(0.5)
for number in range(20000):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(question(f'n{number}.example.com', 1), (GATEWAY, 53))
seen['after questions'] = status('https://api.example.com/')
",
    );
    let flags = ["--privileged", "--allow-host", API, "--memory", "768"];
    let seen = lab.python(&flags, &program, &[]);
    for step in ["after SYNs", "after sockets", "after questions"] {
        assert_eq!(seen[step], "200", "{seen}");
    }
    let open = seen["states"]["open"].as_u64().expect("a number");
    assert!((1..=2048).contains(&open), "{seen}");
    assert_eq!(lab.dns.received().iter().filter(|asked| asked.name != API).count(), 0);
}

fn a_relay_in_the_guest_gets_no_more_than_its_parent() {
    let lab = NetLab::shared(&["--allow-host", API], &[API, EVIL]);
    let origin = lab.address.to_string();
    let seen = lab.python(
        &["--allow-host", API],
        r"
import threading

def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve(client):
    head = b''
    while b'\r\n\r\n' not in head:
        head += client.recv(4096)
    host, _, port = head.split()[1].decode().rpartition(':')
    try:
        upstream = socket.create_connection((host, int(port)), 10)
    except OSError:
        client.sendall(b'HTTP/1.1 502 No\r\n\r\n')
        return client.close()
    client.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
    threading.Thread(target=pump, args=(client, upstream), daemon=True).start()
    pump(upstream, client)

listener = socket.create_server(('127.0.0.1', 3128))

def relay():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

threading.Thread(target=relay, daemon=True).start()
proxy = ['-x', 'http://127.0.0.1:3128', '--http1.1']
origin = sys.argv[1]
seen['allowed'] = status('https://api.example.com/', *proxy)
seen['other'] = status('https://evil.example.net/', *proxy)
seen['real address'] = status(f'https://{origin}/', *proxy)
seen['metadata'] = status('http://169.254.169.254/', '-p', *proxy)
seen['other inside'] = status('https://evil.example.net/', '--connect-to',
                              'evil.example.net:443:api.example.com:443', *proxy)
seen['DNS over HTTPS'] = status('https://evil.example.net/', '--doh-url', 'https://8.8.8.8/dns-query')
seen['other Host'] = status('https://api.example.com/', '-H', 'Host: evil.example.net', *proxy)
",
        &[&origin],
    );
    assert_eq!(seen["allowed"], "200", "{seen}");
    for name in ["other", "real address", "metadata"] {
        assert_eq!(seen[name], "curl 56", "{seen}");
    }
    assert_eq!(seen["other inside"], "curl 35", "{seen}");
    assert_eq!(seen["DNS over HTTPS"], "curl 6", "{seen}");
    assert_eq!(seen["other Host"], "421", "{seen}");
    assert_eq!(lab.origin.requests().len(), 1);
    assert!(lab.dns.received().iter().all(|asked| asked.name == API));
}

fn what_was_refused_is_told_in_every_place() {
    let lab = NetLab::new();
    let script = format!("curl -sS https://{EVIL}/; curl -sS http://169.254.169.254/; exit 3");
    let told = lab.finish(&["--json"], &script).expect(3);
    let err = told.err();
    let object: Value = serde_json::from_str(err.lines().last().expect("a line")).expect("JSON");
    let refused = object["refused"].as_array().expect("an array");
    let entry = |host: &str| refused.iter().find(|entry| entry["host"] == host).expect("told");
    assert_eq!(entry(EVIL)["allow_with"], format!("--allow-host {EVIL}"));
    assert_eq!(entry("169.254.169.254")["port"], 80);
    assert!(!err.contains("refused: "), "no terminal, no line for people: {err}");
    let denied = |kind| lab.events(kind).iter().any(|event| event["decision"] == "denied");
    assert!(denied("dns") && denied("flow_open"));

    let again = NetLab::new();
    let mut pty = Pty::new(24, 200);
    let running = again.sh(&["-it"], &script).spawn_on(&pty);
    let shown = pty.wait_for("refused: ", PATIENCE);
    running.finish(PATIENCE).expect(3);
    drop(shown);
    let shown = pty.wait_for("--allow-host", PATIENCE);
    let lines = shown.lines().filter(|line| line.contains("refused: ")).collect::<Vec<_>>();
    assert_eq!(lines.len(), 1, "{shown}");
    assert!(lines[0].contains(&format!("{EVIL} (--allow-host {EVIL})")), "{shown}");
    assert!(lines[0].contains("169.254.169.254:80"), "{shown}");
}

fn without_a_network_there_is_no_device() {
    let lab = NetLab::new();
    let lines = "ls /sys/class/net; cat /proc/net/route | wc -l; curl -sS http://1.1.1.1/; echo $?";
    let out = lab.lab().run(&["--no-network"], &["sh", "-c", lines]).finish().expect(0).out();
    assert_eq!(out, "lo\n1\n7\n");
    assert_eq!(lab.origin.connections(), 0);
}
