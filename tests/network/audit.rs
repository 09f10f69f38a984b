//! The audit trail of a network: complete, whole, and out of the guest's reach.

use std::fs;
use std::path::Path;

use matchlock_testkit::{PATIENCE, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::lab::{API, EVIL, H2, NetLab};

cases![
    everything_is_recorded_with_its_decision_and_rule,
    a_flood_of_requests_is_recorded_to_the_last,
    nothing_that_the_guest_says_ends_a_line,
    every_change_to_a_trail_is_found,
    a_killed_supervisor_leaves_a_trail_that_verifies,
    a_trail_that_cannot_be_written_stops_the_traffic,
    the_guest_neither_sees_nor_reaches_the_trail,
];

/// Runs `audit verify` on a file.
fn verify(lab: &NetLab, file: &Path) -> matchlock_testkit::Finished {
    lab.lab().matchlock(&["audit", "verify", &file.display().to_string()]).finish()
}

fn everything_is_recorded_with_its_decision_and_rule() {
    let lab = NetLab::new();
    let seen = lab.python(
        &["--allow-host", API, "--secret", "KEY=the-value-of-it@api.example.com"],
        r"
key = os.environ['KEY']
seen['ok'] = status('https://api.example.com/ok?q=1', '-H', f'X: {key}')
seen['post'] = status('https://api.example.com/upload', '-d', 'x' * 1000)
seen['plain'] = status('http://api.example.com/plain')
seen['missing'] = status('https://api.example.com/status/404')
seen['misdirected'] = status('https://api.example.com/no', '-H', 'Host: evil.example.net')
seen['name'] = status('https://evil.example.net/')
seen['address'] = status('https://1.1.1.1/')
seen['udp'] = udp('8.8.8.8', 53)
seen['sni'] = outcome(lambda: tls('api.example.com', 443, 'evil.example.net') and 'open')
seen['port'] = tcp('api.example.com', 4444)
def malformed():
    stream = connect('api.example.com', 80)
    stream.sendall(b'GET / HTTP/1.1\r\nA : b\r\n\r\n')
    return read_all(stream)[9:12].decode()

seen['malformed'] = outcome(malformed)
",
        &[],
    );
    assert_eq!((&seen["ok"], &seen["misdirected"]), (&json!("200"), &json!("421")), "{seen}");
    let trail = lab.audit();
    let kinds: Vec<&str> = trail.iter().filter_map(|record| record["event"].as_str()).collect();
    assert_eq!((kinds[0], *kinds.last().expect("one")), ("start", "end"));
    for (number, record) in trail.iter().enumerate() {
        assert_eq!(record["seq"], number, "{record}");
        assert!(record["time"].is_string() && record["sandbox"] == trail[0]["sandbox"], "{record}");
        let decided = ["dns", "flow_open", "request"].contains(&kinds[number]);
        let rule = record["rule"].as_str().is_some_and(|rule| !rule.is_empty());
        assert!(!decided || (record["decision"].is_string() && rule), "{record}");
    }
    assert_eq!(kinds.iter().filter(|kind| **kind == "exec").count(), 1);
    let requests = lab.events("request");
    let shown: Vec<_> = requests
        .iter()
        .map(|r| format!("{} {} {} {}", r["method"], r["scheme"], r["path"], r["decision"]))
        .map(|line| line.replace('"', ""))
        .collect();
    assert_eq!(
        shown[..5],
        [
            "GET https /ok?q=1 allowed",
            "POST https /upload allowed",
            "GET http /plain allowed",
            "GET https /status/404 allowed",
            "GET https /no denied",
        ]
    );
    assert_eq!(shown.len(), 6, "and the malformed one: {shown:?}");
    assert_eq!(requests[0]["rule"], "allow-host api.example.com");
    assert_eq!(requests[5]["rule"], "strict HTTP");
    let responses = lab.events("response");
    let statuses: Vec<_> = responses.iter().map(|response| response["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 200, 404, 421, 400]);
    assert_eq!(responses[1]["bytes_up"], 1000);
    let flows = lab.events("flow_open");
    let flow = |test: &dyn Fn(&&Value) -> bool| flows.iter().find(test).expect("recorded").clone();
    assert_eq!(flow(&|f| f["address"] == "1.1.1.1")["decision"], "denied");
    assert_eq!(flow(&|f| f["protocol"] == "udp")["decision"], "denied");
    assert_eq!(flow(&|f| f["port"] == 4444)["decision"], "allowed");
    assert!(lab.events("upstream_failed").iter().any(|failed| failed["port"] == 4444));
    assert!(lab.events("flow_refused").iter().any(|refused| refused["sni"] == EVIL));
    let opened = flows.iter().filter(|flow| flow["decision"] == "allowed").count();
    assert_eq!(lab.events("flow_close").len(), opened, "each that opened is closed");
}

fn a_flood_of_requests_is_recorded_to_the_last() {
    const EACH: usize = 1000;
    let lab = NetLab::new();
    let program = format!(
        "{H2}{}",
        r"
count = int(sys.argv[1])
stream = connect('api.example.com', 80)
batch = b''.join(f'GET /h1/{n} HTTP/1.1\r\nHost: api.example.com\r\n\r\n'.encode() for n in range(count))
import threading
threading.Thread(target=stream.sendall, args=(batch,), daemon=True).start()
got, end = b'', time.monotonic() + 100
while got.count(b'HTTP/1.1 200') < count and time.monotonic() < end:
    got += stream.recv(65536)
seen['h1'] = got.count(b'HTTP/1.1 200')
session = h2('api.example.com', 'api.example.com')
ok = 0
for n in range(count):
    session.get(2 * n + 1, 'api.example.com', f'/h2/{n}')
    if n >= 20:
        ok += session.answer(2 * (n - 20) + 1) == '200'
for n in range(count - 20, count):
    ok += session.answer(2 * n + 1) == '200'
seen['h2'] = ok
"
    );
    let seen = lab.python(&["--allow-host", API], &program, &[&EACH.to_string()]);
    assert_eq!(seen, json!({"h1": EACH, "h2": EACH}));
    assert_eq!(lab.origin.requests().len(), 2 * EACH);
    let paths: std::collections::BTreeSet<_> =
        lab.events("request").iter().map(|request| request["path"].to_string()).collect();
    assert_eq!(paths.len(), 2 * EACH);
    assert_eq!(lab.events("response").len(), 2 * EACH);
    let end = lab.audit().pop().expect("records");
    assert_eq!((&end["event"], &end["requests"]), (&json!("end"), &json!(2 * EACH)));
    verify(&lab, &lab.path("audit.jsonl")).expect(0);
}

fn nothing_that_the_guest_says_ends_a_line() {
    let lab = NetLab::new();
    let seen = lab.python(
        &["--allow-host", API],
        r#"
forged = '{"seq":99,"event":"request","decision":"allowed"}'
odd = [f'\n{forged}\n', f'\r\n{forged}', '\x1b[2J\x1b]0;title\x07', '\u2028' + forged, '\u202e', '\x85', '\0', '"', '\\']
for text in odd:
    raw = text.encode()
    label = raw[:60]
    wire = bytes([len(label)]) + label + b'\x04evil\x00'
    ask('', raw=struct.pack('>6H', 9, 0x0100, 1, 0, 0, 0) + wire + struct.pack('>2H', 1, 1))
    for request in (b'GET /' + raw + b' HTTP/1.1\r\nHost: api.example.com\r\n\r\n',
                    b'GET / HTTP/1.1\r\nHost: ' + raw + b'\r\n\r\n',
                    raw.replace(b'\n', b'') + b' / HTTP/1.1\r\nHost: api.example.com\r\n\r\n',
                    b'GET /%0a%1b%E2%80%A8\xff\xfe HTTP/1.1\r\nHost: api.example.com\r\n\r\n'):
        stream = connect('api.example.com', 80)
        try:
            stream.sendall(request)
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # Refused before it was whole.
        read_all(stream, 5)
    stream = connect('api.example.com', 443)
    name = raw[:200]
    names = struct.pack('>BH', 0, len(name)) + name
    names = struct.pack('>H', len(names)) + names
    body = b'\x03\x03' + bytes(32) + b'\0' + bytes.fromhex('000213010100')
    body += struct.pack('>H', len(names) + 4) + struct.pack('>HH', 0, len(names)) + names
    body = b'\x01' + len(body).to_bytes(3) + body
    stream.sendall(struct.pack('>BHH', 22, 0x0301, len(body)) + body)
    read_all(stream, 5)
seen['done'] = True
"#,
        &["\n{\"seq\":1}\n", "\u{2028}", "\u{1b}[2J"],
    );
    assert_eq!(seen["done"], true);
    let trail = fs::read(lab.path("audit.jsonl")).expect("read");
    let odd = trail.iter().find(|byte| !matches!(byte, b'\n' | 0x20..=0x7e));
    assert_eq!(odd, None, "printable ASCII only");
    for (number, record) in lab.audit().iter().enumerate() {
        assert_eq!(record["seq"], number, "{record}");
    }
    assert!(lab.events("request").len() >= 27);
    verify(&lab, &lab.path("audit.jsonl")).expect(0);
    // Bytes of no text at all, in the arguments.
    let trail = lab.path("more.jsonl");
    let log = format!("--audit-log={}", trail.display());
    let script = "set -- \"$(printf '\\377\\n\\033[2J')\"; exec true";
    lab.lab().run(&[&log, "--no-network"], &["sh", "-c", script]).finish().expect(0);
    verify(&lab, &trail).expect(0);
}

fn every_change_to_a_trail_is_found() {
    let lab = NetLab::new();
    lab.finish(&[], &format!("curl -sS https://{EVIL}/; curl -sS http://1.1.1.1/; true")).expect(0);
    let path = lab.path("audit.jsonl");
    let text = fs::read_to_string(&path).expect("read");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert!(lines.len() > 6, "{text}");
    let changed = lab.path("changed.jsonl");
    let broken = |what: &str, text: &[u8]| {
        fs::write(&changed, text).expect("written");
        let verdict = verify(&lab, &changed);
        assert_eq!(verdict.code(), 1, "{what}: {}", verdict.out());
        assert!(verdict.err().contains("line "), "{what}: {}", verdict.err());
    };
    for line in 0..lines.len() - 1 {
        let without: String =
            lines.iter().enumerate().filter(|(n, _)| *n != line).map(|(_, l)| *l).collect();
        broken(&format!("line {line} removed"), without.as_bytes());
        let mut moved = lines.clone();
        moved.swap(line, line + 1);
        broken(&format!("line {line} moved"), moved.concat().as_bytes());
        let mut twice = lines.clone();
        twice.insert(line, lines[line]);
        broken(&format!("line {line} twice"), twice.concat().as_bytes());
    }
    broken("denied is allowed", text.replacen("denied", "allowed", 1).as_bytes());
    broken("another name", text.replacen(EVIL, "good.example.net", 1).as_bytes());
    broken("cut off", &text.as_bytes()[..text.len() - 9]);
    broken("without its last line end", &text.as_bytes()[..text.len() - 1]);
    broken("empty", b"");
    broken("more behind", format!("{text}{}", lines[2]).as_bytes());
    broken("blank line", format!("{text}\n").as_bytes());
    let mut bytes = text.clone().into_bytes();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        bytes[at] ^= 1;
        broken(&format!("byte {at}"), &bytes);
        bytes[at] ^= 1;
    }
    fs::write(&changed, bytes).expect("written");
    verify(&lab, &changed).expect(0);
    let cut = lines[..lines.len() - 1].concat();
    fs::write(&changed, cut).expect("written");
    assert!(verify(&lab, &changed).expect(0).err().contains("no end record"), "its end is missed");
}

fn a_killed_supervisor_leaves_a_trail_that_verifies() {
    let lab = NetLab::new();
    let script = format!("while :; do curl -sS --http1.1 -o /dev/null http://{API}/; done");
    let running = lab.sh(&["--allow-host", API], &script).spawn();
    wait_until("some requests", PATIENCE, || (lab.origin.requests().len() > 3).then_some(()));
    running.signal(Signal::KILL);
    let finished = running.finish(PATIENCE);
    assert_eq!(finished.code(), -1);
    let arrived = lab.origin.requests().len();
    let path = lab.path("audit.jsonl");
    let verdict = verify(&lab, &path);
    let text = fs::read_to_string(&path).expect("read");
    let whole = text.ends_with('\n');
    assert_eq!(verdict.code(), i32::from(!whole), "{}", verdict.err());
    let intact: Vec<Value> =
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
    let recorded = intact.iter().filter(|record| record["event"] == "request").count();
    assert!(
        recorded >= arrived,
        "{recorded} of {arrived}: a request is recorded before it is sent"
    );
    // What the dead one left behind is removed by the next.
    lab.lab().run(&["--no-network"], &["true"]).finish().expect(0);
}

fn a_trail_that_cannot_be_written_stops_the_traffic() {
    let lab = NetLab::new();
    let script = format!(
        "failed=0; while [ $failed -lt 3 ]; do curl -sS --http1.1 --max-time 2 -o /dev/null \
         http://{API}/ || failed=$((failed + 1)); done; echo end"
    );
    let running = lab.sh(&["--allow-host", API], &script).spawn();
    wait_until("some requests", PATIENCE, || (lab.origin.requests().len() > 3).then_some(()));
    // From now on the file may grow by little.
    let size = fs::metadata(lab.path("audit.jsonl")).expect("there").len() + 5000;
    let limit = [format!("--pid={}", running.pid()), format!("--fsize={size}")];
    let limited = std::process::Command::new("prlimit").args(&limit).status();
    assert!(limited.expect("prlimit runs").success());
    let finished = running.finish(PATIENCE);
    let (out, err) = (finished.out(), finished.err());
    let arrived = lab.origin.requests().len();
    assert!(arrived < 100, "{arrived}: {out} {err}");
    let text = fs::read_to_string(lab.path("audit.jsonl")).expect("read");
    assert!(text.len() as u64 <= size);
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let recorded = records.filter(|record| record["event"] == "request").count();
    assert!(recorded >= arrived, "no request without its record: {recorded} of {arrived}");
    assert!(finished.code() > 0, "the loss is told: {:?} {err}", finished.status);
    assert!(err.contains("audit"), "{err}");

    let full = lab.lab().run(&["--audit-log", "/dev/full"], &["true"]).finish();
    assert_ne!(full.code(), 0);
    assert!(full.err().contains("/dev/full"), "{}", full.err());
}

fn the_guest_neither_sees_nor_reaches_the_trail() {
    let lab = NetLab::new();
    let path = lab.path("audit.jsonl").display().to_string();
    let own = lab.home().display().to_string();
    let script = format!(
        "ls -d {path} {own}; find /tmp /run /var /root /home /mnt /srv /dev -name '*.jsonl' -newermt 2026-01-01 2>/dev/null; \
         echo forged > {path}; ls /proc/*/fd/* -l 2>/dev/null | grep -c jsonl; \
         grep -c . /proc/mounts > /dev/null; exit 0"
    );
    let out = lab.finish(&["--privileged"], &script).expect(0);
    assert_eq!(out.out(), "0\n", "{}", out.err());
    let text = fs::read_to_string(&path).expect("read");
    assert!(!text.lines().any(|line| line == "forged"));
    verify(&lab, Path::new(&path)).expect(0);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
}
